"""Jobs: messages seen as work, with a status and a result."""

from __future__ import annotations

from typing import Any, Self

from ..peers.errors import NotFound, Timeout
from ..peers.units import Duration
from . import calls
from .channel import Channel, Consistency
from .infos import JobInfo, Reason
from .job_details import JobDetails
from .outcomes import ENDED, PARK_MS, JobOutcome
from .requests import Request, Tell
from .steps import Deadline, Steps, within
from .waiting import Waiting


class BaseJob:
    """What is known of a job here, and the steps of what can be asked about it."""

    __slots__ = ("_connection", "_outcome", "cursor", "info", "offset", "queue")

    def __init__(self, connection: Channel, queue: str, offset: int, cursor: int = 0) -> None:
        self._connection: Any = connection
        self.queue = queue
        self.offset = offset
        self.cursor = cursor  # its outcome is after this one, for `as_completed`; 0: who knows
        self.info: JobInfo | None = None
        self._outcome: JobOutcome | None = None

    @property
    def id(self) -> str:
        return f"{self.queue}/{self.offset}"

    def ended(self, outcome: JobOutcome) -> None:
        """Note how it ended. For `as_completed`."""
        self._outcome = outcome

    @property
    def outcome(self) -> JobOutcome | None:
        """How it ended, as far as is known here; nothing is asked."""
        return self._outcome

    # -- steps -----------------------------------------------------------------------------------------------------

    def _status(self) -> Steps[str]:
        if self._outcome is not None:
            return self._outcome.status
        body = (yield Request("job_status", {"queue": self.queue, "offsets": [self.offset]})).body
        self.info = JobInfo.from_body(body["jobs"][0])
        return self.info.status

    def _wait(self, timeout: Duration | None) -> Steps[str]:
        return (yield from self._end(timeout)).status

    def _result(self, timeout: Duration | None, remove: bool) -> Steps[Any]:
        outcome = yield from self._end(timeout)
        if remove and outcome.status != "expired":
            yield Tell("job_forget", self._place, counted=True)
        return outcome.result()

    def _cancel(self) -> Steps[str]:
        return str((yield Request("job_cancel", self._place, counted=True)).body["status"])

    def _retry(self) -> Steps[Self]:
        body = (yield Request("job_retry", self._place, counted=True)).body
        return type(self)(self._connection, self.queue, int(body["offset"]), self.cursor)

    def _end(self, timeout: Duration | None) -> Steps[JobOutcome]:
        deadline = Deadline(timeout)
        return (yield from within(deadline, self._ended(deadline)))

    def _ended(self, deadline: Deadline) -> Steps[JobOutcome]:
        while self._outcome is None:
            wait_ms = deadline.wait_ms(PARK_MS)
            request = yield Request("job_result", {**self._place, "wait_ms": wait_ms}, wait_ms=wait_ms)
            status = str(request.body["status"])
            if status in ENDED:
                self._outcome = JobOutcome.from_answer(self.queue, self.offset, request)
            elif deadline.over:
                raise Timeout(f"job {self.id} is {status} and did not end within the given time", "wait longer")
        if self._outcome.status == "unknown":
            raise NotFound(f"job {self.id} does not exist")
        return self._outcome

    @property
    def _place(self) -> dict[str, Any]:
        return {"queue": self.queue, "offset": self.offset}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"


class Job(Waiting, BaseJob):
    """A job of a queue. Thread-safe. `id` is QUEUE/OFFSET; `info` is what was last seen of it, or None."""

    __slots__ = ()

    def status(self, *, consistency: Consistency = "primary") -> str:
        """ "queued", "delayed", "waiting" (for other jobs), "running", "failed" (waits for its next try), "done",
        "dead", "cancelled", "expired" (its ttl is over, or it ended and its outcome is no longer kept) or "unknown"
        (never existed). `consistency`: "local" has the nearest node answer out of its own copy, primary or not."""
        return self._run(self._status(), consistency)

    def wait(self, timeout: Duration | None = None) -> str:
        """Its status when it has ended: "done", "dead", "cancelled" or "expired". `timeout` is a duration.

        Raises Timeout, and NotFound if the job never existed.
        """
        return self._run(self._wait(timeout))

    def result(self, timeout: Duration | None = None, *, remove: bool = False) -> Any:
        """What it returned. `timeout` is a duration; None waits for ever. `remove`: the daemon forgets it then.

        Raises JobFailed (with traceback and rank), JobCancelled, Timeout, and NotFound if it never existed or its
        result is no longer kept.
        """
        return self._run(self._result(timeout, remove))

    def cancel(self) -> str:
        """Have it not done; if it is running, its result will be refused. Raises InvalidArgument if it has ended."""
        return self._run(self._cancel())

    def retry(self) -> Job:
        """Submit a dead job again: the new job. Raises InvalidArgument if this one is not dead."""
        return self._run(self._retry())

    def describe(self) -> JobDetails:
        """All that is known of it: times, owner, history, progress, log lines, error, parents. Raises NotFound."""
        return self._run(calls.describe_job(self.queue, self.offset))

    def explain(self) -> list[Reason]:
        """Why it does not run: paused, delayed until, behind so many others, no consumer ... Raises NotFound."""
        return self._run(calls.explain(self.queue, self.offset))
