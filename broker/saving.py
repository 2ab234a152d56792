"""A checkpoint as rows: what is written, and which rows and entries go with it."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import msgpack

from .checkpoint import Checkpoint
from .rows import key, put

pack = struct.Struct(">Q").pack


class Tables(NamedTuple):
    """The tables of an environment, in the order of `rows.TABLES`."""

    log: Any
    extents: Any
    outcomes: Any
    steps: Any
    state: Any
    pins: Any
    notes: Any
    cells: Any


def save(txn: Any, db: Tables, floor: int, made: Checkpoint) -> None:
    """Into the turn's transaction. `floor`: that of the log, until now."""
    for queue_id, extent in made.extents:
        put(txn, db.extents, key(queue_id, extent.first), msgpack.packb(extent))
    for queue_id, home, step in made.steps:
        put(txn, db.steps, key(queue_id, home), msgpack.packb(step))
        for outcome in step:
            row = msgpack.packb((outcome.first, outcome.count, home))
            put(txn, db.outcomes, key(queue_id, outcome.first), row)
    for queue_id, notes, gone in made.notes:
        for first in gone:
            txn.delete(key(queue_id, first), db=db.notes)
        for note in notes:
            put(txn, db.notes, key(queue_id, note.first), msgpack.packb(note))
    for queue_id, packed in made.queues.items():
        put(txn, db.state, b"q" + pack(queue_id), packed)
    for session_id, packed in made.sessions.items():
        put(txn, db.state, b"s" + pack(session_id), packed)
    put(txn, db.state, b"meta", made.meta)
    put(txn, db.state, b"consensus", made.consensus)
    for queue_id, first in made.gone.extents:
        txn.delete(key(queue_id, first), db=db.extents)
    for queue_id, home, firsts in made.gone.steps:
        txn.delete(key(queue_id, home), db=db.steps)
        for first in firsts:
            txn.delete(key(queue_id, first), db=db.outcomes)
    for queue_id in made.gone.queues:
        txn.delete(b"q" + pack(queue_id), db=db.state)
    for session_id in made.gone.sessions:
        txn.delete(b"s" + pack(session_id), db=db.state)
    for cell, value in made.cells.items():
        if value is None:
            txn.delete(cell, db=db.cells)
        else:
            put(txn, db.cells, cell, value)
    _delete_entries(txn, db, floor, made)


def _delete_entries(txn: Any, db: Tables, floor: int, made: Checkpoint) -> None:
    """Entries up to the new floor go, unless something lives in them; a pin says so of those above it."""
    for index in sorted(made.kept):
        if index > made.floor:
            txn.put(pack(index), b"", db=db.pins)
    for index in sorted(made.gone.homes):
        if index <= floor:
            txn.delete(pack(index), db=db.log)
        else:
            txn.delete(pack(index), db=db.pins)
    for index in range(floor + 1, made.floor + 1):
        place = pack(index)
        if not txn.delete(place, db=db.pins) and index not in made.kept:
            txn.delete(place, db=db.log)
