"""The command that starts MPI, from templates of all kinds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from penstock.compute.launch import command_of, environment, start
from penstock.peers.errors import InvalidArgument, NotFound

pytestmark = pytest.mark.mpi
RANK = [sys.executable, "-m", "mpi4py", "-m", "penstock.compute.rank"]


def without_setpriv(words: list[str]) -> list[str]:
    return words[3:] if words[0].endswith("/setpriv") else words


def test_the_default_starts_as_many_ranks_as_asked() -> None:
    program, *rest = without_setpriv(command_of(None, 3))
    assert program.endswith("/mpiexec")
    assert rest == ["-n", "3", *RANK]


def test_a_short_template_gets_the_rank_program() -> None:
    program, *rest = without_setpriv(command_of("mpiexec -prepend-rank -n {ranks}", 2))
    assert program.endswith("/mpiexec")
    assert rest == ["-prepend-rank", "-n", "2", *RANK]


def test_a_whole_template_is_taken_as_it_is() -> None:
    template = "env A=b {bin}/mpiexec -n {ranks} {python} -u -m mpi4py -m penstock.compute.rank"
    words = without_setpriv(command_of(template, 2))
    assert words[1] == "A=b"
    assert words[-6:] == [sys.executable, "-u", "-m", "mpi4py", "-m", "penstock.compute.rank"]


def test_an_unknown_program_is_not_found_and_the_error_says_what_to_install() -> None:
    with pytest.raises(NotFound, match=r"penstock\[mpi\]"):
        command_of("no-such-launcher -n {ranks}", 2)


def test_an_unknown_word_in_braces_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="hosts"):
        command_of("mpiexec -f {hosts} -n {ranks}", 2)


def test_a_rank_computes_on_one_thread() -> None:
    assert environment({"A": "b"})["OMP_NUM_THREADS"] == "1"
    assert environment({"A": "b"})["A"] == "b"


def test_without_setpriv_the_launcher_still_dies_with_the_thread_that_started_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **where: None if name == "setpriv" else real(name, **where))
    assert command_of(None, 2)[0].endswith("/mpiexec")
    started: list[subprocess.Popen[bytes]] = []
    thread = threading.Thread(target=lambda: started.append(start(["/bin/sh", "-c", "sleep 60"], dict(os.environ))))
    thread.start()
    thread.join()
    with started[0] as process:
        assert process.wait(timeout=10) == -signal.SIGKILL
