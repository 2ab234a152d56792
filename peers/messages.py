"""The commands: everything that changes the model, as frozen values that the log keeps.

A command's code is its place on disk: never reuse one, never change the order of fields, append new ones at the end.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

Ranges = tuple[tuple[int, int], ...]  # (first, count), ...


class Noop(NamedTuple):
    """The empty entry with which a primary begins its term."""

    node: int = 0  # who that is


class OpenSession(NamedTuple):
    secret: str
    client: str
    sequence: int  # the sequence of the hello, when it was a counted one, else 0


class EndSession(NamedTuple):
    session: int
    expired: bool  # True: it was silent for too long, so what it held counts as a failure


class Refuse(NamedTuple):
    """A counted request that was refused before it reached the log proper: it uses up its sequence."""

    code: str
    message: str
    hint: str


class Count(NamedTuple):
    """A read with a counted sequence: it only uses it up."""


class Create(NamedTuple):
    name: str
    kind: str
    options: dict[str, Any]


class Configure(NamedTuple):
    name: str
    options: dict[str, Any]


class Delete(NamedTuple):
    name: str


class Purge(NamedTuple):
    name: str


class Pause(NamedTuple):
    name: str
    paused: bool


class CreateGroup(NamedTuple):
    topic: str
    group: str
    start: str
    at: int = 0  # start "offset": an offset; "time": ms since 1970


class DeleteGroup(NamedTuple):
    topic: str
    group: str


class SeekGroup(NamedTuple):
    topic: str
    group: str
    start: str
    at: int


class RetryGroup(NamedTuple):
    """Dead letters of a group are its messages again, the oldest first, `limit` of them."""

    topic: str
    group: str
    limit: int


class Append(NamedTuple):
    queue: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    size: int  # bytes of the payload
    plain: bool  # the payload has no headers
    properties: dict[str, Any] | None = None  # what the batch asks for, as section 4 of docs/protocol.md names it
    keys: tuple[str | None, ...] | None = None  # of each message, if the queue or topic is ordered by key


class Pull(NamedTuple):
    queue: str
    group: str
    pull: int  # the sequence of the request, by which a repeated one finds its lease
    messages: int
    size_max: int
    lease_ms: int


class Ack(NamedTuple):
    lease: int
    ranges: Ranges


Output: TypeAlias = tuple[str, int, int, tuple[str | None, ...] | None]  # (queue, count, bytes, keys)


class Complete(NamedTuple):
    lease: int
    ranges: Ranges
    outputs: tuple[Output, ...] = ()  # messages to append; their bodies are behind the results
    total: int = 0  # bodies: results and outputs
    size: int = 0  # bytes of the results
    plain: bool = True  # the payload has no headers


class Nack(NamedTuple):
    lease: int
    ranges: Ranges
    delay_ms: int | None
    has_error: bool
    reason: str = ""


class Reject(NamedTuple):
    lease: int
    ranges: Ranges
    reason: str
    has_error: bool
    error_text: str = ""


class Release(NamedTuple):
    lease: int
    ranges: Ranges | None


class Extend(NamedTuple):
    leases: tuple[int, ...]
    lease_ms: int


class Expire(NamedTuple):
    """The lease's time is over. `ends_ms` is the end that was seen: a lease extended meanwhile does not end."""

    lease: int
    ends_ms: int


class Outdate(NamedTuple):
    """Messages of a queue wait for longer than their time to live."""

    queue_id: int


class ForgetIds(NamedTuple):
    """The time in which these ids of a queue are not taken again is over."""

    queue_id: int
    ids: tuple[str, ...]


class Cancel(NamedTuple):
    queue: str
    offset: int
    count: int = 1  # type: ignore[assignment]


class Retry(NamedTuple):
    queue: str
    offset: int
    count: int = 1  # type: ignore[assignment]


class Trim(NamedTuple):
    """Messages of a topic before this offset are past their retention."""

    queue: str
    before: int


class Forget(NamedTuple):
    """Outcomes of a queue that were logged up to `home` are past their time."""

    queue: str
    home: int


class Sweep(NamedTuple):
    """Drop the next stretch of what a purge or a delete left behind (a queue id: its name may be taken anew)."""

    queue_id: int


class TellChildren(NamedTuple):
    """Let the next go of the batches whose parents have ended."""


