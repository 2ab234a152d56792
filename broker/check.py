"""Is everything on a stopped node's disk what was written? All checksums, and what the damage means for whom."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lmdb
import msgpack

from ..peers.log import CorruptEntry
from . import damage
from .extents import Extent, Outcome
from .folder import StartError, lock_folder
from .rows import TABLES, CorruptRow, check, unseal

_ROW = struct.Struct(">IQ")


class Damaged(NamedTuple):
    """What is not as it was written. `entry`: a log entry; None: a row of `table`. `holds`: "messages" of `queue`,
    `count` from offset `first` on, or "results" of jobs with these offsets; None: nobody needs it, or nobody knows."""

    table: str
    entry: int | None
    holds: str | None
    queue: str | None
    first: int | None
    count: int | None  # type: ignore[assignment]
    why: str


class Report(NamedTuple):
    """`entries` and `rows`: how many were read; `bytes`: how much that was."""

    entries: int
    rows: int
    bytes: int
    damaged: list[Damaged]


def check_folder(folder: Path, in_cluster: bool) -> Report:
    """Read all of it. `in_cluster`: what is damaged is noted, and the next start fetches it from the others.

    Raises StartError if there is no data, if a daemon has it, or if it is no LMDB file any more.
    """
    if not (folder / "data.mdb").exists():
        raise StartError(f"there is no data in {folder}", "give the data folder of a stopped node with --data")
    with lock_folder(folder):
        try:
            with lmdb.open(str(folder), readonly=True, lock=False, max_dbs=8) as env:
                report = _Reading(env).report()
        except lmdb.Error as fault:
            raise StartError(f"the data in {folder} cannot be read: {fault}", "restore it from a copy") from fault
        indexes = sorted({it.entry for it in report.damaged if it.entry is not None})
        if in_cluster and indexes:
            damage.note(folder, indexes)
    return report


class _Reading:
    """One read transaction over everything."""

    def __init__(self, env: Any) -> None:
        self._dbs = {table: env.open_db(table, create=False) for table in TABLES}
        self._env = env
        self._names: dict[int, str] = {}
        self._holds: dict[int, list[tuple[str, int, int, int]]] = {}  # by log entry: what, queue, first, count

    def report(self) -> Report:
        with self._env.begin() as txn:
            rows = size = 0
            damaged: list[Damaged] = []
            for table in [table for table in TABLES if table != b"log"]:
                for key, raw in txn.cursor(self._dbs[table]):
                    rows, size = rows + 1, size + len(key) + len(raw)
                    try:
                        self._look(table, key, raw)
                    except CorruptRow as fault:
                        damaged.append(Damaged(table.decode(), None, None, None, None, None, str(fault)))
            entries = 0
            for key, raw in txn.cursor(self._dbs[b"log"]):
                entries, size = entries + 1, size + len(key) + len(raw)
                try:
                    check(b"log", key, raw)
                except CorruptEntry as fault:
                    damaged += self._meaning(fault)
        return Report(entries, rows, size, damaged)

    def _look(self, table: bytes, key: bytes, raw: bytes) -> None:
        """Check a row, and learn from it what log entries hold."""
        if table == b"state" and key == b"format":
            return
        check(table, key, raw)
        if table == b"state" and key.startswith(b"q"):
            number, name, *_ = msgpack.unpackb(unseal(key, raw, "state"))
            self._names[number] = name
        elif table == b"extents":
            extent = Extent(*msgpack.unpackb(unseal(key, raw, "extents"), use_list=False))
            self._hold(extent.home, "messages", key, extent.first, extent.count)
        elif table == b"steps":
            for fields in msgpack.unpackb(unseal(key, raw, "steps"), use_list=False):
                outcome = Outcome(*fields)
                self._hold(outcome.home, "results", key, outcome.first, outcome.count)

    def _hold(self, home: int, what: str, key: bytes, first: int, count: int) -> None:
        self._holds.setdefault(home, []).append((what, _ROW.unpack(key)[0], first, count))

    def _meaning(self, fault: CorruptEntry) -> Iterator[Damaged]:
        for what, queue, first, count in self._holds.get(fault.index, ()):
            yield Damaged("log", fault.index, what, self._names.get(queue), first, count, str(fault))
        if fault.index not in self._holds:
            yield Damaged("log", fault.index, None, None, None, None, str(fault))
