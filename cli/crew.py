"""Worker processes of the benchmark: all are ready before the clock runs, none outlives us."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Barrier
from time import monotonic
from typing import Any, Final

from ..peers.errors import Timeout
from .exits import Refused
from .processes import end_with_parent

# spawn: a forked copy of a process that has threads and sockets would measure something else, or hang.
_CONTEXT: Final = multiprocessing.get_context("spawn")
READY_S: Final = 120.0  # 16 interpreters start at once on two cores

Ready = Callable[[], object]
Work = tuple[
    Callable[..., Any], tuple[Any, ...]
]  # called with (ready, *arguments); calls ready() once, when it could begin


def run_crew(crew: Sequence[Work], patience_s: float) -> list[Any]:
    """What each function of `crew` returns, each run in a process of its own; they pass `ready()` together.

    Raises Refused with the reason of the first that failed, Timeout if they took longer than `patience_s`.
    """
    barrier = _CONTEXT.Barrier(len(crew))
    members: list[tuple[SpawnProcess, Connection]] = []
    try:
        for function, arguments in crew:
            here, there = _CONTEXT.Pipe(duplex=False)
            process = _CONTEXT.Process(
                target=_work, args=(function, arguments, barrier, there, os.getpid()), daemon=True
            )
            process.start()
            there.close()
            members.append((process, here))
        return _gather([here for _, here in members], monotonic() + READY_S + patience_s)
    finally:
        for process, here in members:
            here.close()
            process.kill()
            process.join()


def _gather(ends: Sequence[Connection], deadline: float) -> list[Any]:
    """What came through each of `ends`, in their order."""
    answers: dict[Connection, Any] = {}
    failed = False
    while len(answers) < len(ends):
        told = wait([end for end in ends if end not in answers], timeout=max(0.0, deadline - monotonic()))
        if not told:
            raise Timeout("the workers of the benchmark did not end in time")
        for end in ends:
            if end in told:
                good, answers[end] = _receive(end)
                failed = failed or not good
                if not good and answers[end] is not None:  # None: it only waited for the one that failed
                    raise Refused(answers[end])
    if failed:
        raise Refused("the workers of the benchmark were not ready in time")
    return [answers[end] for end in ends]


def _receive(end: Connection) -> tuple[bool, Any]:
    try:
        good, value = end.recv()
    except EOFError:
        return False, "a worker of the benchmark died"
    return bool(good), value


def _work(
    function: Callable[..., Any], arguments: tuple[Any, ...], barrier: Barrier, end: Connection, parent: int
) -> None:
    from threading import BrokenBarrierError

    end_with_parent(parent)
    try:
        end.send((True, function(lambda: barrier.wait(READY_S), *arguments)))
    except BrokenBarrierError:
        end.send((False, None))
    except Exception as error:  # told in the parent, which ends the command with it
        barrier.abort()
        end.send((False, f"{type(error).__name__}: {error}"))
