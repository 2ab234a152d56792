"""What a task may know about the job that it runs: `penstock.current_job()`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

from ..client import connect
from ..client.headers import AFTER, KEY, RESERVED
from ..client.ids import array_id
from ..peers.errors import InvalidArgument, JobCancelled
from ..peers.units import Duration
from .notes import Note
from .words import LINE_MAX, TEXT_MAX, clean


class Home(NamedTuple):
    """Where jobs come from: the endpoints of the daemon, and the queue; and how large a result it takes."""

    endpoints: tuple[str, ...]
    queue: str
    result_max: int = 2**26  # bytes


class Voice(Protocol):
    """How jobs speak to who has them in hand, and hear if they were cancelled. `place`: which of these jobs."""

    def progress(self, place: int, fraction: float, text: str) -> None: ...

    def log(self, place: int, lines: Sequence[str]) -> None: ...

    def cancelled(self, place: int) -> bool: ...


class CurrentJob:
    """The job that runs here. `id` is QUEUE/OFFSET; `attempt` is 1 for the first try: a fencing token of its own."""

    __slots__ = ("_headers", "_home", "_place", "_voice", "attempt", "offset", "queue")

    def __init__(self, home: Home, note: Note, voice: Voice | None = None, place: int = 0) -> None:
        self._home = home
        self._voice = voice
        self._place = place
        self._headers = dict(note.headers or {})
        self.queue = home.queue
        self.offset = note.offset
        self.attempt = note.attempt

    @property
    def id(self) -> str:
        return f"{self.queue}/{self.offset}"

    @property
    def headers(self) -> dict[str, Any]:
        """The headers that it was submitted with."""
        return {name: value for name, value in self._headers.items() if not name.startswith(RESERVED)}

    @property
    def key(self) -> str | None:
        """The key that it was submitted with."""
        return self._headers.get(KEY)

    @property
    def parents(self) -> tuple[str, ...]:
        """The jobs that it waited for (`after`, or as the gather job of an array), as ids: "work/7", "work/0-499"."""
        return tuple(array_id(queue, [(first, count)]) for queue, first, count in self._headers.get(AFTER, ()))

    def parent_results(self, timeout: Duration | None = 60) -> list[Any]:
        """What the parents returned, in the order they were named in. Asks the daemon. `timeout` is a duration.

        Raises JobFailed or JobCancelled if a parent did not end well (`on_failure="release"`), NotFound if a result is
        no longer kept, and Timeout.
        """
        with connect(self._home.endpoints, name="penstock-task") as client:
            return [result for parent in self.parents for result in client.job_array(parent).results(timeout)]

    def progress(self, fraction: float, text: str = "") -> None:
        """Tell how far the job is: a fraction (what is below 0 or above 1 counts as 0 or 1), and a text of at most 500
        characters.

        Returns at once, and costs next to nothing: at most two a second leave, the last one before the job ends. What
        cannot be brought to the daemon is forgotten; the job goes on. Of a collective job the first rank is heard.
        Raises InvalidArgument for what is no number.
        """
        if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or math.isnan(fraction):
            raise InvalidArgument(f"fraction is {fraction!r}", "give a number from 0 to 1")
        if self._voice is not None:
            self._voice.progress(self._place, min(1.0, max(0.0, float(fraction))), clean(str(text), TEXT_MAX))

    def log(self, *lines: str) -> None:
        """Add lines to the log of the job, which keeps the latest 1000 of them, up to 64 KiB. As `progress`."""
        parts = [clean(part, LINE_MAX) for line in lines for part in str(line).splitlines()]
        if parts and self._voice is not None:
            self._voice.log(self._place, parts)

    @property
    def cancelled(self) -> bool:
        """Was the job cancelled? Then its result is refused, and it is killed when the pool's cancel grace is over.

        Costs less than a microsecond. The ranks of a collective job may find it true at different times: let one of
        them look, and tell the others.
        """
        return self._voice is not None and self._voice.cancelled(self._place)

    def check(self) -> None:
        """Raises JobCancelled if the job was cancelled."""
        if self.cancelled:
            raise JobCancelled(f"job {self.id} was cancelled")

    def __repr__(self) -> str:
        return f"<CurrentJob {self.id} attempt {self.attempt}>"


class _Running(NamedTuple):
    home: Home
    notes: Sequence[Note]
    voice: Voice | None
    first: int


_running: ContextVar[_Running | None] = ContextVar("penstock-running", default=None)


def current_job() -> CurrentJob:
    """The job that the calling task runs. Threads of the task's own must be given it: they do not find it.

    Raises InvalidArgument where no job runs, and in a batch task, which runs several (`current_jobs`).
    """
    jobs = current_jobs()
    if len(jobs) == 1:
        return jobs[0]
    if jobs:
        raise InvalidArgument(f"{len(jobs)} jobs run in this call of a batch task", "use current_jobs()")
    raise InvalidArgument("no job runs here", "call it in a task, while a pool runs that")


def current_jobs() -> list[CurrentJob]:
    """All jobs of this call of a batch task, in the order of its argument maps. [] where none runs."""
    running = _running.get()
    if running is None:
        return []
    home, notes, voice, first = running
    return [CurrentJob(home, note, voice, place) for place, note in enumerate(notes, first)]


@contextmanager
def running(home: Home, notes: Sequence[Note], voice: Voice | None = None, first: int = 0) -> Iterator[None]:
    """These jobs run within this. `voice` (None: nobody listens) knows them by their places, from `first` on."""
    token = _running.set(_Running(home, notes, voice, first))
    try:
        yield
    finally:
        _running.reset(token)
