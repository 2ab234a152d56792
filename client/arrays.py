"""Several jobs of one queue that are looked at as one thing."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self, TypeVar, overload

from ..peers.errors import PenstockError
from ..peers.units import Duration
from . import calls
from .channel import Channel
from .ids import Span, array_id
from .jobs import BaseJob, Job
from .outcomes import Completions, JobOutcome, collect, must_be_there
from .steps import Steps
from .waiting import Waiting

J = TypeVar("J", bound=BaseJob)


class BaseJobArray(Sequence[J]):
    """Which jobs they are, and the steps of what can be asked about all of them."""

    JOB: type[J]  # of which kind they are

    def __init__(self, connection: Channel, queue: str, spans: Iterable[Span], cursor: int = 0) -> None:
        self.queue = queue
        self.gather: J | None = None
        self._connection: Any = connection
        self._cursor = cursor  # their outcomes are after this one
        self._spans: list[Span] = []
        for first, count in spans:
            if self._spans and sum(self._spans[-1]) == first:
                self._spans[-1] = (self._spans[-1][0], self._spans[-1][1] + count)
            elif count:
                self._spans.append((first, count))
        self._offsets = _Offsets(self._spans)
        self._jobs: dict[int, J] = {}  # by place; a job remembers how it ended

    @property
    def id(self) -> str:
        """QUEUE/FIRST-LAST; with several parts where others have submitted in between: "work/0-9,12-20". "" of none."""
        return array_id(self.queue, self._spans)

    @property
    def first(self) -> int:
        """The offset of the first job. Raises IndexError if there is none."""
        return self._offsets[0]

    @property
    def count(self) -> int:  # type: ignore[override]  # hides Sequence.count, which nobody calls
        """How many jobs."""
        return len(self._offsets)

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, place: int) -> J: ...
    @overload
    def __getitem__(self, place: slice) -> list[J]: ...
    def __getitem__(self, place: int | slice) -> J | list[J]:
        if isinstance(place, slice):
            return [self._job(each) for each in range(*place.indices(len(self)))]
        return self._job(range(len(self))[place])

    def __iter__(self) -> Iterator[J]:
        return map(self._job, range(len(self)))

    def __add__(self, other: Iterable[J]) -> list[J]:
        return [*self, *other]

    def __radd__(self, other: Iterable[J]) -> list[J]:
        return [*other, *self]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id or self.queue} of {len(self)}>"

    # -- steps -----------------------------------------------------------------------------------------------------

    def _known(self) -> Steps[None]:
        return must_be_there(self.queue, self._spans)

    def _statuses(self) -> Steps[dict[str, int]]:
        yield from self._known()
        return (yield from calls.count_statuses(self.queue, self._spans))

    def _outcomes(self, timeout: Duration | None) -> Steps[list[JobOutcome]]:
        yield from self._known()
        completions = Completions(self, timeout)
        while not completions.over:
            yield from completions.more()
        return (yield from collect(self))

    def _wait(self, timeout: Duration | None) -> Steps[dict[str, int]]:
        return dict(Counter(outcome.status for outcome in (yield from self._outcomes(timeout))))

    def _results(self, timeout: Duration | None) -> Steps[list[Any]]:
        outcomes = yield from self._outcomes(timeout)
        bad = [error for outcome in outcomes if (error := outcome.error) is not None]
        if bad:
            raise _with_hint(bad[0], f"{len(bad)} of {len(outcomes)} jobs did not end well")
        return [outcome.value for outcome in outcomes]

    def _cancel(self) -> Steps[int]:
        yield from self._known()  # before the first of them is cancelled
        return (yield from calls.cancel_jobs(self.queue, self._spans))

    def _retry(self) -> Steps[Self]:
        yield from self._known()
        return type(self)(self._connection, self.queue, (yield from calls.retry_jobs(self.queue, self._spans)))

    def _job(self, place: int) -> J:
        job = self._jobs.get(place)
        if job is None:
            made = self.JOB(self._connection, self.queue, self._offsets[place], self._cursor)
            job = self._jobs.setdefault(place, made)
        return job


class JobArray(Waiting, BaseJobArray[Job]):
    """Jobs of one queue, in the order of their submission: a sequence of `Job`. Thread-safe.

    `id` names all of them, such as "work/0-499": `Client.job_array` makes an array of it again, in any process.
    `gather` is the job that runs after all of them, if they were submitted with one.
    """

    JOB = Job

    def statuses(self) -> dict[str, int]:
        """How many jobs are in which status, as "queued", "running", "done" ...; see `Job.status`."""
        return self._run(self._statuses())

    def wait(self, timeout: Duration | None = None) -> dict[str, int]:
        """Wait until all have ended: how many are "done", "dead", "cancelled", "expired". `timeout` is a duration.

        Raises Timeout, and NotFound if one of them never existed.
        """
        return self._run(self._wait(timeout))

    def outcomes(self, timeout: Duration | None = None) -> list[JobOutcome]:
        """How each ended, in their order, once all have. `timeout` is a duration. Raises as `wait` does."""
        return self._run(self._outcomes(timeout))

    def results(self, timeout: Duration | None = None) -> list[Any]:
        """What each returned, in their order, once all have ended. `timeout` is a duration.

        Raises JobFailed, JobCancelled or NotFound, of the first one that did not end well, with how many did not in
        the hint (`outcomes` has them all); and as `wait` does.
        """
        return self._run(self._results(timeout))

    def cancel(self) -> int:
        """Cancel those that have not ended. Returns how many."""
        return self._run(self._cancel())

    def retry(self) -> JobArray:
        """Submit those that are dead again: the new jobs."""
        return self._run(self._retry())


class _Offsets:
    """The offsets of spans, as a list without the list."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._ranges = [range(first, first + count) for first, count in spans]
        self._starts = [0]
        for each in self._ranges:
            self._starts.append(self._starts[-1] + len(each))

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, place: int) -> int:
        at = bisect_right(self._starts, place) - 1
        return self._ranges[at][place - self._starts[at]]


def _with_hint(error: PenstockError, hint: str) -> PenstockError:
    error.hint = f"{error.hint}; {hint}" if error.hint else hint
    return error
