"""What MPI makes outside of a pool's folder is gone when the pool is, however it ended."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sample_tasks import nap

from penstock.client import Client
from penstock.compute import leftovers
from penstock.compute.pool import PoolConfig, PoolProcess, first_state
from penstock.compute.registry import StateFile, pool_status

Spawn = Callable[..., PoolProcess]
Eventually = Callable[..., Any]
SEGMENTS = Path("/dev/shm")
NAMES = re.compile(r"(/dev/shm/mpich_shm_\w+|/tmp/hydra_hwloc_xmlfile_\w+)( \(deleted\))?")
HOLD = """
import mmap, sys
with open(sys.argv[1], "r+b") as file:
    mapped = mmap.mmap(file.fileno(), 0)
print("mapped", flush=True)
sys.stdin.read()
"""
TREE = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLD!r}, sys.argv[1]])"


@pytest.fixture
def segment() -> Iterator[Path]:
    """A file like those of Open MPI, of one page."""
    path = SEGMENTS / f"sm_segment.test.{os.getpid()}"
    path.write_bytes(bytes(4096))
    yield path
    path.unlink(missing_ok=True)


@contextmanager
def holder(code: str, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs `code` and has `path` mapped, or whose child has."""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"mapped\n"
        yield process
        for pid in leftovers.family(process.pid):
            os.kill(pid, signal.SIGKILL)


def test_the_files_of_a_family_are_found_where_it_has_mapped_them(segment: Path) -> None:
    with holder(TREE, segment) as process:
        assert len(leftovers.family(process.pid)) == 2
        assert leftovers.files_of([process.pid]) == set()
        assert leftovers.files_of(leftovers.family(process.pid)) == {str(segment)}


def test_a_frozen_family_stands_still(segment: Path) -> None:
    with holder(TREE, segment) as process:
        frozen = leftovers.freeze(process.pid)
        states = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in frozen]
        assert states == ["T", "T"]


def test_a_file_that_nobody_needs_by_name_is_not_found_any_more(segment: Path) -> None:
    with holder(HOLD, segment) as process:
        segment.unlink()
        assert leftovers.files_of([process.pid]) == set()


def test_what_tasks_keep_in_shared_memory_is_theirs(tmp_path: Path) -> None:
    mine = tmp_path / "psm_mine"
    mine.write_bytes(bytes(4096))
    with holder(HOLD, mine) as process:
        assert leftovers.files_of([process.pid]) == set()


def test_the_folder_of_a_launcher_of_open_mpi_goes_as_a_whole(tmp_path: Path) -> None:
    mapped = tmp_path / "ompi.123" / "hwloc.sm"
    mapped.parent.mkdir()
    mapped.write_bytes(bytes(4096))
    with holder(HOLD, mapped) as process:
        found = leftovers.files_of([process.pid])
    assert found == {str(mapped.parent)}
    leftovers.remove(found)
    assert not mapped.parent.exists()


def test_what_a_dead_pool_has_noted_is_removed_when_nobody_has_it_open(segment: Path, tmp_path: Path) -> None:
    others = tmp_path / "mine"
    others.touch()
    state = first_state(PoolConfig("ipc:///nobody", "work", "sample_tasks")).to_dict()
    state |= {"pid_started": 1, "world": {"files": [str(segment), str(others)]}}
    noted = StateFile(tmp_path, 1).path
    noted.write_text(json.dumps(state))
    with holder(HOLD, segment):
        assert pool_status(tmp_path) == []
        assert segment.exists()
    assert pool_status(tmp_path) == []
    assert not segment.exists()
    assert not noted.exists()
    assert others.exists()


def opened(pids: list[int]) -> dict[str, bool]:
    """The files of MPICH that these processes have open or mapped: do they have a name still?"""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    lines += [os.readlink(entry) for pid in pids for entry in Path(f"/proc/{pid}/fd").iterdir()]
    found = [match for line in lines if (match := NAMES.search(line))]
    return {match[1]: match[2] is None for match in found}


@pytest.mark.mpi
def test_a_pool_that_is_ready_has_nothing_that_could_be_left(spawn: Spawn) -> None:
    """So it does not matter how it ends: by SIGKILL of all its processes at once, too."""
    world = spawn().wait_ready().world
    files = opened([*world["ranks"], *leftovers.family(world["launcher"])])
    if not files:
        pytest.skip("this MPI has no such files")
    assert len(files) == 2
    assert [name for name, named in files.items() if named or Path(name).exists()] == []


@pytest.mark.mpi
@pytest.mark.parametrize("victim", ["launcher", "rank", "supervisor"])
def test_a_killed_world_leaves_no_segment(
    client: Client, spawn: Spawn, tmp_path: Path, victim: str, eventually: Eventually
) -> None:
    client.create_queue("work", exist_ok=True)
    client.purge("work")
    pool = spawn(lease="1s")
    state = pool.wait_ready()
    files = opened([*state.world["ranks"], *leftovers.family(state.world["launcher"])])
    files |= dict.fromkeys(state.world["files"], True)
    job = nap.submit(client, seconds=0.01)
    pids = {"launcher": state.world["launcher"], "rank": state.world["ranks"][0], "supervisor": state.pid}
    os.kill(pids[victim], signal.SIGKILL)
    if victim == "supervisor":
        eventually(lambda: not leftovers.files_of(state.world["ranks"]), "its ranks to end")
        spawn()
    assert job.result(timeout=30.0) == 0.01
    assert [name for name in files if Path(name).exists()] == []


@pytest.mark.mpi
def test_a_pool_that_is_stopped_as_it_starts_ends_in_order(spawn: Spawn, eventually: Eventually) -> None:
    pool = spawn()
    files: dict[str, bool] = {}

    def seen() -> bool:
        for pid in leftovers.family(pool.pid):
            with suppress(FileNotFoundError, ProcessLookupError):
                files.update(opened([pid]))
        return any("/dev/shm" in name for name in files) or pool.poll() is not None

    eventually(seen, "a segment")
    pool.stop()
    assert pool.poll() == 0
    assert [name for name in files if Path(name).exists()] == []
