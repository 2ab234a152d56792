"""What the daemon tells about queues, topics, groups and jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..peers import wire


class Staleness(NamedTuple):
    """How old a node's own copy was when it answered: it shows the log up to `applied`, and last heard its primary
    `lag_ms` ago (0: it is the primary)."""

    applied: int
    lag_ms: int


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """A group of a topic. Counts are messages; `floor`: everything below this offset is done.

    `lag`: how many messages are not done (ready, delayed, waiting for their parents, or leased); `oldest_ms`: the age
    of the oldest of them (None: there is none).
    """

    name: str
    ready: int
    delayed: int
    waiting: int
    leased: int
    done: int
    dead: int
    floor: int
    lag: int
    oldest_ms: int | None

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> GroupInfo:
        return cls(**{name: body[name] for name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class Info:
    """A queue or a topic. Counts are messages (of a topic: the sums over its groups); `bytes` is what they take.

    `next` is the offset of the next message, `first` that of the oldest kept one, `oldest_ms` the age of the oldest
    message that is not done (None: there is none). `options` are the limits as the daemon keeps them, None meaning no
    limit.
    """

    name: str
    kind: str
    options: dict[str, Any]
    paused: bool
    created_ms: int
    ready: int
    delayed: int
    waiting: int
    leased: int
    done: int
    dead: int
    bytes: int
    oldest_ms: int | None
    next: int
    first: int
    groups: tuple[GroupInfo, ...]

    @property
    def unfinished(self) -> int:
        """Messages that are not done: ready, delayed, waiting for their parents, or leased."""
        return self.ready + self.delayed + self.waiting + self.leased

    @property
    def max_failures(self) -> int | None:
        """After how many failures a message is dead. None: never."""
        return self.options.get("max_failures")

    @property
    def retry_delay_ms(self) -> int:
        """The pause before a failed message is given again; with `retry_backoff` "exponential" that after the first
        failure."""
        return int(self.options.get("retry_delay_ms", 0))

    @property
    def retry_backoff(self) -> str:
        """ "constant" or "exponential": twice the pause after each failure."""
        return str(self.options.get("retry_backoff", "constant"))

    @property
    def retry_delay_max_ms(self) -> int | None:
        """The longest pause."""
        return self.options.get("retry_delay_max_ms")

    @property
    def retry_jitter(self) -> int:
        """By how many percent at most a pause is shorter."""
        return int(self.options.get("retry_jitter", 0))


class QueueInfo(Info):
    """A queue: each message goes to one consumer."""

    __slots__ = ()

    @property
    def max_messages(self) -> int | None:
        """How many messages may be there at most. None: any number."""
        return self.options.get("max_messages")

    @property
    def max_bytes(self) -> int | None:
        """How many bytes may be there at most. None: any number."""
        return self.options.get("max_bytes")

    @property
    def max_message(self) -> int | None:
        """How many bytes one body may have. None: as many as the daemon takes."""
        return self.options.get("max_message")

    @property
    def overflow(self) -> str:
        """What happens at max_messages or max_bytes: "reject" or "drop_oldest"."""
        return str(self.options.get("overflow", "reject"))

    @property
    def rate(self) -> tuple[int, int] | None:
        """How many messages are given out in how many milliseconds. None: any number."""
        rate = self.options.get("rate")
        return None if rate is None else (int(rate[0]), int(rate[1]))

    @property
    def max_leased(self) -> int | None:
        """How many messages may be in hand at once. None: any number."""
        return self.options.get("max_leased")

    @property
    def ordered_by(self) -> str | None:
        """ "key": one message of a key is in hand at a time. None: any number."""
        return self.options.get("ordered_by")

    @property
    def result_ttl_ms(self) -> int | None:
        """How long results of jobs are kept."""
        return self.options.get("result_ttl_ms")

    @property
    def unique_ms(self) -> int | None:
        """How long the id of a message is taken."""
        return self.options.get("unique_ms")

    @property
    def result_queue(self) -> str | None:
        """Where results are sent as well."""
        return self.options.get("result_queue")


class TopicInfo(Info):
    """A topic: each group sees every message."""

    __slots__ = ()

    @property
    def retention_ms(self) -> int | None:
        """Messages older than this go. None: they are kept."""
        return self.options.get("retention_ms")

    @property
    def retention_bytes(self) -> int | None:
        """What is kept takes at most so many bytes. None: everything is kept."""
        return self.options.get("retention_bytes")

    @property
    def retention_messages(self) -> int | None:
        """At most so many messages are kept. None: all of them."""
        return self.options.get("retention_messages")

    @property
    def lag(self) -> int:
        """How many messages the group that is furthest behind has not done."""
        return max((group.lag for group in self.groups), default=0)


def info_from_body(body: Mapping[str, Any]) -> QueueInfo | TopicInfo:
    """The info of an answer."""
    fields = {name: body[name] for name in Info.__slots__ if name != "groups"}
    fields["options"] = dict(body["options"])
    groups = tuple(GroupInfo.from_body(group) for group in body["groups"])
    kind = TopicInfo if body["kind"] == "topic" else QueueInfo
    return kind(**fields, groups=groups)


def unfinished(body: Mapping[str, Any]) -> int:
    """How many messages of a queue, as `describe` tells of it, are not done."""
    return sum(int(body[count]) for count in ("ready", "delayed", "waiting", "leased"))


def has_room(body: Mapping[str, Any], messages: int) -> bool:
    """Do `messages` more fit under the limits of this queue?"""
    options = body["options"]
    fits = options.get("max_messages") is None or unfinished(body) + messages <= options["max_messages"]
    return fits and (options.get("max_bytes") is None or body["bytes"] < options["max_bytes"])


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job as the daemon last told it. Of a dead one `dead_offset` is its place in the dead-letter queue, and, if it
    was retried, `retried_as` the id of the job that it is now."""

    offset: int
    status: str
    attempt: int
    failures: int
    dead_offset: int | None = None
    reason: str | None = None
    retried_as: str | None = None

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> JobInfo:
        return cls(
            body["offset"],
            body["status"],
            body.get("attempt", 0),
            body.get("failures", 0),
            body.get("dead_offset"),
            body.get("reason"),
            body.get("retried_as"),
        )


