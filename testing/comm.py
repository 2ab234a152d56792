"""A communicator of one rank, for tasks that several ranks call: what mpi4py's does where there is only one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class LoneComm:
    """Stands in for an MPI communicator of size 1. What needs a second rank, as `send` does, it does not have.

    Lower-case methods take any value, and give back a copy of it as one that travelled is; upper-case ones take numpy
    arrays, or (array, ...) as mpi4py has them; a send buffer that is no array, as MPI.IN_PLACE, leaves what is there.
    """

    rank = 0
    size = 1

    def Get_rank(self) -> int:
        return 0

    def Get_size(self) -> int:
        return 1

    # -- values -------------------------------------------------------------------------------------------------------

    def bcast(self, value: Any, root: int = 0) -> Any:
        return value

    def scatter(self, values: Sequence[Any], root: int = 0) -> Any:
        if len(values) != 1:
            raise ValueError(f"scatter of {len(values)} values over 1 rank")
        return copy.deepcopy(values[0])

    def gather(self, value: Any, root: int = 0) -> list[Any]:
        return [copy.deepcopy(value)]

    def allgather(self, value: Any) -> list[Any]:
        return [copy.deepcopy(value)]

    def alltoall(self, values: Sequence[Any]) -> list[Any]:
        return [self.scatter(values)]

    def reduce(self, value: Any, op: Callable[[Any, Any], Any] | None = None, root: int = 0) -> Any:
        return copy.deepcopy(value)

    def allreduce(self, value: Any, op: Callable[[Any, Any], Any] | None = None) -> Any:
        return copy.deepcopy(value)

    def scan(self, value: Any, op: Callable[[Any, Any], Any] | None = None) -> Any:
        return copy.deepcopy(value)

    def barrier(self) -> None:
        """There is nobody to wait for."""

    # -- buffers ------------------------------------------------------------------------------------------------------

    def Bcast(self, buffer: Any, root: int = 0) -> None:
        """It is everywhere."""

    def Scatter(self, send: Any, receive: Any, root: int = 0) -> None:
        _copy(send, receive)

    def Gather(self, send: Any, receive: Any, root: int = 0) -> None:
        _copy(send, receive)

    def Allgather(self, send: Any, receive: Any) -> None:
        _copy(send, receive)

    def Gatherv(self, send: Any, receive: Any, root: int = 0) -> None:
        _copy(send, receive)

    def Scatterv(self, send: Any, receive: Any, root: int = 0) -> None:
        _copy(send, receive)

    def Allgatherv(self, send: Any, receive: Any) -> None:
        _copy(send, receive)

    def Reduce(self, send: Any, receive: Any, op: Any = None, root: int = 0) -> None:
        _copy(send, receive)

    def Allreduce(self, send: Any, receive: Any, op: Any = None) -> None:
        _copy(send, receive)

    def Barrier(self) -> None:
        """There is nobody to wait for."""

    # -- communicators ------------------------------------------------------------------------------------------------

    def Split(self, color: int = 0, key: int = 0) -> LoneComm:
        return LoneComm()

    def Dup(self) -> LoneComm:
        return LoneComm()

    def Free(self) -> None:
        """There is nothing to free."""


def _copy(send: Any, receive: Any) -> None:
    source, target = _array(send), _array(receive)
    if source is not None and target is not None:  # else in place: it is there
        flat = target.reshape(-1)
        flat[: source.size] = source.reshape(-1)


def _array(buffer: Any) -> np.ndarray[Any, Any] | None:
    found = buffer[0] if isinstance(buffer, list | tuple) else buffer
    return found if isinstance(found, np.ndarray) else None
