"""All that a daemon tells of its state, as one fingerprint: what a wrong call must leave as it is."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import penstock


def state_digest(client: penstock.Client) -> str:
    """Of all queues, topics, groups, members, of all jobs with their status, and of what lies in all queues and topics.

    Not of sessions, nor of ages, which change by themselves.
    """
    told: list[Any] = []
    for info in [*client.list_queues(), *client.list_topics()]:
        groups = [[getattr(group, name) for name in group.__slots__ if name != "oldest_ms"] for group in info.groups]
        rest = [
            getattr(info, name) for name in penstock.client.infos.Info.__slots__ if name not in ("oldest_ms", "groups")
        ]
        told.append([rest, groups])
        for group in info.groups:
            told.append([[each.offset, each.body.hex()] for each in client.peek(info.name, 1000, group=group.name)])
        if info.kind == "queue":
            told.append([[job.offset, job.info and job.info.status] for job in client.jobs(info.name, limit=1000)])
    told.append([member.node for member in client.cluster().members])
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
