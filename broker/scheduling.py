"""What commands do to schedules. Pure.

The model knows when a schedule falls due next, not why: the primary works that out, and the command that fires it says
for which due time, and which one comes after it. It counts only if the schedule waits for that very due time: so each
one is fired once, whatever becomes of primaries and restarts.
"""

from __future__ import annotations

from ..peers import messages as m
from ..peers.errors import AlreadyExists, InvalidArgument, NotFound, QueueFull
from ..peers.log import Entry
from .extents import Extent
from .options import DROP_OLDEST, QUEUE
from .publish import make_room
from .queues import Queue
from .retries import share
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
    _queue_of(state, command.queue)
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
    schedule = Schedule(command.name, command.queue, timing, command.missed, command.overlap, entry.index)
    schedule.size, schedule.plain, schedule.properties = command.size, command.plain, command.properties
    schedule.created_ms = entry.stamp_ms
    schedules.put(schedule)
    state.emit("schedule.added", schedule.queue, schedule=schedule.name)
    return Answer("ok", schedule.info())


def _queue_of(state: State, name: str) -> Queue:
    queue = state.queue(name)
    if queue.kind != QUEUE:
        raise InvalidArgument(f"queue is {name}, which is a topic", "jobs live in queues")
    return queue


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
        _queue_of(state, schedule.queue)
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


def fire(state: State, command: m.FireSchedule) -> Answer:
    """A due time is met, or passed over (`run_ms` None). One that was met before changes nothing."""
    schedule = state.schedules.by_name.get(command.name)
    if schedule is None or schedule.paused or schedule.next_ms != command.due_ms:
        return OK
    schedule.next_ms = command.next_ms
    schedule.arrears = schedule.arrears + 1 if command.next_ms <= state.stamp_ms else 0
    state.schedules.arm(schedule)
    why = "its time was missed" if command.run_ms is None else _why_not(state, schedule)
    if command.run_ms is None or why:
        schedule.skipped += 1
        state.emit("schedule.skipped", schedule.queue, schedule=schedule.name, due_ms=command.due_ms, reason=why)
        return OK
    return _make_job(state, schedule, command.run_ms)


def run(state: State, command: m.RunSchedule) -> Answer:
    """A job now, beside those of the due times."""
    schedule = schedule_of(state, command.name)
    queue = _queue_of(state, schedule.queue)
    if _overlaps(queue, schedule):
        raise InvalidArgument(
            f"the last job of schedule {schedule.name} has not ended, and it allows for no other one meanwhile",
            "wait for its end, or cancel it",
        )
    return _make_job(state, schedule, state.stamp_ms)


def _why_not(state: State, schedule: Schedule) -> str:
    """Why no job can be made now; empty if one can."""
    queue = state.queue(schedule.queue)  # it is there: else the schedule would be paused
    if _overlaps(queue, schedule):
        return "its last job has not ended"
    if queue.options.overflow == DROP_OLDEST:
        return ""
    try:
        queue.check_room(1, schedule.size)
    except QueueFull as fault:
        return fault.message
    return ""


def _overlaps(queue: Queue, schedule: Schedule) -> bool:
    last = schedule.last
    if schedule.overlap or last is None or last.queue_id != queue.id:
        return False
    return not queue.groups[""].has_ended(last.offset)


def _make_job(state: State, schedule: Schedule, due_ms: int) -> Answer:
    """The job lies in the entry that added the schedule: only where it is found is new."""
    queue = state.queue(schedule.queue)
    make_room(state, queue, 1, schedule.size)
    note = {"penstock-schedule": schedule.name, "penstock-due": due_ms}
    extent = Extent(0, 1, schedule.home, 0, 1, schedule.size, state.stamp_ms, schedule.plain)
    offset = share(state, queue, extent, 0, 1, note)
    schedule.fired += 1
    schedule.last = Run(due_ms, state.stamp_ms, queue.id, offset)
    state.wake(queue)
    state.emit("schedule.fired", queue.name, offset, 1, schedule=schedule.name, due_ms=due_ms)
    state.emit("job.queued", queue.name, offset, 1)
    return Answer("ok", {"queue": queue.name, "offset": offset})
