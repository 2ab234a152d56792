"""The process that MPI starts: `python -m mpi4py -m penstock.compute.rank`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

import zmq

from .cancels import Cancels
from .collective import Member
from .frames import Frame, Kind
from .leftovers import take_names_away
from .lines import print_whole_lines
from .links import Links
from .master import Master
from .memory import keep_freed_memory
from .nursery import Nursery, NurseryGone
from .orphans import die_with_parent
from .settings import WorldSettings
from .slots import Slots
from .task import Task, tasks_of_queue
from .worker import Worker


class Rank:
    """One loop: what MPI brought, what the helper answered, and on rank 0 what the runner wants."""

    def __init__(self, links: Links, worker: Worker, member: Member, settings: WorldSettings, cancels: Cancels) -> None:
        self._links = links
        self._worker = worker
        self._member = member
        self._master = Master(links, settings, cancels, self._take) if links.rank == 0 else None
        self._stopping = False
        self._poller = zmq.Poller()
        self._poller.register(links.ear, zmq.POLLIN)
        if self._master is not None:
            self._poller.register(self._master.runner, zmq.POLLIN)

    def run(self) -> None:
        """Until the runner says stop."""
        pids = self._links.gather((os.getpid(), self._worker.pid))
        if self._master is not None:
            assert pids is not None
            self._master.say_ready(pids)
        while not self._stopping:
            heard = self._turn_of_links()
            self._wait(0 if heard else self._wait_ms())
            self._worker.enforce_limit()
            self._member.enforce_over()
        if self._master is not None:
            self._master.close()

    def tell(self, frame: Frame) -> None:
        """To rank 0."""
        if self._master is not None:
            self._master.hear_rank(frame)
        else:
            self._links.send(0, frame)

    def _turn_of_links(self) -> bool:
        heard = self._links.receive()
        for frame in heard:
            if self._master is not None:
                self._master.hear_rank(frame)
            else:
                self._take(frame)
        if self._master is not None:
            self._master.dispatch()
        return bool(heard)

    def _take(self, frame: Frame) -> None:
        """Something for this rank to do."""
        match frame.kind:
            case Kind.JOBS:
                self._worker.take(frame)
            case Kind.KILL:
                self._worker.kill(frame.batch, frame.first)
            case Kind.COLLECTIVE:
                self.tell(self._member.run(frame))
            case Kind.OVER:
                self._member.over(frame)
            case Kind.STOP:
                self._stopping = True
            case _:
                raise AssertionError(f"rank 0 sent {frame.kind!r}")

    def _wait(self, wait_ms: int) -> None:
        helper = self._worker.fileno()
        self._poller.register(helper, zmq.POLLIN)
        ready = dict(self._poller.poll(wait_ms))
        self._poller.unregister(helper)  # it may be another one next time
        if self._links.ear in ready:
            self._links.hush()
        if helper in ready:
            self._worker.read()
        if self._master is not None and self._master.runner in ready:
            self._master.hear_runner()
            self._stopping = self._master.stopping

    def _wait_ms(self) -> int:
        limits_s = [each for each in (self._worker.wait_s(), self._member.wait_s()) if each is not None]
        return min([self._links.wait_ms(), *(int(each * 1000) + 1 for each in limits_s)])


def main() -> None:
    die_with_parent()
    print_whole_lines()
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor, which ends us in order
    settings = WorldSettings.from_environment()
    nursery = Nursery()
    from mpi4py import MPI  # initialises MPI: the clean process must be older

    take_names_away(MPI)
    sys.path[:] = settings.search
    collective = any(traits.width for traits in settings.traits.values())
    tasks: Mapping[str, Task[..., Any]] = tasks_of_queue(settings.module, settings.queue) if collective else {}
    links = Links(MPI, settings.folder)
    slots, cancels = Slots(settings.slots, settings.ranks), Cancels(settings.cancels)
    rank: Rank | None = None

    def tell(frame: Frame) -> None:
        assert rank is not None, frame  # a worker speaks only after it was given something
        rank.tell(frame)

    try:
        worker = Worker(links.rank, nursery, slots, cancels, tell)
        member = Member(MPI, links, slots, cancels, tasks, settings.last_word, settings.home, tell)
        rank = Rank(links, worker, member, settings, cancels)
        rank.run()
    except NurseryGone:
        sys.stderr.write(f"rank {links.rank}: its helper processes cannot be started\n")
        sys.stderr.flush()
        MPI.COMM_WORLD.Abort(1)
        os._exit(1)  # the launcher takes a moment
    worker.close()
    nursery.close()
    links.close()


if __name__ == "__main__":
    main()
