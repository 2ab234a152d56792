"""The disk: one LMDB environment, one write transaction per turn. Every row carries a checksum, since LMDB has none."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import lmdb
import msgpack

from ..peers.log import CorruptEntry, Entry, HardState, decode, encode, payload_of
from ..peers.raft.tail import LOGGED_BYTES
from .checkpoint import Writes, unpack_consensus
from .commits import Commits
from .export import Export
from .extents import Extent, Outcome
from .folder import StartError as StartError
from .folder import lock_folder, sync_folder
from .incoming import Incoming, clear
from .notes import Note, note_of
from .rows import OWN, TABLES, begin, put, unseal
from .rows import CorruptRow as CorruptRow
from .rows import key as _row_key
from .saving import Tables, save

HEADROOM_BYTES = 64 << 20  # the map is so much larger than what may be used: freed pages serve until the next commit
FULL = 0.9
FULL_BELOW_BYTES = 8192  # hardly one message more would be taken
DISK_RESERVE_BYTES = 1 << 30  # or a tenth of the disk, if that is less

_INDEX = struct.Struct(">Q")


class Recovered(NamedTuple):
    """What the disk knew at start."""

    hard: HardState
    consensus: bytes | None
    meta: bytes | None
    queues: list[bytes]
    sessions: list[bytes]
    disk: int  # a random number, made with the data folder
    disks: dict[int, int]  # those of other nodes


class Store:
    """Everything durable of one node. Used by one thread."""

    def __init__(self, folder: Path, map_size_bytes: int, durability: str = "fsync", turn_bytes_max: int = 0) -> None:
        """`turn_bytes_max`: what one turn may write, at most. Raises StartError."""
        self.folder = folder
        self.limit_bytes = map_size_bytes
        self.durability = durability
        self.turn_bytes_max = turn_bytes_max
        self.commits = Commits()
        self.encoded: Callable[[Entry], bytes] = encode  # in a cluster: shared with what goes to the others
        self._export: Export | None = None
        self._lock = lock_folder(folder)
        try:
            clear(folder)  # a snapshot that was not yet whole when the process ended
            self._open(map_size_bytes)
        except BaseException:
            self._lock.close()
            raise

    def _open(self, map_size_bytes: int) -> None:
        try:
            # Sparse: the file grows with use. See HEADROOM_BYTES for why it is larger than the limit.
            self._env = lmdb.open(
                str(self.folder), map_size=map_size_bytes + map_size_bytes // 4 + self._headroom_bytes, max_dbs=16,
                max_readers=16, sync=True, metasync=True, writemap=False,
            )  # fmt: skip
        except lmdb.Error as fault:
            raise StartError(
                f"the data in {self.folder} cannot be opened: {fault}",
                "restore the data folder from a copy, or give another with --data; "
                "the node of a cluster has to join anew, under a new id",
            ) from fault
        self._env.reader_check()
        self._dbs = Tables(*[self._env.open_db(table) for table in TABLES])
        self._log, self._extents, self._outcomes, self._steps, self._state, self._pins, self._notes, self._cells = (
            self._dbs
        )
        self._page_bytes = int(self._env.stat()["psize"])
        self._read: Any = None
        self._write: Any = None  # only with durability "interval": open from one fsync to the next
        self._floor = 0  # entries up to here are gone, but for those that live on
        self._unsafe_bytes = 0  # what `_write` holds
        try:
            with self._env.begin(write=True) as txn:
                begin(txn, self._state, self.folder)
        except BaseException:
            self._env.close()
            raise

    @property
    def _headroom_bytes(self) -> int:
        return HEADROOM_BYTES + self.turn_bytes_max

    # -- start --------------------------------------------------------------------------------------------------------

    def recover(self) -> Recovered:
        """Hard state and the rows of the last checkpoint. The log behind it is read with `replay`."""
        hard = HardState(0, 0)
        consensus: bytes | None = None
        meta: bytes | None = None
        queues: list[bytes] = []
        sessions: list[bytes] = []
        disk, disks = 0, dict[int, int]()
        with self._env.begin() as txn:
            for key, raw in txn.cursor(self._state):
                if key == b"format":
                    continue
                value = unseal(key, raw, "state")
                if key == b"hard":
                    hard = HardState(*msgpack.unpackb(value))
                elif key == b"disk":
                    disk = msgpack.unpackb(value)
                elif key == b"disks":
                    disks = dict(msgpack.unpackb(value))
                elif key == b"meta":
                    meta = value
                elif key == b"consensus":
                    consensus = value
                elif key.startswith(b"q"):
                    queues.append(value)
                else:
                    sessions.append(value)
        self._floor = unpack_consensus(consensus).floor if consensus is not None else 0
        return Recovered(hard, consensus, meta, queues, sessions, disk, disks)

    def keep_disks(self, disks: Mapping[int, int]) -> None:
        """Remember on which disk each node lives, before anything that relies on it."""
        with self.rewriting() as (txn, _):
            put(txn, self._state, b"disks", msgpack.packb(sorted(disks.items())))

    @contextmanager
    def rewriting(self) -> Iterator[tuple[Any, Tables]]:
        """Between turns, or without a node: a transaction for what no turn writes."""
        self.flush()
        self._end_read()
        with self._env.begin(write=True) as txn:
            yield txn, self._dbs

    def replay(self, after: int | None = None) -> Iterator[Entry]:
        """The entries above the floor, or `after`. Raises CorruptEntry for one that is damaged or missing."""
        with self._env.begin() as txn:
            cursor = txn.cursor(self._log)
            expected = (self._floor if after is None else after) + 1
            if not cursor.set_range(_INDEX.pack(expected)):
                return
            for key, raw in cursor:
                (index,) = _INDEX.unpack(key)
                if index != expected:
                    raise CorruptEntry(expected, f"it is missing; the next one there is {index}")
                yield decode(index, raw)
                expected += 1

    # -- one turn -----------------------------------------------------------------------------------------------------

    def commit(self, writes: Writes) -> None:
        """Make a turn durable, in one transaction. Any error stops the node: what the disk then holds is unknown."""
        self._end_read()
        if not writes.entries and not any(writes[2:]) and writes.truncate_from is None:
            return
        txn = self._write or self._env.begin(write=True)
        try:
            if writes.truncate_from is not None:
                self._truncate(txn, writes.truncate_from)
            for entry in writes.entries:
                # Never over an entry that is there, nor before one.
                if not txn.put(_INDEX.pack(entry.index), self.encoded(entry), db=self._log, append=True):
                    raise AssertionError(f"log entry {entry.index} is not behind the last one")
                self._unsafe_bytes += len(entry.payload)
            if writes.hard is not None:
                put(txn, self._state, b"hard", msgpack.packb(writes.hard))
            if writes.checkpoint is not None:
                save(txn, self._dbs, self._floor, writes.checkpoint)
                self._floor = writes.checkpoint.floor
                # A backup that was killed is still noted as a reader, and none of the pages it saw would be used again.
                self._env.reader_check()
            if self.durability == "interval" and self._unsafe_bytes < HEADROOM_BYTES // 2:
                self._write = txn
            else:
                self._write, self._unsafe_bytes = None, 0
                self.commits.end(txn)
        except BaseException:
            txn.abort()
            self._write = None
            raise

    @property
    def dirty(self) -> bool:
        """Whether something was answered that is not yet safe."""
        return self._write is not None

    def flush(self) -> None:
        """Durability "interval": the fsync that is due. What was answered since the last one is safe from now on."""
        if self._write is not None:
            self._end_read()
            txn, self._write, self._unsafe_bytes = self._write, None, 0
            self.commits.end(txn)

    def _truncate(self, txn: Any, index: int) -> None:
        """Entries from `index` on were never committed, and another primary has others there."""
        cursor = txn.cursor(self._log)
        while cursor.set_range(_INDEX.pack(index)):
            cursor.delete()

    # -- reading: rows as of the last commit; the read transaction ends with the turn --------------------------------

    def _txn(self) -> Any:
        if self._write is not None:
            return self._write
        if self._read is None:
            self._read = self._env.begin()
        return self._read

    def _end_read(self) -> None:
        # A long reader keeps every page that was freed since from being used again: the file would grow without end.
        if self._read is not None:
            self._read.abort()
            self._read = None

    def entries(self, first: int, last: int, bytes_max: int) -> list[Entry]:
        """Log entries from `first` up to `last`, at least one, about `bytes_max` bytes of them. Raises CorruptEntry."""
        found: list[Entry] = []
        for index in range(first, last + 1):
            found.append(decode(index, self._raw(index)))
            bytes_max -= len(found[-1].payload) + LOGGED_BYTES
            if bytes_max <= 0:
                break
        return found

    def _raw(self, index: int) -> bytes:
        raw = self.raw_entry(index)
        if raw is None:
            raise CorruptEntry(index, "it is missing")
        return raw

    def raw_entry(self, index: int) -> bytes | None:
        """A log entry as it lies there, sound or not. None: it is not there."""
        raw: bytes | None = self._txn().get(_INDEX.pack(index), db=self._log)
        return raw

    def mend(self, index: int, raw: bytes) -> None:
        """Between turns: put a sound copy in the place of a damaged entry."""
        with self.rewriting() as (txn, _):
            txn.put(_INDEX.pack(index), raw, db=self._log)

    def payload(self, index: int) -> bytes:
        """The payload of a log entry. Raises CorruptEntry."""
        return payload_of(index, self._raw(index))

    def _row_below(self, db: Any, queue_id: int, number: int, what: str) -> Any:
        """The row of this queue with the highest number at or below `number`."""
        key = _row_key(queue_id, number)
        cursor = self._txn().cursor(db)
        if cursor.set_range(key):
            if cursor.key() != key and not cursor.prev():
                return None
        elif not cursor.last():
            return None
        found = bytes(cursor.key())
        if found[:4] != key[:4]:
            return None
        return msgpack.unpackb(unseal(found, cursor.value(), what), use_list=False)

    def extent(self, queue_id: int, offset: int) -> Extent | None:
        row = self._row_below(self._extents, queue_id, offset, "extent")
        return None if row is None else Extent(*row)

    def outcome(self, queue_id: int, offset: int) -> tuple[int, int, int] | None:
        row: tuple[int, int, int] | None = self._row_below(self._outcomes, queue_id, offset, "outcome")
        return row

    def next_outcome(self, queue_id: int, offset: int) -> int | None:
        return self._next_number(self._outcomes, queue_id, offset)

    def _next_number(self, db: Any, queue_id: int, number: int) -> int | None:
        cursor = self._txn().cursor(db)
        if not cursor.set_range(_row_key(queue_id, number)):
            return None
        key = bytes(cursor.key())
        return int(_INDEX.unpack(key[4:])[0]) if key[:4] == queue_id.to_bytes(4, "big") else None

    def step(self, queue_id: int, home: int) -> list[Outcome] | None:
        key = _row_key(queue_id, home)
        raw = self._txn().get(key, db=self._steps)
        if raw is None:
            return None
        return [Outcome(*fields) for fields in msgpack.unpackb(unseal(key, raw, "step"), use_list=False)]

    def next_step(self, queue_id: int, after: int) -> int | None:
        return self._next_number(self._steps, queue_id, after + 1)

    def note(self, queue_id: int, offset: int) -> Note | None:
        row = self._row_below(self._notes, queue_id, offset, "note")
        return None if row is None else note_of(row)

    def next_note(self, queue_id: int, offset: int) -> int | None:
        return self._next_number(self._notes, queue_id, offset)

    def cell(self, key: bytes) -> bytes | None:
        raw = self._txn().get(key, db=self._cells)
        return None if raw is None else bytes(unseal(key, raw, "cell"))

    def cells(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        cursor = self._txn().cursor(self._cells)
        at = cursor.set_range(after + b"\0" if after else prefix)
        while at and len(found) < limit:
            key = bytes(cursor.key())
            if not key.startswith(prefix):
                break
            found.append((key, bytes(unseal(key, cursor.value(), "cell"))))
            at = cursor.next()
        return found

    # -- snapshots ----------------------------------------------------------------------------------------------------

    def export(self) -> Export:
        """A snapshot to be sent. One at a time; it ends when the map has to grow, so look at `is_open` in each turn."""
        self._end_export()
        self.flush()
        self._export = Export(self._env, self._dbs, self.used_bytes())
        return self._export

    def _end_export(self) -> None:
        if self._export is not None:
            self._export.close()
            self._export = None

    def incoming(self, size_bytes: int) -> Incoming:
        """A snapshot of about `size_bytes` is to come in. Raises NoRoom."""
        return Incoming(self.folder, size_bytes)

    def adopt(self, incoming: Incoming) -> Recovered:
        """Between turns: what came in takes the place of everything but the rows that are the node's own.

        A crash leaves the one or the other, whole. After an error the node must stop.
        """
        self.flush()
        self._end_read()
        self._end_export()
        with self._env.begin() as txn:
            own = {key: row for key in OWN if (row := txn.get(key, db=self._state)) is not None}
        incoming.seal(own)
        sync_folder(incoming.folder)
        self._env.close()
        # The one step that counts. The other files of the environment are locks, which begin anew with each process.
        incoming.file.replace(self.folder / "data.mdb")
        sync_folder(self.folder)
        (self.folder / "lock.mdb").unlink(missing_ok=True)
        clear(self.folder)
        self._open(self.limit_bytes)
        return self.recover()

    # -- room ---------------------------------------------------------------------------------------------------------

    def used_bytes(self) -> int:
        """What the rows in use take, in whole pages."""
        txn = self._txn()
        pages = 0
        for db in self._dbs:
            stat = txn.stat(db)
            pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return int(pages) * self._page_bytes

    def room_bytes(self) -> int:
        """How much may be published before map or disk count as full. Acks and deletes use what is behind that."""
        used = self.used_bytes()
        file_bytes = (self._env.info()["last_pgno"] + 1) * self._page_bytes
        disk = os.statvfs(self.folder)
        reserve = min(DISK_RESERVE_BYTES, disk.f_blocks * disk.f_frsize // 10)
        on_disk = disk.f_bavail * disk.f_frsize + max(0, file_bytes - used) - reserve
        return max(0, min(int(self.limit_bytes * FULL) - used, on_disk))

    def usage(self) -> dict[str, Any]:
        """For people: what is used, what may be, what may still be published, and whether publishing is refused."""
        room, used = self.room_bytes(), self.used_bytes()
        return {"used_bytes": used, "map_bytes": self.limit_bytes, "room_bytes": room, "full": room < FULL_BELOW_BYTES}

    def grow(self) -> None:
        """Between turns: keep room for a turn free of fragments, whatever is freed and used again."""
        info = self._env.info()
        file_bytes = (info["last_pgno"] + 1) * self._page_bytes
        if file_bytes + self._headroom_bytes > info["map_size"] and self._write is None:
            self._end_read()
            self._end_export()
            self._env.set_mapsize(info["map_size"] + max(self._headroom_bytes, info["map_size"] // 4))

    def close(self) -> None:
        self.flush()
        self._end_read()
        self._end_export()
        self._env.close()
        self._lock.close()
