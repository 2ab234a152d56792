"""`GiveUp`: log entries of which nobody has a sound copy. What lies in them ends, so that nothing reads them again."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ..peers import messages as m
from .cancelling import cancel_range
from .options import QUEUE
from .queues import Queue
from .scheduling import remove
from .sessions import OK, Answer
from .state import State

REASON = "its data was damaged, and given up"


def give_up(state: State, command: m.GiveUp) -> Answer:
    """Jobs that lie there are cancelled, results forgotten, schedules removed. Messages of topics stay: see set_aside.

    What points there is looked for, as it may have moved since the damage was found. That takes its time, once.
    """
    homes = {*command.entries}
    for schedule in [it for it in state.schedules.by_name.values() if it.home in homes]:
        remove(state, m.RemoveSchedule(schedule.name))
    for queue in [queue for queue in state.by_id.values() if queue.kind == QUEUE and not queue.deleted]:
        _forget_results(state, queue, homes)
        for first, end in list(_stretches(queue, homes)):
            cancel_range(state, queue, first, end, REASON)
    return OK


def _stretches(queue: Queue, homes: Collection[int]) -> Iterator[tuple[int, int]]:
    """The messages that lie in these entries."""
    at = queue.dropped
    while at < queue.next:
        if queue.holes and (end := queue.holes.end_at(at)) is not None:
            at = end
            continue
        extent = queue.extents.at(at)
        if extent.home in homes:
            yield extent.first, extent.end
        at = extent.end


def _forget_results(state: State, queue: Queue, homes: Collection[int]) -> None:
    ended = [(home, step) for home, step in queue.outcomes.steps_after(0) if home in homes]
    for home, step in ended:
        for offset in (at for outcome in step for at in range(outcome.first, outcome.first + outcome.count)):
            outcome = queue.outcomes.at(offset)
            if outcome is not None and outcome.home == home:  # else it was forgotten already
                state.forget_outcome(queue, outcome, offset)
