"""The files by which pools are found: those of the living are read, those of the dead are cleared away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.compute.orphans import started_ticks
from penstock.compute.registry import PoolState, StateFile, own_folder, pool_status, stop_pool
from penstock.peers.errors import InvalidArgument, NotFound, PermissionDenied, Timeout


def state_of(pid: int, name: str = "work") -> PoolState:
    return PoolState(
        pid=pid,
        pid_started=started_ticks(pid) or 0,
        name=name,
        queue="work",
        ranks=2,
        tasks="tasks",
        endpoint="tcp://127.0.0.1:1",
        phase="ready",
        started_ms=1,
    )


@pytest.fixture
def sleeper() -> object:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def test_a_living_pool_is_found_and_forgotten_when_its_file_is_removed(tmp_path: Path) -> None:
    file = StateFile(tmp_path, os.getpid())
    file.write(state_of(os.getpid()))
    assert pool_status(tmp_path) == [state_of(os.getpid())]
    file.remove()
    assert pool_status(tmp_path) == []


def test_a_file_of_a_pid_that_belongs_to_another_process_by_now_is_cleared_away(tmp_path: Path) -> None:
    file = StateFile(tmp_path, os.getpid())
    file.write(replace(state_of(os.getpid()), pid_started=1))
    assert pool_status(tmp_path) == []
    assert not file.path.exists()


def test_stopping_ends_the_process_of_that_name(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    StateFile(tmp_path, sleeper.pid).write(state_of(sleeper.pid, "mine"))
    ended = stop_pool("mine", tmp_path)
    assert (ended.pid, ended.phase) == (sleeper.pid, "ended")
    assert sleeper.wait() == -signal.SIGTERM


def test_stopping_a_pool_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    StateFile(tmp_path, os.getpid()).write(state_of(os.getpid(), "other"))
    with pytest.raises(NotFound, match=f"other .pid {os.getpid()}"):
        stop_pool("mine", tmp_path)


def test_a_name_that_two_pools_have_is_refused(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    for pid in (os.getpid(), sleeper.pid):
        StateFile(tmp_path, pid).write(state_of(pid))
    with pytest.raises(InvalidArgument, match=str(sleeper.pid)):
        stop_pool("work", tmp_path)
    stop_pool(sleeper.pid, tmp_path)


def test_a_pool_that_does_not_end_is_a_timeout(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        StateFile(tmp_path, deaf.pid).write(state_of(deaf.pid))
        with pytest.raises(Timeout):
            stop_pool("work", tmp_path, timeout_s=0.1)
        deaf.kill()


def test_a_folder_that_is_no_folder_of_ours_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(PermissionDenied):
        own_folder(link)


def test_a_file_of_another_version_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text('{"pid": 1}')
    (tmp_path / "2.json").write_text("{")
    assert pool_status(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 2
