"""Files that MPI makes outside of a pool's folder, and removes in an orderly end only: no other end may leave them.

MPICH keeps a shared memory segment for each world in /dev/shm, 2 MiB that the host lacks until it is started anew, and
hydra a file in /tmp. They need a name only until all ranks of the host have opened them, so the ranks take the names
away then: what has no name goes with the last process that has it open, however that one ends. What still has a name
when a world is killed (it was starting; or it is Open MPI's, which looks for the names at its end) is found in its
frozen processes, and removed when these are dead. Linux only: elsewhere there is no /proc to look in.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from .orphans import started_ticks

_MPICH = r"/dev/shm/mpich_shm_[^/ ]+|/tmp/hydra_hwloc_xmlfile_[^/ ]+"
_OF_MPICH = re.compile(_MPICH)
# Open MPI has a folder with the pid of its launcher too: in that one the file which all ranks map stands for it.
_OF_MPI = re.compile(rf"({_MPICH}|/dev/shm/(?:mpich_shar_tmp|sm_segment\.)[^/ ]+|/.*/ompi\.\d+)(?:/hwloc\.sm)?")
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)  # a process that ended, or that is another user's


def take_names_away(mpi: Any) -> None:
    """All ranks call this, before anything else of MPI: afterwards a world of MPICH can leave nothing behind."""
    host = mpi.COMM_WORLD.Split_type(mpi.COMM_TYPE_SHARED)
    host.Barrier()  # who has not opened them yet still needs their names
    if host.Get_rank() == 0:
        # The parent is hydra's proxy, which keeps its file open.
        remove(path for path in files_of([os.getpid(), os.getppid()]) if _OF_MPICH.fullmatch(path))
    host.Free()


def files_of(pids: Iterable[int]) -> set[str]:
    """The files and folders of MPI that these processes have open or mapped, and that still have a name."""
    opened: set[str] = set()
    for pid in pids:
        with suppress(*_GONE):
            lines = Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines()
            opened.update(line.split(maxsplit=5)[-1] for line in lines)
        with suppress(*_GONE):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(*_GONE):
                    opened.add(os.readlink(entry))
    return {found[1] for found in map(_OF_MPI.fullmatch, opened) if found is not None}


def remove(paths: Iterable[str]) -> None:
    """Remove those of them that are left."""
    for path in paths:
        if Path(path).is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(*_GONE):
                os.unlink(path)


def remove_unused(paths: Iterable[str]) -> bool:
    """For what was noted long ago: False, and nothing is removed, if a process that lives has one of them open."""
    paths = set(paths)
    if paths and paths & files_of(_all_pids()):
        return False
    remove(path for path in paths if _OF_MPI.fullmatch(path))
    return True


def family(root: int) -> dict[int, int]:
    """A process and all that descends from it: pid -> start time."""
    children: dict[int, list[int]] = {}
    for pid in _all_pids():
        with suppress(*_GONE):
            parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
            children.setdefault(int(parent), []).append(pid)
    found: dict[int, int] = {}
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        ticks = started_ticks(pid)
        if ticks is not None:
            found[pid] = ticks
        waiting += children.get(pid, [])
    return found


def freeze(root: int) -> dict[int, int]:
    """Stop a family, so that none of it makes anything more: pid -> start time."""
    frozen: dict[int, int] = {}
    while new := family(root).items() - frozen.items():
        for pid, _ in new:
            with suppress(*_GONE):
                os.kill(pid, signal.SIGSTOP)
        frozen.update(new)
    return frozen


def _all_pids() -> Iterator[int]:
    proc = Path("/proc")
    return (int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal()) if proc.is_dir() else iter(())
