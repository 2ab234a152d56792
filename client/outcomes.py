"""How jobs end: their outcomes, one by one as they come, or all of a queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..peers import values, wire
from ..peers.errors import JobCancelled, JobFailed, NotFound, PenstockError, Timeout
from ..peers.units import Duration
from .failures import job_failed
from .ids import Span
from .infos import JobInfo, unfinished
from .requests import Request
from .several import several
from .steps import Deadline, Steps, Together, within

if TYPE_CHECKING:
    from .jobs import BaseJob

ASKED = "it was cancelled"  # the daemon's reason when somebody asked for it: "job w/1 was cancelled" says as much
ENDED = frozenset({"done", "dead", "cancelled", "expired", "unknown"})
PARK_MS = 20_000
LOOK_MS = 1_000  # how long to wait for outcomes before looking for jobs that end without one
STATUS_MAX = 10_000  # jobs in one question
OUTCOMES_MAX = 5_000  # outcomes in one answer
ASK_MAX = 100  # questions for one outcome each that are under way at once

J = TypeVar("J", bound="BaseJob")


class JobOutcome:
    """How a job ended: `id`, `queue`, `offset`, `status` ("done", "dead", "cancelled", "expired"), `reason`, `value`,
    `error`."""

    __slots__ = ("data", "offset", "queue", "reason", "status")

    def __init__(self, queue: str, offset: int, status: str, data: bytes | None, reason: str | None) -> None:
        self.queue = queue
        self.offset = offset
        self.status = status
        self.data = data
        self.reason = reason

    @classmethod
    def from_answer(cls, queue: str, offset: int, request: Request) -> JobOutcome:
        """The one that the daemon told of a job that has ended."""
        data = wire.unpack_payload(request.data)[0][0] if request.data else None
        return cls(queue, offset, str(request.body["status"]), data, request.body.get("reason"))

    @property
    def id(self) -> str:
        return f"{self.queue}/{self.offset}"

    @property
    def value(self) -> Any:
        """What it returned; None if it is not done."""
        return values.unpack(self.data) if self.status == "done" and self.data else None

    @property
    def error(self) -> JobFailed | JobCancelled | NotFound | None:
        """Why it has no value: JobFailed, JobCancelled, or NotFound if that is no longer known. None: it is done."""
        match self.status:
            case "done":
                return None
            case "dead":
                return job_failed(self.id, self.data, self.reason)
            case "cancelled":
                why = "" if self.reason == ASKED else self.reason or ""
                return JobCancelled(f"job {self.id} was cancelled", why)
            case "expired" if self.reason:
                return JobCancelled(f"job {self.id} expired", self.reason)
            case _:
                return NotFound(f"job {self.id} has ended, and its outcome is no longer kept", "raise result_ttl")

    def result(self) -> Any:
        """Its value. Raises its error."""
        error: PenstockError | None = self.error
        if error is not None:
            raise error
        return self.value

    def __repr__(self) -> str:
        return f"<JobOutcome {self.id} {self.status}>"


def statuses(queue: str, offsets: Iterable[int]) -> Steps[list[JobInfo]]:
    """The present state of these jobs, in any number."""
    wanted = list(offsets)
    found: list[JobInfo] = []
    for start in range(0, len(wanted), STATUS_MAX):
        answer = yield Request("job_status", {"queue": queue, "offsets": wanted[start : start + STATUS_MAX]})
        found += map(JobInfo.from_body, answer.body["jobs"])
    return found


def must_be_there(queue: str, spans: Sequence[Span]) -> Steps[None]:
    """Raises NotFound for an id of very many jobs of which some never were: a slip in a number should not be looked at
    job by job, for hours and in gigabytes."""
    if sum(count for _, count in spans) > STATUS_MAX:
        for info in (yield from statuses(queue, [first + count - 1 for first, count in spans])):
            _must_exist(queue, info)


class Outcomes:
    """The stream of how the jobs of a queue ended, from `cursor` on (0: the first one that is kept)."""

    def __init__(self, queue: str, cursor: int = 0) -> None:
        self.cursor = cursor
        self._queue = queue

    def read(self, wait_ms: int) -> Steps[list[JobOutcome]]:
        """What comes next; [] if nothing did within the wait."""
        args = {"queue": self._queue, "after": self.cursor, "limit": OUTCOMES_MAX, "wait_ms": wait_ms}
        answer = yield Request("outcomes", args, wait_ms=wait_ms)
        self.cursor = int(answer.body["next"])
        bodies = wire.unpack_payload(answer.data)[0] if answer.data else []
        found: list[JobOutcome] = []
        for first, count, status, reason in answer.body["outcomes"]:
            found += [JobOutcome(self._queue, first + i, status, bodies[len(found) + i], reason) for i in range(count)]
        return found


class Completions(Generic[J]):
    """Jobs, as they end. `over`: all have."""

    def __init__(self, jobs: Iterable[J], timeout: Duration | None) -> None:
        self._deadline = Deadline(timeout)
        self._waiting: dict[str, dict[int, list[J]]] = {}
        for job in several(jobs, "jobs", "jobs"):
            self._waiting.setdefault(job.queue, {}).setdefault(job.offset, []).append(job)
        self._streams: dict[str, Outcomes] = {}
        self._round = deque(self._waiting)  # the queues that are still to be looked at in this round

    @property
    def over(self) -> bool:
        return not self._waiting

    def more(self) -> Steps[list[J]]:
        """Those that have ended next, often none. Raises Timeout, and NotFound for a job that never existed."""
        return within(self._deadline, self._more())

    def _more(self) -> Steps[list[J]]:
        if not self._round:
            if self._deadline.over:
                left = sum(map(len, self._waiting.values()))
                late = f"within {self._deadline.timeout_s:g} s" if self._deadline.timeout_s else "yet"
                raise Timeout(f"{left} jobs did not end {late}", "wait longer, or look if a pool is running")
            self._round = deque(self._waiting)
        queue = self._round[0]
        waiting = self._waiting[queue]
        ended = yield from self._look(queue, waiting) if queue in self._streams else self._begin(queue, waiting)
        self._round.popleft()
        if not waiting:
            del self._waiting[queue]
        return ended

    def _begin(self, queue: str, waiting: dict[int, list[J]]) -> Steps[list[J]]:
        cursor = min(job.cursor for same in waiting.values() for job in same)
        ended: list[J] = []
        if cursor == 0:
            # Their outcomes may lie far back: those that have ended are known by their status, the others end later.
            cursor = int((yield Request("status", {})).body["applied"])
            for info in (yield from statuses(queue, waiting)):
                _must_exist(queue, info)
                if info.status in ENDED:
                    for job in waiting.pop(info.offset):
                        job.info = info
                        ended.append(job)
        self._streams[queue] = Outcomes(queue, cursor)
        return ended

    def _look(self, queue: str, waiting: dict[int, list[J]]) -> Steps[list[J]]:
        wait_ms = self._deadline.wait_ms(LOOK_MS // len(self._waiting))
        outcomes = yield from self._streams[queue].read(wait_ms)
        ended: list[J] = []
        for outcome in outcomes or (yield from _ended_silently(queue, waiting)):
            for job in waiting.pop(outcome.offset, ()):
                job.ended(outcome)
                ended.append(job)
        return ended


def _ended_silently(queue: str, waiting: Iterable[int]) -> Steps[list[JobOutcome]]:
    """Jobs that ended and have no outcome: acked plainly, or so long ago that it is no longer kept."""
    found = []
    for info in (yield from statuses(queue, waiting)):
        _must_exist(queue, info)
        if info.status == "expired":
            found.append(JobOutcome(queue, info.offset, info.status, None, info.reason))
    return found


def _must_exist(queue: str, info: JobInfo) -> None:
    if info.status == "unknown":
        raise NotFound(f"job {queue}/{info.offset} does not exist")


def drain(queue: str, timeout: Duration | None) -> Steps[list[JobOutcome]]:
    """Wait until the queue is empty and nothing runs; every outcome that is kept, in the order of the offsets."""
    deadline = Deadline(timeout)
    return within(deadline, _drain(queue, deadline))


def _drain(queue: str, deadline: Deadline) -> Steps[list[JobOutcome]]:
    stream = Outcomes(queue)
    found: dict[int, JobOutcome] = {}
    while True:
        # Looked at first: what ended before this is in the stream, so that an empty answer after it is the last word.
        body = (yield Request("describe", {"name": queue})).body
        waiting = unfinished(body)
        wait_ms = deadline.wait_ms(LOOK_MS) if waiting else 0
        while outcomes := (yield from stream.read(wait_ms)):
            found.update((outcome.offset, outcome) for outcome in outcomes)
            wait_ms = 0
        if not waiting:
            return [found[offset] for offset in sorted(found)]
        if deadline.over:
            raise Timeout(
                f"{waiting} jobs of {queue!r} are not done within {deadline.timeout_s:g} s", "is a pool running?"
            )


def collect(jobs: Iterable[J]) -> Steps[list[JobOutcome]]:
    """The outcomes of jobs that have ended."""
    each = list(jobs)
    missing = [job for job in each if job.outcome is None]
    for start in range(0, len(missing), ASK_MAX):
        some = missing[start : start + ASK_MAX]
        asked = [Request("job_result", {"queue": job.queue, "offset": job.offset}) for job in some]
        yield Together(asked)
        for job, request in zip(some, asked, strict=True):
            job.ended(JobOutcome.from_answer(job.queue, job.offset, request))
    return [outcome for job in each if (outcome := job.outcome) is not None]
