"""What the end of a `with` does to a client, a producer or a consumer."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from ..peers.errors import PenstockError

log = logging.getLogger("penstock")


class Closing(ABC):
    """Is closed when its `with` ends."""

    @abstractmethod
    def close(self) -> None:
        """Finish what is under way, then end. Raises the first error of that; it is closed in any case."""

    @abstractmethod
    def _name(self) -> str:
        """What it is called in the log."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except PenstockError as fault:
            raise_or_log(fault, error, self._name())


def raise_or_log(fault: PenstockError, error: BaseException | None, name: str) -> None:
    """What to do with a fault of closing: the error under way is the better story, and this one must not hide it."""
    if error is None:
        raise fault
    log.warning("closing %s: %s", name, fault)
