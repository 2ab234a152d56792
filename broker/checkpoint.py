"""The model as rows on disk: one for each queue and session that changed, and one for the rest."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import msgpack

from ..peers.log import Entry, HardState
from ..peers.messages import Address
from ..peers.raft.words import Members
from .extents import Extent, Outcome
from .groups import Group, Lease, Span
from .model import Model
from .notes import Note
from .queues import Options, Queue
from .ranges import RangeSet
from .sessions import Answer, Session
from .state import Gone, State


class Consensus(NamedTuple):
    """What must be known of the log below its floor: the term of the entry there, and the members, from there on."""

    floor: int
    term: int
    history: list[tuple[int, Members]]


class Checkpoint(NamedTuple):
    """What goes to disk in the transaction that moves `applied` on: rows to write, and rows and entries to delete.

    `kept`: log entries since the last checkpoint in which something lives; they outlive the floor.
    """

    applied: int
    floor: int  # log entries up to here go; those behind it stay for nodes that lag
    consensus: bytes
    meta: bytes
    queues: dict[int, bytes]
    sessions: dict[int, bytes]
    extents: list[tuple[int, Extent]]  # (queue id, row)
    steps: list[tuple[int, int, list[Outcome]]]  # (queue id, home, outcomes)
    notes: list[tuple[int, list[Note], list[int]]]  # (queue id, rows, first offsets of those that go before)
    kept: set[int]
    gone: Gone


class Writes(NamedTuple):
    """What one turn has to make durable, all of it in one transaction, in this order."""

    truncate_from: int | None
    entries: list[Entry]
    hard: HardState | None
    checkpoint: Checkpoint | None


def take(model: Model, consensus: Consensus) -> Checkpoint:
    """Everything that changed since the last checkpoint.

    Rows in memory are handed over, to be read from disk from now on: commit this before the model is asked again.
    """
    state = model.state
    extents: list[tuple[int, Extent]] = []
    steps: list[tuple[int, int, list[Outcome]]] = []
    notes: list[tuple[int, list[Note], list[int]]] = []
    queues: dict[int, bytes] = {}
    leases: dict[int, list[Lease]] = {}
    for lease in state.leases.values():
        leases.setdefault(lease.queue_id, []).append(lease)
    for queue_id in sorted(state.touched_queues):
        queue = state.by_id.get(queue_id)
        if queue is None:
            continue
        extents += [(queue_id, extent) for extent in queue.extents.take_recent()]
        steps += [(queue_id, home, step) for home, step in queue.outcomes.take_recent().items()]
        notes.append((queue_id, *queue.notes.take_recent()))
        queues[queue_id] = msgpack.packb(_pack_queue(queue, leases.get(queue_id, [])))
    sessions = {id: _pack_session(state.sessions[id]) for id in sorted(state.touched_sessions) if id in state.sessions}
    kept = {extent.home for _, extent in extents} | {home for _, home, _ in steps} | state.schedules.take_fresh()
    packed = msgpack.packb(consensus)
    made = Checkpoint(
        state.applied,
        consensus.floor,
        packed,
        _pack_meta(state),
        queues,
        sessions,
        extents,
        steps,
        notes,
        kept,
        state.gone,
    )
    state.gone = Gone()
    state.touched_queues = set()
    state.touched_sessions = set()
    return made


def unpack_consensus(raw: bytes) -> Consensus:
    """What a checkpoint says of the log below its floor."""
    floor, term, history = msgpack.unpackb(raw, use_list=False)
    return Consensus(floor, term, [(index, Members(*members)) for index, members in history])


def digest(model: Model) -> str:
    """A fingerprint of the state: equal on all nodes at equal `applied`, and after a replay. Not of what is on disk."""
    state = model.state
    leases: dict[int, list[Lease]] = {}
    for lease in state.leases.values():
        leases.setdefault(lease.queue_id, []).append(lease)
    parts: list[Any] = [_pack_meta(state)]
    parts += [_pack_queue(queue, leases.get(id, [])) for id, queue in sorted(state.by_id.items())]
    parts += [_pack_session(session) for _, session in sorted(state.sessions.items())]
    return hashlib.sha256(msgpack.packb(parts)).hexdigest()


def _pack_meta(state: State) -> bytes:
    packed: bytes = msgpack.packb(
        {
            "applied": state.applied,
            "stamp_ms": state.stamp_ms,
            "next_queue_id": state.next_queue_id,
            "last_event": state.last_event,
            "schedules": state.schedules.pack(),
            "shares": sorted(state.shares.items()),
            "addresses": sorted(state.addresses.items()),
            "disks": sorted(state.disks.items()),
        }
    )
    return packed


def _pack_session(session: Session) -> bytes:
    fields = (
        session.id, session.secret, session.client, session.last, list(session.answers.items()),
        list(session.calls.items()), list(session.cancelled.items()),
    )  # fmt: skip
    packed: bytes = msgpack.packb(fields)
    return packed


def _pack_queue(queue: Queue, leases: list[Lease]) -> list[Any]:
    return [
        queue.id, queue.name, queue.kind, queue.options._asdict(), queue.created_ms, queue.paused, queue.next,
        queue.dropped, queue.bytes, queue.trimmed, queue.deleted, queue.outcomes.pack(), queue.notes.pack(),
        [_pack_group(group, [lease for lease in leases if lease.group is group]) for group in queue.groups.values()],
    ]  # fmt: skip


def _pack_group(group: Group, leases: list[Lease]) -> list[Any]:
    return [
        group.name, group.floor, group.cursor, group.done, group.dead, list(group.acked), sorted(group.again),
        sorted(group.delayed),
        [
            (it.id, it.session, it.pull, it.ends_ms, it.since_ms, it.spans)
            for it in sorted(leases, key=lambda it: it.id)
        ],
    ]  # fmt: skip


def restore(model: Model, meta: bytes | None, queues: list[bytes], sessions: list[bytes]) -> None:
    """Fill an empty model from the rows of a checkpoint."""
    state = model.state
    if meta is None:
        return
    fields = msgpack.unpackb(meta)
    state.applied, state.stamp_ms = fields["applied"], fields["stamp_ms"]
    state.next_queue_id = fields["next_queue_id"]
    state.last_event = tuple(fields["last_event"])
    state.schedules.restore(fields["schedules"])
    state.shares = dict(fields["shares"])
    state.addresses = {node: Address(*address) for node, address in fields["addresses"]}
    state.disks = dict(fields["disks"])
    for raw in sessions:
        id, secret, client, last, answers, calls, cancelled = msgpack.unpackb(raw, use_list=False)
        session = Session(id, secret, client, last)
        session.answers = {sequence: Answer(*answer) for sequence, answer in answers}
        session.calls = {sequence: (Answer(*answer), queue) for sequence, (answer, queue) in calls}
        session.cancelled = {lease: list(ranges) for lease, ranges in cancelled}
        state.sessions[id] = session
    for raw in queues:
        _unpack_queue(state, msgpack.unpackb(raw, use_list=False))


def _unpack_queue(state: State, fields: Any) -> None:
    (
        id,
        name,
        kind,
        options,
        created_ms,
        paused,
        next_offset,
        dropped,
        size,
        trimmed,
        deleted,
        outcomes,
        noted,
        groups,
    ) = fields
    queue = Queue(id, name, kind, Options(**options), created_ms, state.reader, next_offset)
    queue.paused, queue.dropped, queue.bytes, queue.trimmed, queue.deleted = paused, dropped, size, trimmed, deleted
    queue.outcomes.restore(outcomes)
    queue.notes.restore(noted)
    queue.groups = {}
    state.by_id[id] = queue
    if deleted:
        state.unswept[id] = queue
    else:
        state.queues[name] = queue
    for group_fields in groups:
        _unpack_group(state, queue, group_fields)
    if not deleted and (queue.dropped < queue.keeps_from or queue.notes.doomed):
        state.unswept[id] = queue


def _unpack_group(state: State, queue: Queue, fields: Any) -> None:
    name, floor, cursor, done, dead, acked, again, delayed, leases = fields
    group = Group(name, floor)
    group.cursor, group.done, group.dead = cursor, done, dead
    group.acked = RangeSet(acked)
    for span in again:
        group.put_again(Span(*span))
    for until_ms, span in delayed:
        group.put_delayed(Span(*span), until_ms)
    queue.groups[name] = group
    for lease_id, session_id, pull, ends_ms, since_ms, spans in leases:
        lease = Lease(lease_id, queue.id, group, session_id, pull, [Span(*span) for span in spans], ends_ms, since_ms)
        state.leases[lease_id] = lease
        group.leased += sum(span.end - span.first for span in lease.spans)
        if session_id in state.sessions:
            state.sessions[session_id].leases[pull] = lease_id
