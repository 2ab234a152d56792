"""A copy of the data of a node, while it runs or stands: of one moment, checked, and on a disk of its own."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import NamedTuple

import lmdb
import msgpack

from .check import Damaged, check_folder
from .folder import StartError, sync_folder
from .rows import put

MAP_SLACK_BYTES = 1 << 20  # of the copy: room to write one row


class Backup(NamedTuple):
    """`entries` of the log and `rows` are in the copy, which has `bytes`; what of it is `damaged` is so here, too."""

    entries: int
    rows: int
    bytes: int
    damaged: list[Damaged]


def back_up(data: Path, target: Path) -> Backup:
    """Copy the data folder `data` to `target`, which is made. A daemon that runs on it is not disturbed: its file only
    grows meanwhile by what it writes.

    The copy gets a disk number of its own. It has forgotten what the node promises from now on: in the cluster that
    the node belongs to it is refused, under the old id as well. Raises StartError.
    """
    if not (data / "data.mdb").exists():
        raise StartError(f"there is no data in {data}", "give the data folder of a node with --data")
    if target.exists():
        raise StartError(f"{target} is there already", "name a folder that is yet to be made")
    part = target.with_name(f"{target.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)  # of a backup that was killed
        part.mkdir(mode=0o700, parents=True)
        try:
            _copy(data, part)
            report = check_folder(part, in_cluster=False)
            sync_folder(part)
            part.replace(target)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        sync_folder(target.parent)
    except lmdb.Error as fault:
        raise StartError(f"{data} cannot be copied to {target}: {fault}", "see if the disk is full") from fault
    except OSError as fault:
        raise StartError(f"{data} cannot be copied to {target}: {fault.strerror}", "name another folder") from fault
    size = (target / "data.mdb").stat().st_size
    return Backup(report.entries, report.rows, size, report.damaged)


def _copy(data: Path, target: Path) -> None:
    # With the locks of LMDB: while we read, the daemon leaves alone what was in use as we began.
    with lmdb.open(str(data), readonly=True, max_dbs=16) as env:
        env.copy(str(target), compact=True)
    size = (target / "data.mdb").stat().st_size
    with lmdb.open(str(target), map_size=size + MAP_SLACK_BYTES, max_dbs=16) as env:
        state = env.open_db(b"state")
        with env.begin(write=True) as txn:
            put(txn, state, b"disk", msgpack.packb(1 + secrets.randbelow(2**63 - 1)))
    (target / "lock.mdb").unlink(missing_ok=True)
    os.chmod(target / "data.mdb", 0o600)
