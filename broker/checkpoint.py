"""The model as rows on disk: one for each queue and session that changed, and one for the rest."""

from __future__ import annotations

import hashlib
from collections import deque
from typing import Any, NamedTuple

import msgpack

from ..peers.log import Entry, HardState
from ..peers.messages import Address
from ..peers.raft.words import Members
from .cells import restore_families, restore_shelf, take_cells
from .dependents import ParentEnd
from .extents import Extent, Outcome
from .groups import Group, Lease, Span
from .keys import KeyOrder
from .model import Model
from .notes import Note
from .options import Options, with_options
from .queues import Queue
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
    cells: dict[bytes, bytes | None]  # small rows of several kinds, by key; None: it goes


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
    cells, state.cells = state.cells, {}
    leases: dict[int, list[Lease]] = {}
    for lease in state.leases.values():
        leases.setdefault(lease.queue_id, []).append(lease)
    for queue_id in sorted(state.touched_queues):
        queue = state.by_id.get(queue_id)
        if queue is None:
            continue
        cells |= take_cells(queue)
        extents += [(queue_id, extent) for extent in queue.extents.take_recent()]
        steps += [(queue_id, home, step) for home, step in queue.outcomes.take_recent().items()]
        notes.append((queue_id, *queue.notes.take_recent()))
        queues[queue_id] = msgpack.packb(_pack_queue(queue, leases.get(queue_id, [])))
    sessions = {id: _pack_session(state.sessions[id]) for id in sorted(state.touched_sessions) if id in state.sessions}
    kept = {extent.home for _, extent in extents} | {home for _, home, _ in steps} | state.schedules.take_fresh()
    packed = msgpack.packb(consensus)
    made = Checkpoint(
        state.applied, consensus.floor, packed, _pack_meta(state), queues, sessions, extents, steps, notes, kept,
        state.gone, cells,
    )  # fmt: skip
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
    for id, queue in sorted(state.by_id.items()):
        parts.append(_pack_queue(queue, leases.get(id, [])))
        parts += [group.shelf.pack() for group in queue.groups.values()]
        parts += [queue.held.pack(), queue.dependents.awaited.pack()]
    parts += [_pack_session(session) for _, session in sorted(state.sessions.items())]
    return hashlib.sha256(msgpack.packb(parts)).hexdigest()


def _pack_meta(state: State) -> bytes:
    packed: bytes = msgpack.packb(
        {
            "applied": state.applied,
            "stamp_ms": state.stamp_ms,
            "next_queue_id": state.next_queue_id,
            "parent_ends": list(state.parent_ends),
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
    of_group: dict[str, list[Lease]] = {}  # not each group through all leases: a topic may have a thousand groups
    for lease in leases:
        of_group.setdefault(lease.group.name, []).append(lease)
    return [
        queue.id, queue.name, queue.kind, queue.options._asdict(), queue.created_ms, queue.paused, queue.next,
        queue.dropped, queue.bytes, queue.trimmed, queue.deleted, queue.outcomes.pack(), queue.notes.pack(),
        queue.holes.pack(), queue.next_group_id, queue.has_properties, queue.uniques.count,
        queue.rate.next_us,
        [_pack_group(group, of_group.get(group.name, [])) for group in queue.groups.values()],
    ]  # fmt: skip


def _pack_group(group: Group, leases: list[Lease]) -> list[Any]:
    return [
        group.name, group.id, group.floor, group.cursor, group.done, group.dead, group.acked.pack(),
        group.placed.pack(), None if group.keys is None else group.keys.pack(),
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
    state.parent_ends = deque(ParentEnd(*end) for end in fields["parent_ends"])
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
        id, name, kind, options, created_ms, paused, next_offset, dropped, size, trimmed, deleted, outcomes, noted,
        holes, next_group_id, has_properties, ids, rate_us, groups,
    ) = fields  # fmt: skip
    queue = Queue(id, name, kind, with_options(Options(), options), created_ms, state.reader, state.known, next_offset)
    queue.paused, queue.dropped, queue.bytes, queue.trimmed, queue.deleted = paused, dropped, size, trimmed, deleted
    queue.outcomes.restore(outcomes)
    queue.notes.restore(noted)
    queue.holes = RangeSet.unpack(holes)
    queue.next_group_id, queue.has_properties, queue.uniques.count = next_group_id, has_properties, ids
    queue.rate.next_us = rate_us
    restore_families(state.reader, queue)
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
    name, group_id, floor, cursor, done, dead, acked, placed, keys, leases = fields
    group = Group(name, floor, group_id, None if keys is None else KeyOrder.unpack(keys))
    group.cursor, group.done, group.dead = cursor, done, dead
    group.acked, group.placed = RangeSet.unpack(acked), RangeSet.unpack(placed)
    restore_shelf(state.reader, queue.id, group)
    queue.groups[name] = group
    for lease_id, session_id, pull, ends_ms, since_ms, spans in leases:
        lease = Lease(lease_id, queue.id, group, session_id, pull, [Span(*span) for span in spans], ends_ms, since_ms)
        state.leases[lease_id] = lease
        group.leased += sum(span.end - span.first for span in lease.spans)
        if session_id in state.sessions:
            state.sessions[session_id].leases[pull] = lease_id
