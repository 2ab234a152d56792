"""The process that calls tasks: it may crash, hang or leak, and takes no more than its job with it."""

from __future__ import annotations

import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from ..peers.errors import InvalidArgument, ProtocolError
from ..peers.values import pack, unpack
from .cancels import Cancels
from .current import Home, Voice, running
from .faults import cancelled, fault_of
from .frames import Fault, Frame, Jobs, Kind, pack_results, read, unpack_jobs, write
from .lines import print_the_rest
from .slots import Slots, helper_slot
from .task import Task
from .telling import Teller

REPORT_S = 0.005  # results wait this long for company: what is lost with a helper, and done again, is no more than that


class Caller(ABC):
    """Calls tasks for jobs, catches what they raise, and packs what they return."""

    def __init__(self, rank: int, tasks: Mapping[str, Task[..., Any]], home: Home) -> None:
        self._home = home
        self._rank = rank
        self._tasks = tasks

    @abstractmethod
    def mark(self, batch: int, first: int, size: int) -> None:
        """These jobs run from now on."""

    @abstractmethod
    def report(self, frame: Frame) -> None:
        """The results of some of the jobs."""

    def voice(self, batch: int) -> Voice | None:
        """What the jobs of a batch speak with. None: nobody listens."""
        return None

    def cancelled(self, batch: int, place: int) -> bool:
        """Need this job not be run?"""
        return False

    def leading(self, task: Task[..., Any]) -> tuple[Any, ...]:
        """What a task is called with before the arguments of its job."""
        return ()

    def run(self, frame: Frame) -> None:
        """All jobs of a frame."""
        jobs = unpack_jobs(frame.payload)
        task = self._tasks[jobs.task]
        if task.batch and frame.kind is Kind.JOBS and not self._any_cancelled(frame):
            self._run_together(frame, task, jobs)
        else:
            self._run_each(frame, task, jobs)

    def _run_each(self, frame: Frame, task: Task[..., Any], jobs: Jobs) -> None:
        report = _Report(self, frame)
        call = self._call_batch_of_one if task.batch else self._call
        voice = self.voice(frame.batch)
        for place, (body, note) in enumerate(zip(jobs.bodies, jobs.notes.each(), strict=True), frame.first):
            self.mark(frame.batch, place, 1)  # first: who finds it marked and cancelled knows that it had begun
            if self.cancelled(frame.batch, place):
                report.add(Fault(place, cancelled(self._rank)))
                continue
            with running(self._home, (note,), voice, place):
                report.add(call(task, body, place))
        report.send()

    def _call(self, task: Task[..., Any], body: bytes, place: int) -> bytes | Fault:
        try:
            arguments = arguments_of(body)
            task.check(arguments)
            return packed(task.function(*self.leading(task), **arguments), self._home)
        except BaseException as error:  # SystemExit and the like are the job's fault too, and end the job only
            return self.fault(place, error)

    def _run_together(self, frame: Frame, task: Task[..., Any], jobs: Jobs) -> None:
        """All jobs in one call. If that raises, each gets a call of its own, so that only the culprit fails."""
        began = time.perf_counter()
        answers: list[Any] | None
        self.mark(frame.batch, frame.first, frame.size)
        try:
            maps = [arguments_of(body) for body in jobs.bodies]
            with running(self._home, tuple(jobs.notes.each()), self.voice(frame.batch), frame.first):
                answers = _as_many(task, task.function(maps), len(maps))
        except BaseException:
            answers = None
        if answers is None:
            self._run_each(frame, task, jobs)
            return
        results, faults = self._sort(answers, frame.first)
        self.send(frame, frame.first, results, faults, time.perf_counter() - began)

    def _call_batch_of_one(self, task: Task[..., Any], body: bytes, place: int) -> bytes | Fault:
        try:
            answers = _as_many(task, task.function([arguments_of(body)]), 1)
        except BaseException as error:
            return self.fault(place, error)
        results, faults = self._sort(answers, place)
        return faults[0] if results[0] is None else results[0]

    def _sort(self, answers: list[Any], first: int) -> tuple[list[bytes | None], list[Fault]]:
        """Results and faults of a batch. One pass of the packer when all is well, which is nearly always."""
        results: list[bytes | None] = []
        faults: list[Fault] = []
        for place, answer in enumerate(answers, first):
            try:
                if isinstance(answer, BaseException):
                    raise answer
                results.append(packed(answer, self._home))
            except BaseException as error:
                results.append(None)
                faults.append(self.fault(place, error))
        return results, faults

    def _any_cancelled(self, frame: Frame) -> bool:
        return any(self.cancelled(frame.batch, place) for place in range(frame.first, frame.first + frame.size))

    def fault(self, place: int, error: BaseException) -> Fault:
        """Arguments that are wrong today are wrong tomorrow: such a job is not tried again."""
        return Fault(place, fault_of(error, self._rank), final=isinstance(error, InvalidArgument))

    def send(self, frame: Frame, first: int, results: list[bytes | None], faults: list[Fault], seconds: float) -> None:
        payload = pack_results(results, faults)
        self.report(Frame(Kind.RESULTS, frame.chunk, frame.batch, first, len(results), self._rank, seconds, payload))


