"""Jobs: messages seen as work, with a status and a result."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from ..peers import values, wire
from ..peers.errors import JobCancelled, JobFailed, NotFound, PenstockError, Timeout
from ..peers.units import duration_ms
from . import calls
from .connection import Connection, Consistency, reader
from .failures import job_failed
from .infos import JobInfo, Reason, unfinished
from .job_details import JobDetails
from .requests import Request, Tell

ENDED = frozenset({"done", "dead", "cancelled", "expired", "unknown"})
PARK_MS = 20_000
LOOK_MS = 1_000  # how long to wait for outcomes before looking for jobs that end without one
STATUS_MAX = 10_000  # jobs in one question
OUTCOMES_MAX = 5_000  # outcomes in one answer
ASK_MAX = 100  # questions for one outcome each that are under way at once


class Job:
    """A job of a queue. Thread-safe. `id` is QUEUE/OFFSET; `info` is what was last seen of it, or None."""

    __slots__ = ("_connection", "_outcome", "cursor", "info", "offset", "queue")

    def __init__(self, connection: Connection, queue: str, offset: int, cursor: int = 0) -> None:
        self._connection = connection
        self.queue = queue
        self.offset = offset
        self.cursor = cursor  # its outcome is after this one, for `as_completed`; 0: who knows
        self.info: JobInfo | None = None
        self._outcome: JobOutcome | None = None

    @property
    def id(self) -> str:
        return f"{self.queue}/{self.offset}"

    def status(self, *, consistency: Consistency = "primary") -> str:
        """ "queued", "delayed", "waiting" (for other jobs), "running", "failed" (waits for its next try), "done",
        "dead", "cancelled", "expired" (its ttl is over, or it ended and its outcome is no longer kept) or "unknown"
        (never existed). `consistency`: "local" has the nearest node answer out of its own copy, primary or not."""
        if self._outcome is not None:
            return self._outcome.status
        args = {"queue": self.queue, "offsets": [self.offset]}
        body = reader(self._connection, consistency).call("job_status", args).body
        self.info = JobInfo.from_body(body["jobs"][0])
        return self.info.status

    def wait(self, timeout: float | str | None = None) -> str:
        """Its status when it has ended: "done", "dead", "cancelled" or "expired". `timeout` in seconds or as text.

        Raises Timeout, and NotFound if the job never existed.
        """
        return self._ended(timeout).status

    def result(self, timeout: float | str | None = None, *, remove: bool = False) -> Any:
        """What it returned. `timeout` in seconds or as text; None waits for ever. `remove`: the daemon forgets it then.

        Raises JobFailed (with traceback and rank), JobCancelled, Timeout, and NotFound if it never existed or its
        result is no longer kept.
        """
        outcome = self._ended(timeout)
        if remove and outcome.status != "expired":
            self._connection.tell(Tell("job_forget", {"queue": self.queue, "offset": self.offset}, counted=True))
        return outcome.result()

    def cancel(self) -> str:
        """Have it not done; if it is running, its result will be refused. Raises InvalidArgument if it has ended."""
        request = self._connection.call("job_cancel", {"queue": self.queue, "offset": self.offset}, counted=True)
        return str(request.body["status"])

    def retry(self) -> Job:
        """Submit a dead job again: the new job. Raises InvalidArgument if this one is not dead."""
        request = self._connection.call("job_retry", {"queue": self.queue, "offset": self.offset}, counted=True)
        return Job(self._connection, self.queue, int(request.body["offset"]), self.cursor)

    def describe(self) -> JobDetails:
        """All that is known of it: times, owner, history, progress, log lines, error, parents. Raises NotFound."""
        return calls.run(self._connection, calls.describe_job(self.queue, self.offset))

    def explain(self) -> list[Reason]:
        """Why it does not run: paused, delayed until, behind so many others, no consumer ... Raises NotFound."""
        return calls.run(self._connection, calls.explain(self.queue, self.offset))

    def ended(self, outcome: JobOutcome) -> None:
        """Note how it ended. For `as_completed`."""
        self._outcome = outcome

    @property
    def outcome(self) -> JobOutcome | None:
        """How it ended, as far as is known here; nothing is asked."""
        return self._outcome

    def _ended(self, timeout: float | str | None) -> JobOutcome:
        deadline = None if timeout is None else time.monotonic() + duration_ms(timeout, "timeout") / 1000
        while self._outcome is None:
            left_ms = PARK_MS if deadline is None else round((deadline - time.monotonic()) * 1000)
            wait_ms = max(0, min(PARK_MS, left_ms))
            args = {"queue": self.queue, "offset": self.offset, "wait_ms": wait_ms}
            request = self._connection.call("job_result", args, wait_ms=wait_ms)
            status = str(request.body["status"])
            if status in ENDED:
                self._outcome = _outcome_of(self, request)
            elif deadline is not None and time.monotonic() >= deadline:
                raise Timeout(f"job {self.id} is {status} and did not end within the given time", "wait longer")
        if self._outcome.status == "unknown":
            raise NotFound(f"job {self.id} does not exist")
        return self._outcome

    def __repr__(self) -> str:
        return f"<Job {self.id}>"


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
                return JobCancelled(f"job {self.id} was cancelled", self.reason or "")
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


def statuses(connection: Connection, queue: str, offsets: Iterable[int]) -> Iterator[JobInfo]:
    """The present state of these jobs, in any number."""
    wanted = list(offsets)
    for start in range(0, len(wanted), STATUS_MAX):
        args = {"queue": queue, "offsets": wanted[start : start + STATUS_MAX]}
        yield from map(JobInfo.from_body, connection.call("job_status", args).body["jobs"])


class Outcomes:
    """The stream of how the jobs of a queue ended, from `cursor` on (0: the first one that is kept)."""

    def __init__(self, connection: Connection, queue: str, cursor: int = 0) -> None:
        self.cursor = cursor
        self._connection = connection
        self._queue = queue

    def read(self, wait_ms: int) -> list[JobOutcome]:
        """What comes next; [] if nothing did within the wait."""
        args = {"queue": self._queue, "after": self.cursor, "limit": OUTCOMES_MAX, "wait_ms": wait_ms}
        request = self._connection.call("outcomes", args, wait_ms=wait_ms)
        self.cursor = int(request.body["next"])
        bodies = wire.unpack_payload(request.data)[0] if request.data else []
        found: list[JobOutcome] = []
        for first, count, status, reason in request.body["outcomes"]:
            found += [JobOutcome(self._queue, first + i, status, bodies[len(found) + i], reason) for i in range(count)]
        return found


def as_completed(connection: Connection, jobs: Iterable[Job], timeout_s: float | None) -> Iterator[Job]:
    """The jobs, each as soon as it has ended. Raises Timeout, and NotFound for a job that never existed."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    waiting: dict[str, dict[int, list[Job]]] = {}
    for job in jobs:
        waiting.setdefault(job.queue, {}).setdefault(job.offset, []).append(job)
    streams: dict[str, Outcomes] = {}
    for queue in list(waiting):
        cursor = min(job.cursor for same in waiting[queue].values() for job in same)
        if cursor == 0:
            # Their outcomes may lie far back: those that have ended are known by their status, the others end later.
            cursor = int(connection.call("status", {}).body["applied"])
            for job in _ended_before(connection, queue, waiting[queue]):
                yield job
        streams[queue] = Outcomes(connection, queue, cursor)
        if not waiting[queue]:
            del waiting[queue]
    while waiting:
        for queue in list(waiting):
            left_ms = LOOK_MS if deadline is None else round((deadline - time.monotonic()) * 1000)
            wait_ms = max(0, min(LOOK_MS // len(waiting), left_ms))
            outcomes = streams[queue].read(wait_ms) or _ended_silently(connection, queue, waiting[queue])
            for outcome in outcomes:
                for job in waiting[queue].pop(outcome.offset, ()):
                    job.ended(outcome)
                    yield job
            if not waiting[queue]:
                del waiting[queue]
        if waiting and deadline is not None and time.monotonic() >= deadline:
            left = sum(map(len, waiting.values()))
            raise Timeout(
                f"{left} jobs did not end within {timeout_s:g} s", "wait longer, or look if a pool is running"
            )


def _ended_before(connection: Connection, queue: str, waiting: dict[int, list[Job]]) -> Iterator[Job]:
    """Those that have ended; they wait no more."""
    for info in statuses(connection, queue, list(waiting)):
        if info.status == "unknown":
            raise NotFound(f"job {queue}/{info.offset} does not exist")
        if info.status in ENDED:
            for job in waiting.pop(info.offset):
                job.info = info
                yield job


def _ended_silently(connection: Connection, queue: str, waiting: dict[int, list[Job]]) -> list[JobOutcome]:
    """Jobs that ended and have no outcome: acked plainly, or so long ago that it is no longer kept."""
    found = []
    for info in statuses(connection, queue, waiting):
        if info.status == "unknown":
            raise NotFound(f"job {queue}/{info.offset} does not exist")
        if info.status == "expired":
            found.append(JobOutcome(queue, info.offset, info.status, None, info.reason))
    return found


def drain(connection: Connection, queue: str, timeout_s: float | None) -> list[JobOutcome]:
    """Wait until the queue is empty and nothing runs; every outcome that is kept, in the order of the offsets."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    stream = Outcomes(connection, queue)
    found: dict[int, JobOutcome] = {}
    while True:
        # Looked at first: what ended before this is in the stream, so that an empty answer after it is the last word.
        body = connection.call("describe", {"name": queue}).body
        waiting = unfinished(body)
        wait_ms = LOOK_MS if waiting else 0
        if deadline is not None:
            wait_ms = max(0, min(wait_ms, round((deadline - time.monotonic()) * 1000)))
        while outcomes := stream.read(wait_ms):
            found.update((outcome.offset, outcome) for outcome in outcomes)
            wait_ms = 0
        if not waiting:
            return [found[offset] for offset in sorted(found)]
        if deadline is not None and time.monotonic() >= deadline:
            raise Timeout(f"{waiting} jobs of {queue!r} are not done within {timeout_s:g} s", "is a pool running?")


def collect(connection: Connection, jobs: Iterable[Job]) -> list[JobOutcome]:
    """The outcomes of jobs that have ended."""
    each = list(jobs)
    missing = [job for job in each if job.outcome is None]
    for start in range(0, len(missing), ASK_MAX):
        some = missing[start : start + ASK_MAX]
        asked = [Request("job_result", {"queue": job.queue, "offset": job.offset}) for job in some]
        connection.do_all(asked)
        for job, request in zip(some, asked, strict=True):
            job.ended(_outcome_of(job, request))
    return [outcome for job in each if (outcome := job.outcome) is not None]


def _outcome_of(job: Job, request: Request) -> JobOutcome:
    body = request.body
    return JobOutcome(job.queue, job.offset, str(body["status"]), _data(request.data), body.get("reason"))


def _data(payload: bytes | None) -> bytes | None:
    return wire.unpack_payload(payload)[0][0] if payload else None
