"""A snapshot that comes in: an environment of its own, which takes the place of the current one when it is whole."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lmdb
import msgpack

from ..peers.log import CorruptEntry
from ..peers.raft.words import Members
from .checkpoint import unpack_consensus
from .export import RECORD
from .rows import OWN, TABLES, CorruptRow, check, unseal
from .snapshots import BadSnapshot, NoRoom

FOLDER = "incoming"
MAP_BYTES = 64 << 20  # to begin with, and the step by which it grows


class Incoming:
    """Records in, one transaction a piece. Nothing in it counts before `seal`."""

    def __init__(self, data: Path, used_bytes: int) -> None:
        """`data`: the data folder. `used_bytes`: what is to come, about. Raises NoRoom if there is no room for it."""
        clear(data)
        disk = os.statvfs(data)
        free_bytes = disk.f_bavail * disk.f_frsize
        if used_bytes > free_bytes:
            raise NoRoom(f"{free_bytes} bytes are free, a snapshot of {used_bytes} is to come")
        self.folder = data / FOLDER
        self.folder.mkdir()
        self._env = lmdb.open(
            str(self.folder), map_size=MAP_BYTES, max_dbs=16, sync=True, metasync=True, writemap=False
        )
        self._dbs = [self._env.open_db(table) for table in TABLES]
        self._state = self._dbs[TABLES.index(b"state")]
        self._page_bytes = int(self._env.stat()["psize"])

    @property
    def file(self) -> Path:
        return self.folder / "data.mdb"

    def write(self, payload: bytes) -> int:
        """The records of one piece; how many there were. Raises BadSnapshot if one is not as it was written."""
        self._make_room(len(payload))
        view = memoryview(payload)
        at = records = 0
        with self._env.begin(write=True) as txn:
            try:
                while at < len(view):
                    table, key_length, value_length = RECORD.unpack_from(view, at)
                    value_at = at + RECORD.size + key_length
                    key, at = bytes(view[at + RECORD.size : value_at]), value_at + value_length
                    value = view[value_at:at]
                    if at > len(view) or (TABLES[table] == b"state" and key in OWN):
                        raise BadSnapshot(f"record {key.hex()} does not belong there")
                    check(TABLES[table], key, value)
                    if not txn.put(key, value, db=self._dbs[table], append=True):
                        raise BadSnapshot(f"record {key.hex()} comes out of order")
                    records += 1
            except (CorruptEntry, CorruptRow, struct.error, IndexError, lmdb.BadValsizeError) as fault:
                raise BadSnapshot(str(fault)) from fault
        return records

    def _make_room(self, size: int) -> None:
        info = self._env.info()
        # Twice: what is written once takes whole pages, and those that are freed stay in use until the next commit.
        needed = (info["last_pgno"] + 1) * self._page_bytes + 2 * size + MAP_BYTES // 2
        if needed > info["map_size"]:
            self._env.set_mapsize(needed + max(MAP_BYTES, info["map_size"] // 4))

    def members(self, index: int) -> Members:
        """The members as of the end of the snapshot, which has to be `index`. Raises BadSnapshot."""
        with self._env.begin() as txn:
            rows: dict[bytes, Any] = {key: txn.get(key, db=self._state) for key in (b"meta", b"consensus")}
        if None in rows.values():
            raise BadSnapshot("it has no checkpoint")
        meta, consensus = (unseal(key, raw, "state") for key, raw in rows.items())
        applied = msgpack.unpackb(meta)["applied"]
        if applied != index:
            raise BadSnapshot(f"it is of entry {applied}, and was said to be of entry {index}")
        return unpack_consensus(consensus).history[-1][1]

    def seal(self, own: Mapping[bytes, bytes]) -> None:
        """It is whole: with the rows that are the node's own, it can take the place of what the node has."""
        with self._env.begin(write=True) as txn:
            for key, row in own.items():
                txn.put(key, row, db=self._state)
        self._env.close()

    def discard(self) -> None:
        """It is not wanted any more."""
        self._env.close()
        clear(self.folder.parent)


def clear(data: Path) -> None:
    """Delete what was received so far, if anything was."""
    if (data / FOLDER).exists():
        shutil.rmtree(data / FOLDER)
