"""The primary's part of schedules: it works out when they fall due, and has them fired."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..peers import messages as m
from ..peers.errors import InvalidArgument, shown
from ..peers.messages import Command
from . import requests as ask
from .cron import EVERY_MAX_MS, EVERY_MIN_MS, Calendar
from .schedules import NEVER_MS, Schedule, Timing
from .state import State

CRON_MAX = 200  # characters
TZ_MAX = 100
OF_ONE_JOB = ("delay_ms", "due_ms", "ids", "after", "on_failure")
FIRES_MAX = 200  # in one turn; the next one goes on
ARREARS_MAX = 1_000  # missed due times that "all" makes up for; the rest of them is passed over
LATE_MS = 60_000  # "skip" passes over what is later than this: a fail-over is no reason to miss one


class Planner:
    """Asks the calendar."""

    def __init__(self, state: State, calendar: Calendar) -> None:
        self.state = state
        self.calendar = calendar

    # -- requests -----------------------------------------------------------------------------------------------------

    def add(self, args: ask.Args, payload: bytes | None, bounds: ask.Bounds, now_ms: int) -> ask.Proposal:
        """The command that `schedule_add` asks for."""
        name, timing = ask.name_of(args, "name"), self._timing(args, now_ms)
        missed = ask.choice(args, "missed", ("once", "all", "skip"), "once")
        for wrong in OF_ONE_JOB:
            if args.get(wrong) is not None:
                raise InvalidArgument(
                    f"{wrong} is for single jobs", "leave it out: a schedule says when, and makes many"
                )
        job = ask.append_of({**args, "count": 1}, payload, bounds)
        command = m.AddSchedule(
            name, job.queue, timing.cron, timing.tz, timing.every_ms, timing.first_ms, missed,
            _flag(args, "overlap", True), _flag(args, "replace", False), job.size, job.plain, job.properties, job.keys,
        )  # fmt: skip
        return ask.Proposal(command, payload or ask.NO_PAYLOAD)

    def _timing(self, args: ask.Args, now_ms: int) -> Timing:
        cron, every_ms = args.get("cron"), args.get("every_ms")
        if (cron is None) == (every_ms is None):
            raise InvalidArgument(f"cron is {shown(cron)}, every_ms is {shown(every_ms)}", "give one of them")
        tz = ask.text(args, "tz", TZ_MAX, "UTC")
        if cron is not None:
            timing = Timing(" ".join(ask.text(args, "cron", CRON_MAX).split()), tz, 0, 0)
        else:
            timing = Timing(None, tz, ask.integer(args, "every_ms", EVERY_MIN_MS, EVERY_MAX_MS), 0)
        return timing._replace(first_ms=self.calendar.first_ms(timing, now_ms))

    # -- time ---------------------------------------------------------------------------------------------------------

    def next_due_ms(self) -> int:
        """When there is something to do."""
        first = self.state.schedules.first()
        return NEVER_MS if first is None else first.next_ms

    def due(self, now_ms: int) -> Iterator[Command]:
        """The commands for what falls due. Each is applied before the next one is made."""
        for _ in range(FIRES_MAX):
            schedule = self.state.schedules.first()
            if schedule is None or schedule.next_ms > now_ms:
                return
            try:
                yield self._fire(schedule, now_ms)
            except InvalidArgument as fault:  # its time zone is not known here: better told than fired at wrong times
                yield m.PauseSchedule(schedule.name, True, fault.message)

    def _fire(self, schedule: Schedule, now_ms: int) -> m.FireSchedule:
        timing, due_ms = schedule.timing, schedule.next_ms
        run_ms: int | None = due_ms
        next_ms = self._next_ms(timing, due_ms)
        if schedule.missed == "all":
            if next_ms <= now_ms and schedule.arrears + 1 >= ARREARS_MAX:
                next_ms = self._next_ms(timing, now_ms)
        else:
            if next_ms <= now_ms:
                run_ms = self.calendar.latest_ms(timing, due_ms, now_ms)
                next_ms = self._next_ms(timing, now_ms)
            if schedule.missed == "skip" and now_ms - (run_ms or 0) > LATE_MS:
                run_ms = None
        return m.FireSchedule(schedule.name, due_ms, run_ms, next_ms)

    def _next_ms(self, timing: Timing, after_ms: int) -> int:
        next_ms = self.calendar.next_ms(timing, after_ms)
        return NEVER_MS if next_ms is None else next_ms


def _flag(args: ask.Args, name: str, default: bool) -> bool:
    value: Any = args.get(name, default)
    if type(value) is not bool:
        raise InvalidArgument(f"{name} is {shown(value)}", "give true or false")
    return value


def _remove(args: ask.Args, payload: bytes | None, bounds: ask.Bounds) -> ask.Proposal:
    return ask.Proposal(m.RemoveSchedule(ask.name_of(args, "name")), ask.NO_PAYLOAD)


def _pause(args: ask.Args, payload: bytes | None, bounds: ask.Bounds) -> ask.Proposal:
    return ask.Proposal(m.PauseSchedule(ask.name_of(args, "name"), True, ""), ask.NO_PAYLOAD)


def _resume(args: ask.Args, payload: bytes | None, bounds: ask.Bounds) -> ask.Proposal:
    return ask.Proposal(m.PauseSchedule(ask.name_of(args, "name"), False, ""), ask.NO_PAYLOAD)


def _run(args: ask.Args, payload: bytes | None, bounds: ask.Bounds) -> ask.Proposal:
    return ask.Proposal(m.RunSchedule(ask.name_of(args, "name")), ask.NO_PAYLOAD)


COUNTED = {
    "schedule_remove": _remove, "schedule_pause": _pause, "schedule_resume": _resume, "schedule_run": _run,
}  # fmt: skip