class Helper(Caller):
    """Serves one rank: frames of jobs in, frames of results out."""

    def __init__(
        self,
        rank: int,
        slots: Slots,
        cancels: Cancels,
        tasks: Mapping[str, Task[..., Any]],
        home: Home,
        stream: socket.socket,
    ) -> None:
        super().__init__(rank, tasks, home)
        self._stream = stream
        self._slots = slots
        self._slot = helper_slot(rank)
        self._cancels = cancels
        self._teller = Teller(lambda frame: write(stream, frame), cancels, by_timer=True)

    def serve(self) -> None:
        """Until the rank closes the stream."""
        while (frame := read(self._stream)) is not None:
            self.run(frame)
            self._slots.clear(self._slot)

    def mark(self, batch: int, first: int, size: int) -> None:
        self._slots.mark(self._slot, batch, first, size)

    def report(self, frame: Frame) -> None:
        print_the_rest()
        with self._teller.lock:
            self._teller.flush()  # what a job has said comes before its end
            write(self._stream, frame)

    def voice(self, batch: int) -> Voice:
        return self._teller.voice(batch)

    def cancelled(self, batch: int, place: int) -> bool:
        return self._cancels.holds(batch, place)

    def _any_cancelled(self, frame: Frame) -> bool:
        return not self._cancels.empty and super()._any_cancelled(frame)


class _Report:
    """Results on their way: sent when they are a few milliseconds old, so that long jobs report at once."""

    def __init__(self, caller: Caller, frame: Frame) -> None:
        self._caller = caller
        self._frame = frame
        self._first = frame.first
        self._results: list[bytes | None] = []
        self._faults: list[Fault] = []
        self._since = time.perf_counter()

    def add(self, outcome: bytes | Fault) -> None:
        if isinstance(outcome, Fault):
            self._faults.append(outcome)
            self._results.append(None)
        else:
            self._results.append(outcome)
        if time.perf_counter() - self._since >= REPORT_S:
            self.send()

    def send(self) -> None:
        if self._results:
            now = time.perf_counter()
            self._caller.send(self._frame, self._first, self._results, self._faults, now - self._since)
            self._first += len(self._results)
            self._results, self._faults, self._since = [], [], now


def arguments_of(body: bytes) -> dict[str, Any]:
    """The arguments of a job. Raises InvalidArgument if its body is anything else."""
    try:
        value = unpack(body)
    except ProtocolError as fault:
        raise InvalidArgument(f"the job's body is no msgpack value: {fault.message}") from fault
    if type(value) is not dict or set(map(type, value)) - {str}:
        raise InvalidArgument(
            f"the job's body is a {type(value).__name__}", 'a job is a map of arguments, such as {"assets": [1, 2]}'
        )
    return value


def packed(result: Any, home: Home) -> bytes:
    """A result as it travels. Raises ResultError."""
    try:
        data = pack(result)
    except InvalidArgument as fault:
        raise ResultError(f"the result cannot be sent: {fault}") from fault
    if len(data) > home.result_max:
        raise ResultError(
            f"the result has {len(data)} bytes, the daemon takes {home.result_max}: write it to a file and return "
            "where that is, or raise [storage] max_message"
        )
    return data


class ResultError(TypeError):
    """A task returned what no message can carry. Not the job's arguments are at fault: it may be tried again."""


def _as_many(task: Task[..., Any], answers: Any, count: int) -> list[Any]:
    if not isinstance(answers, list | tuple) or len(answers) != count:
        got = f"{len(answers)} results" if isinstance(answers, list | tuple) else f"a {type(answers).__name__}"
        raise ValueError(
            f"batch task {task.name!r} returned {got} for {count} jobs: return a list as long as its input"
        )
    return list(answers)
