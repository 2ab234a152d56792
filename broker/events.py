"""What happened, as a stream: commands tell it, every node keeps the latest of it, and clients may watch. Pure.

All nodes apply the same commands, so they all tell the same events under the same places: who watched the old primary
goes on at the new one where it was.
"""

from __future__ import annotations

from typing import Any, NamedTuple

TYPES = frozenset(
    """
    queue.created queue.configured queue.deleted queue.purged queue.paused queue.resumed
    topic.created topic.configured topic.deleted topic.purged topic.paused topic.resumed
    group.created group.deleted group.sought
    job.queued job.running job.done job.failed job.dead job.cancelled job.expired job.progress
    message.acked
    schedule.added schedule.removed schedule.paused schedule.resumed schedule.fired
    session.opened session.ended node.primary member.changed
    """.split()
)


class Event(NamedTuple):
    """`index`, `number`: its place, the `number`th event of that log entry. `count` messages from `first` on."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    number: int
    type: str
    at_ms: int
    queue: str | None
    first: int
    count: int  # type: ignore[assignment]
    more: dict[str, Any]
