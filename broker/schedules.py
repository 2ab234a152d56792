"""Schedules: jobs that come again and again. What is known of them, and which one falls due next. Pure."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

from ..peers.messages import Append

NEVER_MS = 2**53
BLANKS_MAX = 1_000  # due times that are no longer true and still stand in the heap, beyond as many as there are


class Timing(NamedTuple):
    """When: by a `cron` line in the time zone `tz`, or every `every_ms`, counted from `first_ms` on."""

    cron: str | None
    tz: str
    every_ms: int
    first_ms: int


class Run(NamedTuple):
    """A job that a schedule made: the due time it is for, when it was made, and where it is."""

    due_ms: int
    at_ms: int
    queue_id: int
    offset: int


class Schedule:
    """Its `job` lies in log entry `home`, which lives as long as the schedule, and longer while its jobs do.

    `missed`: what becomes of due times at which nobody could fire: "once" (one job for all of them), "all" (one for
    each), "skip". `overlap` False: no job while the last one has not ended. `arrears`: fired one behind the other since
    a due time was met in time. `reason`: why it is paused, if it paused itself.
    """

    __slots__ = (
        "arrears", "created_ms", "fired", "home", "job", "last", "missed", "name", "next_ms", "overlap", "paused",
        "reason", "skipped", "timing",
    )  # fmt: skip

    def __init__(self, name: str, job: Append, timing: Timing, missed: str, overlap: bool, home: int) -> None:
        self.name = name
        self.job = job
        self.timing = timing
        self.missed = missed
        self.overlap = overlap
        self.home = home
        self.created_ms = 0
        self.next_ms = timing.first_ms
        self.paused = False
        self.reason = ""
        self.arrears = 0
        self.fired = 0
        self.skipped = 0
        self.last: Run | None = None

    @property
    def queue(self) -> str:
        """The name of the queue that its jobs go to."""
        return self.job.queue

    def pack(self) -> list[Any]:
        """Everything, for the disk and the digest."""
        return [
            self.name, self.job, self.timing, self.missed, self.overlap, self.home, self.created_ms, self.next_ms,
            self.paused, self.reason, self.arrears, self.fired, self.skipped, self.last,
        ]  # fmt: skip

    @classmethod
    def unpack(cls, fields: list[Any]) -> Schedule:
        name, job, timing, missed, overlap, home, *rest = fields
        append = Append(*job)
        if append.keys is not None:
            append = append._replace(keys=tuple(append.keys))
        schedule = cls(name, append, Timing(*timing), missed, overlap, home)
        schedule.created_ms, schedule.next_ms, schedule.paused, schedule.reason, *rest = rest
        schedule.arrears, schedule.fired, schedule.skipped, last = rest
        schedule.last = None if last is None else Run(*last)
        return schedule

    def info(self) -> dict[str, Any]:
        """As docs/protocol.md section 10 has it."""
        timing, last = self.timing, self.last
        return {
            "name": self.name, "queue": self.queue, "cron": timing.cron, "tz": timing.tz,
            "every_ms": timing.every_ms or None, "missed": self.missed, "overlap": self.overlap,
            "properties": self.job.properties or {}, "created_ms": self.created_ms, "paused": self.paused,
            "reason": self.reason, "next_ms": None if self.paused else self.next_ms, "fired": self.fired,
            "skipped": self.skipped, "last_due_ms": last and last.due_ms, "last_ms": last and last.at_ms,
            "last_offset": last and last.offset,
        }  # fmt: skip


class Schedules:
    """All schedules, by name, and in the order in which they fall due."""

    def __init__(self) -> None:
        self.by_name: dict[str, Schedule] = {}
        self.fresh: set[int] = set()  # homes since the last checkpoint
        self._due: list[tuple[int, str]] = []  # a heap; what is no longer so is passed over

    def put(self, schedule: Schedule) -> None:
        """A new one, or one in another one's place."""
        self.by_name[schedule.name] = schedule
        self.fresh.add(schedule.home)
        self.arm(schedule)

    def remove(self, schedule: Schedule) -> None:
        del self.by_name[schedule.name]
        self.fresh.discard(schedule.home)

    def arm(self, schedule: Schedule) -> None:
        """Its next due time is another one, or it waits for it again."""
        if len(self._due) > 2 * len(self.by_name) + BLANKS_MAX:
            self._due = [(it.next_ms, it.name) for it in self.by_name.values() if not it.paused]
            heapify(self._due)
        heappush(self._due, (schedule.next_ms, schedule.name))

    def first(self) -> Schedule | None:
        """The one that falls due first. None: there is none that is not paused."""
        while self._due:
            next_ms, name = self._due[0]
            schedule = self.by_name.get(name)
            if schedule is not None and schedule.next_ms == next_ms and not schedule.paused:
                return schedule
            heappop(self._due)
        return None

    def take_fresh(self) -> set[int]:
        """The log entries that must outlive the floor, since the last checkpoint."""
        fresh, self.fresh = self.fresh, set()
        return fresh

    def pack(self) -> list[Any]:
        return [schedule.pack() for _, schedule in sorted(self.by_name.items())]

    def restore(self, rows: list[Any]) -> None:
        for fields in rows:
            schedule = Schedule.unpack(fields)
            self.by_name[schedule.name] = schedule
            self.arm(schedule)
