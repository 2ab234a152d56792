"""What commands do to schedules. Pure.

The model knows when a schedule falls due next, not why: the primary works that out, and the command that fires it says
for which due time, and which one comes after it. It counts only if the schedule waits for that very due time: so each
one is fired once, whatever becomes of primaries and restarts.
"""

from __future__ import annotations

from ..peers import messages as m
from ..peers.errors import AlreadyExists, InvalidArgument, NotFound, QueueFull
from ..peers.log import Entry
from . import publish
from .options import QUEUE
from .origins import DUE, SCHEDULE
from .schedules import Run, Schedule, Timing
from .sessions import OK, Answer
from .state import State

SCHEDULES_MAX = 10_000


def schedule_of(state: State, name: str) -> Schedule:
    """The schedule of that name. Raises NotFound."""
    schedule = state.schedules.by_name.get(name)
    if schedule is None:
        raise NotFound(f"there is no schedule {name!r}", "look at the list of schedules for its name")
    return schedule


def add(state: State, entry: Entry, command: m.AddSchedule) -> Answer:
    """The payload of its entry is the job that it makes: one body with its headers."""
    schedules = state.schedules
    job = m.Append(command.queue, 1, command.size, command.plain, command.properties, command.keys)
    _check(state, job)
    former = schedules.by_name.get(command.name)
    if former is not None and not command.replace:
        raise AlreadyExists(
            f"schedule {command.name} exists already", "take another name, or ask to replace the one that is there"
        )
    if former is None and len(schedules.by_name) >= SCHEDULES_MAX:
        raise InvalidArgument(f"there are {SCHEDULES_MAX} schedules already", "remove those that are no longer needed")
    if former is not None:
        schedules.remove(former)
        state.release_home(former.home)
    timing = Timing(command.cron, command.tz, command.every_ms, command.first_ms)
    schedule = Schedule(command.name, job, timing, command.missed, command.overlap, entry.index)
    schedule.created_ms = entry.stamp_ms
    schedules.put(schedule)
    state.emit("schedule.added", schedule.queue, schedule=schedule.name)
    return Answer("ok", schedule.info())


def _check(state: State, job: m.Append) -> None:
    """Raises NotFound if there is no such queue, InvalidArgument if it takes no such job."""
    queue = state.queue(job.queue)
    if queue.kind != QUEUE:
        raise InvalidArgument(f"queue is {job.queue}, which is a topic", "jobs live in queues")
    publish.check(state, queue, job.properties or {})


def remove(state: State, command: m.RemoveSchedule) -> Answer:
    """Jobs that it made stay."""
    schedule = schedule_of(state, command.name)
    state.schedules.remove(schedule)
    state.release_home(schedule.home)
    state.emit("schedule.removed", schedule.queue, schedule=schedule.name)
    return OK


def pause(state: State, command: m.PauseSchedule) -> Answer:
    """Due times that pass meanwhile are missed: once it is resumed, its policy says what becomes of them."""
    schedule = schedule_of(state, command.name)
    if command.paused:
        _pause(state, schedule, command.reason)
    else:
        _check(state, schedule.job)
        if schedule.paused:
            schedule.paused, schedule.reason = False, ""
            state.schedules.arm(schedule)
            state.emit("schedule.resumed", schedule.queue, schedule=schedule.name)
    return Answer("ok", schedule.info())


def _pause(state: State, schedule: Schedule, reason: str) -> None:
    if not schedule.paused:
        schedule.paused, schedule.reason = True, reason
        state.emit("schedule.paused", schedule.queue, schedule=schedule.name, reason=reason)


def orphan(state: State, queue: str) -> None:
    """The queue is gone: its schedules wait until somebody says what shall become of them."""
    for schedule in state.schedules.by_name.values():
        if schedule.queue == queue:
            _pause(state, schedule, "its queue was deleted")


def fire(state: State, entry: Entry, command: m.FireSchedule) -> Answer:
    """A due time is met, or passed over (`run_ms` None). One that was met before changes nothing."""
    schedule = state.schedules.by_name.get(command.name)
    if schedule is None or schedule.paused or schedule.next_ms != command.due_ms:
        return OK
    schedule.next_ms = command.next_ms
    schedule.arrears = schedule.arrears + 1 if command.next_ms <= state.stamp_ms else 0
    state.schedules.arm(schedule)
    if command.run_ms is None:
        return _skip(state, schedule, command.due_ms, "its time was missed")
    if _overlaps(state, schedule):
        return _skip(state, schedule, command.due_ms, "its last job has not ended")
    try:
        return _make_job(state, entry, schedule, command.run_ms)
    except (QueueFull, InvalidArgument) as fault:
        return _skip(state, schedule, command.due_ms, fault.message)


def _skip(state: State, schedule: Schedule, due_ms: int, reason: str) -> Answer:
    schedule.skipped += 1
    state.emit("schedule.skipped", schedule.queue, schedule=schedule.name, due_ms=due_ms, reason=reason)
    return OK


def run(state: State, entry: Entry, command: m.RunSchedule) -> Answer:
    """A job now, beside those of the due times."""
    schedule = schedule_of(state, command.name)
    if _overlaps(state, schedule):
        raise InvalidArgument(
            f"the last job of schedule {schedule.name} has not ended, and it allows for no other one meanwhile",
            "wait for its end, or cancel it",
        )
    return _make_job(state, entry, schedule, state.stamp_ms)


def _overlaps(state: State, schedule: Schedule) -> bool:
    last, queue = schedule.last, state.queues.get(schedule.queue)
    if schedule.overlap or last is None or queue is None or last.queue_id != queue.id:
        return False
    return not queue.groups[""].has_ended(last.offset)


def _make_job(state: State, entry: Entry, schedule: Schedule, due_ms: int) -> Answer:
    """The job lies in the entry that added the schedule: only where it is found is new. Raises NotFound, QueueFull."""
    note = {SCHEDULE: schedule.name, DUE: due_ms}
    offset = publish.append(state, entry, schedule.job, schedule.home, note).body["offset"]
    state.hold(schedule.home)
    schedule.fired += 1
    schedule.last = Run(due_ms, state.stamp_ms, state.queue(schedule.queue).id, offset)
    state.emit("schedule.fired", schedule.queue, offset, 1, schedule=schedule.name, due_ms=due_ms)
    return Answer("ok", {"queue": schedule.queue, "offset": offset})
