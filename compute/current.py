"""What a task may know about the job that it runs: `penstock.current_job()`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from ..client import connect
from ..client.headers import AFTER, KEY, RESERVED
from ..client.ids import array_id
from ..peers.errors import InvalidArgument
from .notes import Note


class Home(NamedTuple):
    """Where jobs come from: the endpoints of the daemon, and the queue."""

    endpoints: tuple[str, ...]
    queue: str


class CurrentJob:
    """The job that runs here. `id` is QUEUE/OFFSET; `attempt` is 1 for the first try: a fencing token of its own."""

    __slots__ = ("_headers", "_home", "attempt", "offset", "queue")

    def __init__(self, home: Home, note: Note) -> None:
        self._home = home
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

    def parent_results(self, timeout: float | str | None = 60) -> list[Any]:
        """What the parents returned, in the order they were named in. Asks the daemon. `timeout` in seconds or as text.

        Raises JobFailed or JobCancelled if a parent did not end well (`on_failure="release"`), NotFound if a result is
        no longer kept, and Timeout.
        """
        with connect(self._home.endpoints, name="penstock-task") as client:
            return [result for parent in self.parents for result in client.job_array(parent).results(timeout)]

    def __repr__(self) -> str:
        return f"<CurrentJob {self.id} attempt {self.attempt}>"


_running: ContextVar[tuple[Home, Sequence[Note]] | None] = ContextVar("penstock-running", default=None)


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
    return [] if running is None else [CurrentJob(running[0], note) for note in running[1]]


@contextmanager
def running(home: Home, notes: Sequence[Note]) -> Iterator[None]:
    """These jobs run within this."""
    token = _running.set((home, notes))
    try:
        yield
    finally:
        _running.reset(token)
