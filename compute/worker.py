"""One rank's hands: a helper process, the chunks that wait for it, and what becomes of them when it dies."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable

from .cancels import Cancels
from .faults import cancelled, died, pack_fault, words_of_status
from .frames import Fault, Frame, Kind, pack_jobs, pack_results, read, unpack_jobs, write
from .nursery import Newborn, Nursery
from .slots import Running, Slots, helper_slot

DEATHS_MAX = 3  # of helpers in a row that were given nothing: then it is not the jobs


class Worker:
    """Feeds the helper, reads its results, kills it at a time limit, replaces it when it is dead."""

    def __init__(
        self, rank: int, nursery: Nursery, slots: Slots, cancels: Cancels, send: Callable[[Frame], None]
    ) -> None:
        self._rank = rank
        self._nursery = nursery
        self._slots = slots
        self._cancels = cancels
        self._slot = helper_slot(rank)
        self._send = send
        self._queue: deque[Frame] = deque()
        self._current: Frame | None = None
        self._next = 0  # place of the first job of the current frame that has not been answered
        self._limit_ns: int | None = None
        self._killed: Running | None = None  # by us, and for this
        self._why_killed: bytes = b""  # a packed error
        self._deaths = 0
        self._helper: Newborn = nursery.fork(rank)

    @property
    def pid(self) -> int:
        return self._helper.pid

    def fileno(self) -> int:
        return self._helper.stream.fileno()

    def take(self, frame: Frame) -> None:
        """Jobs for this rank: run them when those before have ended."""
        self._queue.append(frame)
        self._feed()

    def read(self) -> None:
        """The helper's stream has something: results, or its end."""
        frame = read(self._helper.stream)
        if frame is None:
            self._bury()
        elif frame.kind is Kind.TOLD:
            self._send(frame)
        else:
            self._answer(frame)
        self._feed()

    def wait_s(self) -> float | None:
        """How long until the time limit must be looked at; None: no limit runs."""
        running = self._limited()
        if running is None or self._limit_ns is None:
            return None
        return max(0.0, (running.started_ns + self._limit_ns - time.monotonic_ns()) / 1e9)

    def enforce_limit(self) -> None:
        """Kill the helper if its job runs for too long. Its end is then read like any other."""
        running = self._limited()
        if running is None or self._limit_ns is None or time.monotonic_ns() - running.started_ns < self._limit_ns:
            return
        limit_s = self._limit_ns / 1e9
        message = f"the job ran longer than its time limit of {limit_s:g} s and was killed"
        self._kill(running, pack_fault("Timeout", message, self._rank))

    def kill(self, batch: int, place: int) -> None:
        """Kill the helper if it is at this job, which was cancelled. One call for several jobs: if all of them were."""
        running = self._slots.read(self._slot)
        if self._killed is not None or running is None or self._suspect(running) is None or running.batch != batch:
            return
        places = range(running.first, running.first + running.size)
        if place in places and all(self._cancels.holds(batch, each) for each in places):
            self._kill(running, cancelled(self._rank))

    def close(self) -> None:
        self._helper.stream.close()

    def _limited(self) -> Running | None:
        if self._limit_ns is None or self._current is None or self._killed is not None:
            return None
        return self._slots.read(self._slot)

    def _feed(self) -> None:
        if self._current is not None or not self._queue:
            return
        frame = self._current = self._queue.popleft()
        self._next = frame.first
        self._limit_ns = int(frame.seconds * 1e9) if frame.seconds else None
        try:
            write(self._helper.stream, frame)
        except (BrokenPipeError, ConnectionResetError):
            self._bury()
            self._feed()

    def _answer(self, frame: Frame) -> None:
        current = self._current
        assert current is not None, frame
        assert (frame.chunk, frame.batch, frame.first) == (current.chunk, current.batch, self._next), (frame, current)
        self._deaths = 0
        self._next += frame.size
        if self._next == current.first + current.size:
            self._current = None
        self._send(frame)

    def _bury(self) -> None:
        """The helper is dead: name the job that it died of, put the others back in line, and get another helper."""
        suspect = self._suspect(self._killed or self._slots.read(self._slot))
        why = self._why_killed if self._killed is not None else b""
        self._killed = None
        self._helper.stream.close()
        how = words_of_status(self._nursery.status_of(self._helper.pid))
        self._slots.clear(self._slot)
        if self._current is None or suspect is None:
            self._deaths += 1
            if self._deaths >= DEATHS_MAX:
                raise RuntimeError(f"the helper process of rank {self._rank} {how} {DEATHS_MAX} times without a job")
        self._helper = self._nursery.fork(self._rank)
        self._send(Frame(Kind.HELPER, rank=self._rank, payload=str(self._helper.pid).encode()))
        if self._current is not None:
            self._replan(self._current, suspect, why or died(how, self._rank))

    def _suspect(self, running: Running | None) -> Running | None:
        """What the dead helper was at; None if the slot tells of jobs that were answered before it died."""
        current = self._current
        if running is None or current is None or running.batch != current.batch:
            return None
        return running if self._next <= running.first < current.first + current.size else None

    def _replan(self, current: Frame, suspect: Running | None, error: bytes) -> None:
        self._current = None
        jobs = unpack_jobs(current.payload)

        def part(first: int, end: int, kind: Kind) -> Frame:
            cut = jobs.cut(first - current.first, end - current.first)
            return current._replace(kind=kind, first=first, size=len(cut.bodies), payload=pack_jobs(cut))

        end = current.first + current.size
        if suspect is None:
            again = [part(self._next, end, current.kind)]
        elif suspect.size > 1:  # one call for many jobs: each gets its own, and the culprit shows
            again = [part(self._next, end, Kind.ALONE)]
        else:
            again = [part(self._next, suspect.first, current.kind), part(suspect.first + 1, end, current.kind)]
            self._blame(current, suspect, error)
        self._queue.extendleft(frame for frame in reversed(again) if frame.size)

    def _blame(self, current: Frame, suspect: Running, error: bytes) -> None:
        seconds = (time.monotonic_ns() - suspect.started_ns) / 1e9
        payload = pack_results([None], [Fault(suspect.first, error)])
        self._send(Frame(Kind.RESULTS, current.chunk, current.batch, suspect.first, 1, self._rank, seconds, payload))

    def _kill(self, running: Running, why: bytes) -> None:
        time.sleep(0.001)  # the slot may have been half written: a job that really hangs is the same a moment later
        if self._slots.read(self._slot) != running:
            return
        self._killed, self._why_killed = running, why
        try:
            os.killpg(self._helper.pid, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(
                self._helper.pid, signal.SIGKILL
            )  # too young to lead a group; not reaped, so the pid is still its own
