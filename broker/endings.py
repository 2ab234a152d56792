"""How tries and jobs end: who had them, what is noted of a try that failed, and the outcome of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from . import notes
from .extents import Outcome
from .groups import Lease, Span
from .options import QUEUE
from .queues import Queue

if TYPE_CHECKING:
    from .state import State

OWNER_MAX = 100  # characters of a client's name that are kept


class Holder(NamedTuple):
    """Who had a message in hand, by the name of its client, and since when."""

    owner: str
    since_ms: int


NOBODY = Holder("", 0)


class Why(NamedTuple):
    """Why a try failed. `dead`: the reason for a dead letter; `how`, `text`: for the history; `error`: as was sent."""

    dead: str
    how: str
    holder: Holder
    text: str = ""
    error: bytes | None = None


def holder_of(state: State, lease: Lease | None) -> Holder:
    """Who holds this lease; nobody, if there is none."""
    session = None if lease is None else state.sessions.get(lease.session)
    if lease is None or session is None:
        return NOBODY
    return Holder(session.client[:OWNER_MAX], lease.since_ms)


def note_failure(state: State, queue: Queue, failed: Span, why: Why) -> None:
    """One more bad end, for the history of these jobs. `failed`: with this failure counted."""
    if queue.kind != QUEUE:
        return
    failure = notes.Failure(
        state.stamp_ms, why.holder.since_ms, failed.attempt, why.how, why.holder.owner, why.text[: notes.REASON_MAX]
    )
    queue.notes.change(failed.first, failed.end, notes.failed(failure, why.error or b""))
    state.touched_queues.add(queue.id)


def add_outcome(
    state: State,
    queue: Queue,
    span: Span,
    status: str,
    reason: str = "",
    *,
    holder: Holder = NOBODY,
    start: int = -1,
    each: bool = False,
    dead_offset: int = -1,
) -> None:
    """These jobs have ended by the present command. `start`, `each`: where in its entry their data lies."""
    if state.applied not in queue.outcomes.steps:
        state.claim()
    queue.outcomes.add(
        Outcome(
            span.first, span.end - span.first, state.applied, start, each, status, reason, span.attempt, span.failures,
            state.stamp_ms, dead_offset, queue.extents.at(span.first).stamp_ms, holder.since_ms, holder.owner,
        )
    )  # fmt: skip