class Progress(NamedTuple):
    """The holder of a job tells how far it is: a fraction, 0 to 1."""

    lease: int
    offset: int
    progress: float
    text: str


class LogLines(NamedTuple):
    """The holder of a job adds lines to its log: the bodies of the payload."""

    lease: int
    offset: int


class RetryDead(NamedTuple):
    """Dead letters of a queue become new jobs of it, the oldest first, `limit` of them."""

    queue: str
    limit: int


class Move(NamedTuple):
    """Ready messages of a queue go to another one, the oldest first, `limit` of them."""

    queue: str
    target: str
    limit: int


class Call(NamedTuple):
    """An append of one message by somebody who waits for its outcome. `append`: the fields of an Append."""

    append: tuple[Any, ...]


class ForgetJob(NamedTuple):
    """The outcome of a job goes now."""

    queue: str
    offset: int


class GiveUp(NamedTuple):
    """These log entries are damaged, and nobody has a sound copy: what lies in them ends."""

    entries: tuple[int, ...]


class Address(NamedTuple):
    """Where clients find a node, and where other nodes do; `key`: its public key (empty: without encryption)."""

    client: str
    listen: str
    publish: str
    key: str = ""


class SetMembers(NamedTuple):
    """Who votes and who follows from now on. Effective when appended, not when committed."""

    voters: tuple[int, ...]
    learners: tuple[int, ...]
    addresses: tuple[tuple[Any, ...], ...] = ()  # (node, *Address) of all that ever belonged
    disks: tuple[tuple[int, int], ...] = ()  # (node, disk) of the members, as far as they were met


class AddSchedule(NamedTuple):
    """Its payload is the job that the schedule makes. `every_ms` 0: the `cron` line says when, in time zone `tz`."""

    name: str
    queue: str
    cron: str | None
    tz: str
    every_ms: int
    first_ms: int  # the first due time
    missed: str
    overlap: bool
    replace: bool
    size: int  # bytes of the payload
    plain: bool  # the payload has no headers
    properties: dict[str, Any] | None  # of the job, as those of an Append
    keys: tuple[str | None, ...] | None = None


class RemoveSchedule(NamedTuple):
    name: str


class PauseSchedule(NamedTuple):
    name: str
    paused: bool
    reason: str


class FireSchedule(NamedTuple):
    """The due time `due_ms` has come, and after it comes `next_ms`. A schedule that waits for another one stays as is.

    `run_ms`: the due time that the job is for, a later one if several were missed; None: they are passed over.
    """

    name: str
    due_ms: int
    run_ms: int | None
    next_ms: int


class RunSchedule(NamedTuple):
    name: str


Command = (
    Noop | OpenSession | EndSession | Refuse | Count | Create | Configure | Delete | Purge | Pause | CreateGroup
    | GiveUp | TellChildren
    | DeleteGroup | Append | Pull | Ack | Complete | Nack | Reject | Release | Extend | Expire | Cancel | Retry | Trim
    | Forget | Sweep | SetMembers | Outdate | ForgetIds | AddSchedule | RemoveSchedule | PauseSchedule | FireSchedule
    | RunSchedule | Progress | LogLines | RetryDead | Move | Call | ForgetJob | SeekGroup
    | RetryGroup
)  # fmt: skip

KINDS: dict[int, type[Any]] = {
    1: Noop, 2: OpenSession, 3: EndSession, 4: Refuse, 5: Count, 6: Create, 7: Configure, 8: Delete, 9: Purge,
    10: Pause, 57: GiveUp, 58: TellChildren,
    11: CreateGroup, 12: DeleteGroup, 13: Append, 14: Pull, 15: Ack, 16: Complete, 17: Nack, 18: Reject, 19: Release,
    20: Extend, 21: Expire, 22: Cancel, 23: Retry, 24: Trim, 25: Forget, 26: Sweep,
    27: SetMembers, 28: Outdate, 29: ForgetIds, 40: AddSchedule, 41: RemoveSchedule, 42: PauseSchedule,
    43: FireSchedule, 44: RunSchedule, 45: Progress, 46: LogLines, 47: RetryDead, 48: Move, 49: Call, 50: ForgetJob,
    55: SeekGroup, 56: RetryGroup,
}  # fmt: skip
CODES: dict[type[Any], int] = {kind: code for code, kind in KINDS.items()}
