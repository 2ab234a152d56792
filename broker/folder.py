"""The data folder: one daemon at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from ..peers.errors import PenstockError


class StartError(PenstockError):
    """The daemon cannot start on this data folder."""


def join_anew(node: int) -> str:
    """What to do about a node whose data was lost, replaced, damaged or put back from a copy."""
    return (
        "a node without the data it had never comes back under its id: "
        f"penstock cluster remove {node} --yes; then clear its data folder, give it a node.id that was never used and "
        "join = true, and have it join with: penstock cluster add"
    )


def check_not_lost(folder: Path) -> None:
    """A folder in which a daemon ran, and whose data is gone, is no new one. Raises StartError."""
    data = folder / "data.mdb"
    if (folder / "endpoint").exists() and (not data.exists() or data.stat().st_size == 0):
        raise StartError(
            f"{data} is {'empty' if data.exists() else 'gone'}, and a daemon ran on this folder before",
            "restore a backup; to begin with nothing, remove the folder; the node of a cluster has to join anew, "
            "under a new id",
        )


def sync_folder(folder: Path) -> None:
    """What was renamed in it stays so."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_folder(folder: Path) -> IO[str]:
    """One data folder, one daemon. The lock goes with the process, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / "daemon.lock", "a+")  # noqa: SIM115 (it is held as long as the daemon lives)
    except OSError as fault:
        why = "it is a file" if folder.is_file() else fault.strerror
        raise StartError(f"the data folder {folder} cannot be used: {why}", "give another with --data") from fault
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise StartError(
            f"the data folder {folder} is in use by another daemon (pid {holder})",
            "stop that one, or give another with --data",
        ) from fault
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock
