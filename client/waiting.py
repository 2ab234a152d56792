"""What waits in its thread."""

from __future__ import annotations

from typing import TypeVar

from .channel import Consistency
from .connection import Connection
from .steps import Steps

T = TypeVar("T")


class Waiting:
    """Its methods return when their steps are over.

    A public method either does something at once, or is `return self._run(steps)`: so `awaited` can make one of it that
    is awaited, of the same name, parameters and docstring.
    """

    __slots__ = ()
    _connection: Connection

    def _run(self, steps: Steps[T], consistency: Consistency = "primary") -> T:
        return self._connection.reader(consistency).run(steps)
