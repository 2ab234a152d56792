"""What a node tells about its cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """A node of the cluster, as the node that was asked sees it. `endpoint` is for clients.

    `match`: up to which entry its log surely is that of the primary; `lag` and `lag_bytes`: entries and bytes of the
    log that it is behind; `heard_ms`: how long ago it was heard of. These are None where the node that was asked is not
    the primary, or does not know: the first three of who has not answered since the election, the last of one whose
    channel broke. Of what is no longer in the log `lag_bytes` knows nothing: who needs that is sent a snapshot.
    """

    node: int
    voter: bool
    endpoint: str | None
    match: int | None
    lag: int | None
    lag_bytes: int | None
    heard_ms: int | None
    connected: bool


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What a node made of a `snapshot`: its checkpoint holds everything up to log entry `applied`, and its log begins
    after entry `floor`; it is shorter by `entries`. `freed_bytes`: what its data takes less. `ms`: how long it took."""

    node: int
    applied: int
    floor: int
    entries: int
    freed_bytes: int
    ms: int

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> SnapshotInfo:
        return cls(**{name: body[name] for name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """The cluster as `node` sees it. `role`: "primary", "replica", or, in an election, "asking" or
    "candidate"; `primary`: the node that is the primary, None if none is known;
    `commit`, `applied`, `floor`: places in the log."""

    node: int
    role: str
    term: int
    primary: int | None
    commit: int
    applied: int
    floor: int
    members: tuple[MemberInfo, ...]

    @property
    def primary_endpoint(self) -> str | None:
        """Where the primary listens for clients, if one is known."""
        return next((each.endpoint for each in self.members if each.node == self.primary), None)

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> ClusterInfo:
        members = tuple(MemberInfo(**{name: item[name] for name in MemberInfo.__slots__}) for item in body["members"])
        return cls(**{name: body[name] for name in cls.__slots__ if name != "members"}, members=members)
