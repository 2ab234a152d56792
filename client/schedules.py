"""Schedules: jobs that the daemon makes again and again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Literal, TypedDict, TypeVar, Unpack

from ..peers import values, wire
from ..peers.errors import InvalidArgument, shown
from ..peers.units import Duration, duration_ms
from . import calls
from .channel import Channel
from .headers import Header
from .infos import ScheduleInfo
from .jobs import BaseJob, Job
from .properties import Backoff, pack_batch
from .steps import Steps
from .submit import WORK, work_header
from .waiting import Waiting

J = TypeVar("J", bound=BaseJob)
Missed = Literal["once", "all", "skip"]


class ScheduleOptions(TypedDict, total=False):
    """What the jobs of a schedule may carry: see JobOptions."""

    priority: int
    ttl: Duration | None
    max_failures: int | None
    retry_delay: Duration | None
    retry_backoff: Backoff | None
    retry_delay_max: Duration | None
    retry_jitter: int | None
    key: str | None
    headers: Mapping[str, Any] | None
    time_limit: Duration | None


class BaseSchedules(Generic[J]):
    """What is asked about schedules, as steps."""

    JOB: type[J]

    def __init__(self, connection: Channel) -> None:
        self._connection: Any = connection

    def _run_now(self, name: str) -> Steps[J]:
        answer = yield from calls.run_schedule(name)
        return self.JOB(self._connection, answer["queue"], answer["offset"])


class Schedules(Waiting, BaseSchedules[Job]):
    """The schedules of a cluster: what `Client.schedules` is. Thread-safe."""

    JOB = Job

    def add(
        self,
        name: str,
        queue: str,
        args: Any = None,
        *,
        cron: str | None = None,
        tz: str = "UTC",
        every: Duration | None = None,
        task: str | None = None,
        body: bytes | None = None,
        missed: Missed = "once",
        overlap: bool = True,
        replace: bool = False,
        **options: Unpack[ScheduleOptions],
    ) -> ScheduleInfo:
        """Have a job made in `queue` again and again: each due time makes one, also through fail-overs and restarts.

        `cron`: a line such as "30 2 * * MON-FRI", or "@daily", in the time zone `tz`; or `every` so long, for the first
        time so long from now. `args`, `task`: what the job is, as in `Client.submit`; or `body`, as it is. `missed`:
        what becomes of due times while no daemon was there, or it was paused: "once" (one job for all of them), "all"
        (one for each, at most 1000), "skip" (none). `overlap` False: no job while the last one has not ended.
        `replace`: in place of one of that name. options: priority, ttl, max_failures, retry_delay, retry_backoff,
        retry_delay_max, retry_jitter, key, headers, time_limit (see JobOptions). Its jobs carry the headers
        penstock-schedule and penstock-due (ms since 1970), see `Message.all_headers`. Raises InvalidArgument (which
        names the wrong field of a cron line), NotFound, AlreadyExists.
        """
        if body is not None and (args is not None or task is not None):
            raise InvalidArgument("body and args are both given", "give one of them")
        asked: dict[str, Any] = {"name": name, "queue": queue, "tz": tz, "missed": missed}
        asked |= {"overlap": overlap, "replace": replace}
        if (cron is None) == (every is None):
            raise InvalidArgument(f"cron is {shown(cron)}, every is {shown(every)}", "give one of them")
        asked |= {"cron": cron} if every is None else {"every_ms": duration_ms(every, "every")}
        if wrong := options.keys() - ScheduleOptions.__annotations__.keys():
            raise InvalidArgument(f"jobs of a schedule have no {sorted(wrong)[0]}", "it says when, and makes many")
        asked |= pack_batch({name: value for name, value in options.items() if name not in WORK}, 1)
        header: Header = work_header(options, task)
        payload = wire.pack_payload([values.pack(args) if body is None else body], [header] if header else None)
        return self._run(calls.add_schedule(asked, payload))

    def list(self) -> list[ScheduleInfo]:
        """All schedules, by name."""
        return self._run(calls.list_schedules())

    def get(self, name: str) -> ScheduleInfo:
        """One schedule, with the job that it makes. Raises NotFound."""
        return self._run(calls.describe_schedule(name))

    def remove(self, name: str) -> None:
        """End it; the jobs that it made stay. Raises NotFound."""
        return self._run(calls.command("schedule_remove", name=name))

    def pause(self, name: str) -> ScheduleInfo:
        """Have it make no jobs; due times that pass meanwhile are missed. Raises NotFound."""
        return self._run(calls.change_schedule("schedule_pause", name))

    def resume(self, name: str) -> ScheduleInfo:
        """Have it make jobs again. Raises NotFound, also if its queue is gone."""
        return self._run(calls.change_schedule("schedule_resume", name))

    def run(self, name: str) -> Job:
        """Have it make a job now, beside those of its due times. Raises NotFound, QueueFull, and InvalidArgument if it
        must not overlap and the last one has not ended."""
        return self._run(self._run_now(name))
