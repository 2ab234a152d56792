"""For a daemon that has nobody to ask for a sound copy: what is damaged goes to a file, and it goes on without. LOSSY.

One entry at the end of the log, `GiveUp`, ends what lies in damaged entries: so a replay comes to the same. A damaged
entry that the model has not yet taken in ends the log: nobody knows what it did, and what comes behind it relies on it.
A message of a topic keeps its place there, for readers count on offsets: an empty one with a header stands for it.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from ..peers.errors import InvalidArgument
from ..peers.log import CorruptEntry, Entry, HardState, decode, encode, verify
from ..peers.messages import Append, Call, GiveUp, Noop
from ..peers.wire import pack_payload
from .check import Damaged, check_folder
from .checkpoint import Writes
from .config import Config
from .extents import Extent
from .folder import StartError, join_anew, sync_folder
from .force import Known
from .options import TOPIC
from .origins import LOST
from .rows import put, unseal
from .store import CorruptRow, Recovered, Store

_INDEX = struct.Struct(">Q")
WHY = "the data of this message was damaged, and given up"


class Aside(NamedTuple):
    """What was given up: `gone`, of which `file` has the bytes. `cut`: from there on the log is gone; None: it is not.

    `behind`: how many sound entries went with that.
    """

    file: Path
    gone: list[Damaged]
    cut: int | None
    behind: int


class _Lost(NamedTuple):
    """Entries by what becomes of them. `damaged`: those whose content is given up; `cut`: (index, raw) of the rest."""

    damaged: list[int]
    cut: list[tuple[int, bytes]]


def set_aside(config: Config) -> Aside | None:
    """Make the stopped daemon of `config` able to go on. None: there is no damage, and nothing was changed.

    Raises StartError if it runs, or if more is damaged than log entries; InvalidArgument if it belongs to a cluster.
    """
    folder = Path(config.node.data)
    if config.cluster.peers:
        raise InvalidArgument(
            f"node {config.node.id} belongs to a cluster: the others have what is damaged here",
            f"start it, and it fetches that from them. If it does not start: {join_anew(config.node.id)}",
        )
    report = check_folder(folder, in_cluster=False)
    for found in report.damaged:
        if found.entry is None:
            raise StartError(
                f"{folder}: {found.why}: that is no message, but how messages are found and what became of them",
                "restore the data folder from a copy; nothing was changed",
            )
    store = Store(folder, config.storage.map_size_bytes, config.storage.durability)
    try:
        return _Work(store, config, report.damaged).do()
    except (CorruptEntry, CorruptRow) as fault:
        raise StartError(
            f"{folder}: {fault}", "restore the data folder from a copy; what is damaged was not touched"
        ) from fault
    finally:
        store.close()


class _Work:
    """On an open store. In this order: copy, give up, and only then let go; so a crash at any point loses no copy."""

    def __init__(self, store: Store, config: Config, damaged: list[Damaged]) -> None:
        self._store = store
        self._damaged = damaged
        self._found = store.recover()
        self._end = Known(config, self._found)
        self._node = config.node.id

    def do(self) -> Aside | None:
        cut = self._read_log()
        self._check_alone()
        if cut is None and not self._damaged:
            return None
        indexes = {it.entry for it in self._damaged if it.entry is not None and (cut is None or it.entry < cut)}
        lost = _Lost(sorted(indexes), [] if cut is None else list(self._raws_from(cut)))
        gone = self._damaged + _of_cut(cut or 0, lost.cut)
        at = time.time()
        file = self._copy(at, lost, gone)
        self._give_up(at, lost.damaged, cut)
        self._let_go(lost.damaged)
        sound = [index for index, raw in lost.cut if _is_sound(index, raw)]
        return Aside(file, gone, cut, len(sound))

    def _read_log(self) -> int | None:
        """Read what the next start would. Returns the first entry that stops it. Raises CorruptEntry, StartError."""
        try:
            for entry in self._store.replay():
                self._end.note(entry)
        except CorruptEntry as fault:
            raw = self._store.raw_entry(fault.index)
            if raw is not None and _is_sound(fault.index, raw):
                raise  # it is no damage that it is not understood
            meta = self._found.meta
            applied = 0 if meta is None else msgpack.unpackb(meta, use_list=False, strict_map_key=False)["applied"]
            if fault.index <= applied:
                raise StartError(
                    f"{self._store.folder}: {fault}; it was kept for other nodes, and this one needs it in its log",
                    "restore the data folder from a copy; nothing was changed",
                ) from fault
            return fault.index
        return None

    def _check_alone(self) -> None:
        me, found = self._node, self._found
        nodes = {*self._end.members.everyone} | ({*found.disks} if found.consensus is None else set())
        if nodes != {me}:
            raise InvalidArgument(
                f"node.id is {me}, but the members in {self._store.folder} are {', '.join(map(str, sorted(nodes)))}",
                "give the configuration of this node with --config; the node of a cluster gets what is damaged from "
                "the others",
            )

    def _raws_from(self, index: int) -> Iterable[tuple[int, bytes]]:
        with self._store.rewriting() as (txn, db):
            cursor = txn.cursor(db.log)
            if cursor.set_range(_INDEX.pack(index)):
                return [(_INDEX.unpack(key)[0], bytes(raw)) for key, raw in cursor]
        return []

    def _copy(self, at: float, lost: _Lost, gone: list[Damaged]) -> Path:
        """The bytes of everything that goes: a stream of msgpack maps, the first of which tells what it is."""
        folder = self._store.folder
        at_ms = int(at * 1000)
        when = time.strftime("%Y%m%dT%H%M%S", time.gmtime(at_ms // 1000))
        file = folder / f"set-aside-{when}.{at_ms % 1000:03d}Z.msgpack"
        told: dict[int, list[tuple[Any, ...]]] = {}
        for it in gone:
            told.setdefault(it.entry or 0, []).append((it.holds, it.queue, it.first, it.count))
        raws = [(index, self._store.raw_entry(index) or b"") for index in lost.damaged] + lost.cut
        with open(file, "xb") as out:
            out.write(msgpack.packb({"penstock": "set-aside", "version": 1, "node": self._node, "at_ms": at_ms}))
            for index, raw in raws:
                row = {"entry": index, "sound": _is_sound(index, raw), "holds": told.get(index, []), "raw": raw}
                out.write(msgpack.packb(row))
            out.flush()
            os.fsync(out.fileno())
        sync_folder(folder)
        return file

    def _give_up(self, at: float, damaged: list[int], cut: int | None) -> None:
        end, term = self._end, self._end.term + 1
        told = f"set aside at {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(at))}: {damaged}, and all from {cut} on"
        entry = Entry(end.index + 1, term, end.stamp_ms, 0, 0, GiveUp(tuple(damaged)), told.encode())
        self._store.commit(Writes(cut, [entry], HardState(term, self._node), None))
        self._store.flush()

    def _let_go(self, damaged: list[int]) -> None:
        """Damaged entries go, but for those that a topic points at: they become sound ones of empty messages."""
        with self._store.rewriting() as (txn, db):
            kept: dict[int, Extent] = {}
            for key, extent in _extents_of_topics(txn, db, self._found):
                if extent.home in damaged:
                    kept[extent.home] = extent
                    note = {**(extent.note or {}), LOST: WHY}
                    put(txn, db.extents, key, msgpack.packb(extent._replace(note=note)))
            for index in damaged:
                if (of := kept.get(index)) is None:
                    txn.delete(_INDEX.pack(index), db=db.log)
                    continue
                payload = pack_payload([b""] * of.total, None if of.plain else [None] * of.total)
                txn.put(_INDEX.pack(index), encode(Entry(index, 0, of.stamp_ms, 0, 0, Noop(), payload)), db=db.log)


def _extents_of_topics(txn: Any, db: Any, found: Recovered) -> list[tuple[bytes, Extent]]:
    kinds = {fields[0]: fields[2] for fields in (msgpack.unpackb(raw, strict_map_key=False) for raw in found.queues)}
    return [
        (bytes(key), Extent(*msgpack.unpackb(unseal(key, raw, "extents"), use_list=False)))
        for key, raw in txn.cursor(db.extents)
        if kinds.get(int.from_bytes(key[:4], "big")) == TOPIC
    ]


def _is_sound(index: int, raw: bytes) -> bool:
    try:
        verify(index, raw)
    except CorruptEntry:
        return False
    return True


def _of_cut(cut: int, raws: list[tuple[int, bytes]]) -> list[Damaged]:
    """What was published behind a damaged entry."""
    gone: list[Damaged] = []
    for index, raw in raws:
        if index > cut and _is_sound(index, raw):
            command = decode(index, raw).command
            append = Append(*command.append) if isinstance(command, Call) else command
            if isinstance(append, Append):
                why = f"it lies behind log entry {cut}, which is damaged"
                gone.append(Damaged("log", index, "messages", append.queue, None, append.count, why))
    return gone
