"""The command that starts an MPI world, from a template, and the process it becomes."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from ..peers.errors import InvalidArgument, NotFound
from .orphans import die_with_parent

DEFAULT = "{bin}/mpiexec -n {ranks}"
_RANK = "{python} -m mpi4py -m penstock.compute.rank"
_INSTALL = "install one with `pip install 'penstock[mpi]'`"


def command_of(template: str | None, ranks: int) -> list[str]:
    """The words of the command. {bin} is the folder of mpiexec, {ranks} their number, {python} this interpreter.

    The rank program is added unless the template names it. A bare name is looked for beside this interpreter first.
    Raises NotFound if there is no such program or no mpi4py, InvalidArgument for a template that makes no command.
    """
    if importlib.util.find_spec("mpi4py") is None:
        raise NotFound("mpi4py is not installed", _INSTALL)
    template = template or DEFAULT
    if "penstock.compute.rank" not in template:
        template = f"{template} {_RANK}"
    known = {"ranks": str(ranks), "python": sys.executable}
    if "{bin}" in template:
        known["bin"] = str(Path(_program("mpiexec")).parent)
    try:
        words = [word.format_map(known) for word in shlex.split(template)]
    except (KeyError, ValueError, IndexError) as fault:
        raise InvalidArgument(
            f"launcher {template!r} cannot be filled in: {fault!r}", "known are {bin}, {ranks} and {python}"
        ) from fault
    return _bound([_program(words[0]), *words[1:]])


def start(command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the launcher in a session of its own, so that Ctrl-C reaches only us. One pipe for all that is printed.

    Call it from the thread that lives as long as the pool: the kernel ends the launcher together with that thread.
    """
    return subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=None if Path(command[0]).name == "setpriv" else die_with_parent,
    )


def environment(extra: dict[str, str]) -> dict[str, str]:
    """For the ranks: ours, each rank on one thread, nothing held back in buffers, no folder searched by accident."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1", **extra}


def _program(name: str) -> str:
    if os.sep in name:
        found = shutil.which(name)
    else:
        beside = str(Path(sys.executable).parent)
        found = shutil.which(name, path=beside) or shutil.which(name)
    if found is None:
        raise NotFound(f"there is no program {name!r} to start MPI with", f"{_INSTALL}, or set [compute] launcher")
    return found


def _bound(words: list[str]) -> list[str]:
    """Under setpriv, which makes the kernel end the launcher with us; without it the same is done after the fork."""
    setpriv = shutil.which("setpriv")
    if setpriv is None or Path(words[0]).name == "setpriv":
        return words
    return [setpriv, "--pdeathsig", "KILL", *words]
