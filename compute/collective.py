"""Collective jobs: one function on several ranks at once, with a communicator of just these ranks."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..peers.errors import InvalidArgument
from .cancels import Cancels
from .current import Home, running
from .faults import fault_of
from .frames import Fault, Frame, Kind, pack, pack_results, unpack
from .helper import arguments_of, packed
from .lines import print_the_rest
from .links import Links
from .notes import Notes
from .slots import Slots, member_slot
from .task import Task
from .telling import ListeningVoice, Teller

OVER_S = 2.0  # a member that raised waits this long for the others; they may be stuck in a call that needs it
_GROUP_TAG = 2


class _Failed(NamedTuple):
    """A collective job in which this rank failed, and until when the others may take to end it."""

    frame: Frame
    fault: Fault
    deadline_s: float


class Member:
    """This rank's part in collective jobs. They run in the rank itself: a helper has no MPI."""

    def __init__(
        self,
        mpi: Any,
        links: Links,
        slots: Slots,
        cancels: Cancels,
        tasks: Mapping[str, Task[..., Any]],
        last_word: Path,
        home: Home,
        tell: Callable[[Frame], None],
    ) -> None:
        self._home = home
        self._mpi = mpi
        self._links = links
        self._slots = slots
        self._cancels = cancels
        self._teller = Teller(tell, cancels, by_timer=False)  # MPI is for one thread only
        self._tasks = tasks
        self._last_word = last_word
        self._communicators: dict[tuple[int, ...], Any] = {}
        self._failed: _Failed | None = None

    def run(self, frame: Frame) -> Frame:
        """Run the job; the frame that says how this rank's part ended."""
        name, bodies, notes, ranks, keep = unpack(frame.payload)
        began = time.perf_counter()
        rank = self._links.rank
        self._slots.mark(member_slot(rank), frame.batch, frame.first, 1)
        comm = self._communicator(tuple(ranks))
        results: list[bytes | None] = [None]
        faults: list[Fault] = []
        try:
            first = comm.Get_rank() == 0
            voice = self._teller.voice(frame.batch) if first else ListeningVoice(self._cancels, frame.batch)
            with running(self._home, tuple(Notes(*notes).each()), voice, frame.first):
                results = [self._call(self._tasks[name], comm, bodies[0])]
        except BaseException as error:
            faults = [Fault(frame.first, fault_of(error, rank), final=isinstance(error, InvalidArgument))]
            self._failed = _Failed(frame, faults[0], time.monotonic() + OVER_S)
        self._teller.flush()
        print_the_rest()
        self._slots.clear(member_slot(rank))
        if not keep and not faults:
            self._forget(tuple(ranks))
        seconds = time.perf_counter() - began
        return frame._replace(kind=Kind.MEMBER, rank=rank, seconds=seconds, payload=pack_results(results, faults))

    def over(self, frame: Frame) -> None:
        """All members have ended. Messages of the failed job may still be under way: no later job may get them."""
        self._failed = None
        self._forget(tuple(unpack(frame.payload)))

    def wait_s(self) -> float | None:
        return None if self._failed is None else max(0.0, self._failed.deadline_s - time.monotonic())

    def enforce_over(self) -> None:
        """End the whole world if this rank failed and the others do not end: they are stuck in a call that needs it."""
        if self._failed is None or time.monotonic() < self._failed.deadline_s:
            return
        sys.stderr.write(f"rank {self._links.rank}: failed in a collective job that the others cannot end: aborting\n")
        sys.stderr.flush()
        frame, fault, _ = self._failed
        draft = self._last_word.with_suffix(f".{self._links.rank}")
        draft.write_bytes(pack([frame.batch, frame.first, fault.error, fault.final]))
        os.replace(draft, self._last_word)  # the supervisor finds here which job it was, and why
        self._mpi.COMM_WORLD.Abort(1)

    def _forget(self, ranks: tuple[int, ...]) -> None:
        comm = self._communicators.pop(ranks, None)
        if comm is not None:
            comm.Free()

    def _call(self, task: Task[..., Any], comm: Any, body: bytes) -> bytes | None:
        arguments = arguments_of(body)
        task.check(arguments)
        result = task.function(comm, **arguments)
        return packed(result, self._home) if comm.Get_rank() == 0 else None

    def _communicator(self, ranks: tuple[int, ...]) -> Any:
        comm = self._communicators.get(ranks)
        if comm is None:
            world = self._mpi.COMM_WORLD
            group = world.Get_group().Incl(ranks)
            comm = self._communicators[ranks] = world.Create_group(group, _GROUP_TAG)
            group.Free()
        return comm
