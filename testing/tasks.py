"""Jobs, run in the thread of a test: leased, called and settled as a pool does it, by one rank."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any, NamedTuple

from ..client import Client, Message
from ..compute.current import Home
from ..compute.faults import pack_fault
from ..compute.frames import Fault, Frame, Jobs, Kind, pack_jobs, unpack_results
from ..compute.helper import Caller
from ..compute.notes import Notes
from ..compute.runner import FAILURE_REASON, default_task, unknown_task
from ..compute.source import BrokerSource
from ..compute.task import Task, load_tasks
from ..peers.errors import InvalidArgument, LeaseLost
from ..peers.units import Duration
from .comm import LoneComm

BATCH_MAX = 1_000  # jobs in one call of a batch task
CONFIRM_S = 30.0

Tasks = ModuleType | str | Task[..., Any] | Iterable[Task[..., Any]]


class Ran(NamedTuple):
    """How many jobs were `done`, and how many tries `failed`; `lost`: done, but not ours any more, since they were
    cancelled or their lease had ended."""

    done: int = 0
    failed: int = 0
    lost: int = 0

    @property
    def jobs(self) -> int:
        """All of them."""
        return self.done + self.failed + self.lost

    def plus(self, other: Ran) -> Ran:
        return Ran(self.done + other.done, self.failed + other.failed, self.lost + other.lost)


def run_ready(
    client: Client,
    endpoints: Sequence[str],
    queue: str,
    tasks: Tasks,
    limit: int | None,
    lease: Duration,
    comm: Any,
) -> Ran:
    """Run what is ready in a queue, at most `limit` jobs."""
    chosen = tasks_for(queue, tasks)
    source = ReadySource(client, queue, lease)
    hands = Hands(chosen, Home(tuple(endpoints), queue, source.result_max), comm or LoneComm())
    ran = Ran()
    try:
        while limit is None or ran.jobs < limit:
            several = BATCH_MAX if any(task.batch for task in chosen.values()) else 1
            messages = source.take(several if limit is None else min(several, limit - ran.jobs), 0)
            if not messages:
                break
            for name, group in _by_task(source, messages, chosen):
                ran = ran.plus(_run(client, source, hands, name, group, chosen))
    finally:
        source.close()
    return ran


class ReadySource(BrokerSource):
    """Takes what is ready now, and knows for sure when nothing is."""

    def take(self, count: int, timeout_s: float) -> Sequence[Message]:
        found = super().take(count, 0)
        if not found:
            self._client.status()  # answered after what was just asked for
            found = super().take(count, 0)
        return found


class JobVoice:
    """What jobs say is said to the broker at once, and whether one was cancelled is asked of it."""

    def __init__(self, client: Client, messages: Sequence[Message]) -> None:
        self.heard_of: set[int] = set()  # places of jobs that know that they were cancelled
        self._client = client
        self._messages = messages

    def progress(self, place: int, fraction: float, text: str) -> None:
        with suppress(LeaseLost):  # as in a pool: the job learns of it when it ends
            self._messages[place].progress(fraction, text).wait(CONFIRM_S)

    def log(self, place: int, lines: Sequence[str]) -> None:
        with suppress(LeaseLost):
            self._messages[place].log(*lines).wait(CONFIRM_S)

    def cancelled(self, place: int) -> bool:
        if self._client.job(self._messages[place].id).status() == "cancelled":
            self.heard_of.add(place)
        return place in self.heard_of


class Hands(Caller):
    """Calls tasks here and now."""

    def __init__(self, tasks: dict[str, Task[..., Any]], home: Home, comm: Any) -> None:
        super().__init__(0, tasks, home)
        self._comm = comm
        self._voice: JobVoice | None = None
        self.reports: list[Frame] = []

    def call(self, name: str, messages: Sequence[Message], notes: Notes, voice: JobVoice) -> list[Frame]:
        """Run these jobs of one task; the frames that tell how it went."""
        self.reports, self._voice = [], voice
        jobs = Jobs(name, [message.body for message in messages], notes)
        self.run(Frame(Kind.JOBS, batch=1, size=len(messages), payload=pack_jobs(jobs)))
        return self.reports

    def voice(self, batch: int) -> JobVoice | None:
        return self._voice

    def mark(self, batch: int, first: int, size: int) -> None:
        """There is nobody who would have to know."""

    def report(self, frame: Frame) -> None:
        self.reports.append(frame)

    def leading(self, task: Task[..., Any]) -> tuple[Any, ...]:
        return (self._comm,) if task.collective else ()

    def fault(self, place: int, error: BaseException) -> Fault:
        if isinstance(error, KeyboardInterrupt):  # meant for the test
            raise error
        return super().fault(place, error)


def tasks_for(queue: str, tasks: Tasks) -> dict[str, Task[..., Any]]:
    """The tasks of a queue, by name. Raises InvalidArgument if there are none."""
    if isinstance(tasks, str):
        found = list(load_tasks(tasks).values())
    elif isinstance(tasks, ModuleType):
        found = [value for value in vars(tasks).values() if isinstance(value, Task)]
    else:
        found = [tasks] if isinstance(tasks, Task) else list(tasks)
    if wrong := [each for each in found if not isinstance(each, Task)]:
        raise InvalidArgument(f"tasks has {wrong[0]!r}, which is no task", "decorate the function with @penstock.task")
    chosen = {task.name: task for task in found if task.queue == queue}
    if not chosen:
        queues = ", ".join(sorted({repr(task.queue) for task in found})) or "no queue"
        raise InvalidArgument(f"there is no task for queue {queue!r} among them", f"they are for {queues}")
    return chosen


def _by_task(
    source: BrokerSource, messages: Sequence[Message], tasks: dict[str, Task[..., Any]]
) -> list[tuple[str | None, list[Message]]]:
    """Jobs of a batch task together, all others alone."""
    groups: list[tuple[str | None, list[Message]]] = []
    for message in messages:
        name = source.terms_of(message).task or default_task(tasks)
        if groups and groups[-1][0] == name and name in tasks and tasks[name].batch:
            groups[-1][1].append(message)
        else:
            groups.append((name, [message]))
    return groups


def _run(
    client: Client,
    source: ReadySource,
    hands: Hands,
    name: str | None,
    messages: list[Message],
    tasks: dict[str, Task[..., Any]],
) -> Ran:
    if name not in tasks:
        refusal = str(unknown_task(name, tasks))
        for message in messages:
            source.reject(message, FAILURE_REASON, pack_fault("InvalidArgument", refusal, None))
        return Ran(failed=len(messages))
    assert name is not None
    voice = JobVoice(client, messages)
    completed = failed = lost = 0
    for frame in hands.call(name, messages, source.notes_of(messages), voice):
        results, faults = unpack_results(frame.payload)
        some = messages[frame.first : frame.first + frame.size]
        done = [(message, result) for message, result in zip(some, results, strict=True) if result is not None]
        if done:
            source.complete([each[0] for each in done], [each[1] for each in done])
        completed += len(done)
        for fault in faults:
            if fault.place in voice.heard_of:
                lost += 1
                continue
            failed += 1
            if fault.final:
                source.reject(messages[fault.place], FAILURE_REASON, fault.error)
            else:
                source.fail([messages[fault.place]], [fault.error])
    confirmed = 0
    while source.open():
        confirmed += source.confirm(CONFIRM_S)
    return Ran(confirmed, failed, lost + completed - confirmed)