class Reason(NamedTuple):
    """Why a job does not run: `code` for programs, `text` for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class ScheduleInfo:
    """A schedule. Times are ms since 1970; `next_ms` is None while it is paused, `last_...` before its first job.

    `cron` and `tz`, or `every_ms`: when. `missed`, `overlap`: as it was added with. `reason`: why it paused itself.
    `fired`, `skipped`: how many jobs it made, and how many due times it passed over. `body`, `headers`: those of its
    jobs, where one schedule was asked for.
    """

    name: str
    queue: str
    cron: str | None
    tz: str
    every_ms: int | None
    missed: str
    overlap: bool
    properties: dict[str, Any]
    created_ms: int
    paused: bool
    reason: str
    next_ms: int | None
    fired: int
    skipped: int
    last_due_ms: int | None
    last_ms: int | None
    last_offset: int | None
    body: bytes | None = None
    headers: dict[str, Any] = field(default_factory=dict)

    @property
    def last_job(self) -> str | None:
        """The id of the latest job. None: there was none."""
        return None if self.last_offset is None else f"{self.queue}/{self.last_offset}"

    @classmethod
    def from_body(cls, body: Mapping[str, Any], payload: bytes | None = None) -> ScheduleInfo:
        told = {name: body[name] for name in cls.__slots__ if name not in ("body", "headers")}
        if payload is None:
            return cls(**told)
        (job,), headers = wire.unpack_payload(payload)
        return cls(**told, body=job, headers=(headers and headers[0]) or {})
