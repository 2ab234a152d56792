"""What the model tells about queues, topics and groups."""

from __future__ import annotations

from typing import Any

from .groups import Group
from .options import options_of
from .queues import Queue


def group_info(group: Group, queue: Queue, now_ms: int) -> dict[str, Any]:
    """Counts of one group, and how far it is behind."""
    ready, lag = group.ready_count(queue.next, now_ms), group.open_count(queue.next)
    oldest_ms = max(0, now_ms - queue.extents.at(group.floor).stamp_ms) if lag else None
    return {
        "name": group.name,
        "ready": ready,
        "delayed": lag - group.leased - ready - group.shelf.held,
        "waiting": group.shelf.held,
        "leased": group.leased,
        "done": group.done,
        "dead": group.dead,
        "floor": group.floor,
        "lag": lag,
        "oldest_ms": oldest_ms,
    }


def queue_info(queue: Queue, now_ms: int, only: str | None = None) -> dict[str, Any]:
    """Everything about one queue or topic, as docs/protocol.md section 3 lists it. `only`: of this group alone."""
    names = sorted(queue.groups) if only is None else [only]
    groups = [group_info(queue.groups[name], queue, now_ms) for name in names]
    info: dict[str, Any] = {
        "name": queue.name,
        "kind": queue.kind,
        "options": options_of(queue.options, queue.kind),
        "paused": queue.paused,
        "created_ms": queue.created_ms,
        "bytes": queue.bytes,
        "oldest_ms": queue.oldest_ms(now_ms),
        "next": queue.next,
        "first": queue.keeps_from,
        "groups": groups,
    }
    for count in ("ready", "delayed", "waiting", "leased", "done", "dead"):
        info[count] = sum(group[count] for group in groups)
    return info
