"""A clean process, older than MPI_Init, that forks the helpers of one rank: a process that runs MPI must not fork."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from .cancels import Cancels
from .helper import Helper
from .lines import print_whole_lines
from .memory import keep_freed_memory
from .no_mpi import leave_mpi_alone
from .orphans import die_with_parent
from .settings import WorldSettings
from .slots import Slots
from .task import tasks_of_queue

_NOTE = struct.Struct("<Bii")  # what, pid, status
_BORN, _ENDED = 1, 2


class NurseryGone(RuntimeError):
    """The nursery has ended, and has said why: without it there are no helpers."""


class Newborn(NamedTuple):
    """A helper that runs: its pid and the stream to it."""

    pid: int
    stream: socket.socket


class Nursery:
    """The rank's side. Make it before MPI is imported."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", __spec__.name, str(theirs.fileno()), str(os.getpid())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self._control = ours

    def fork(self, rank: int) -> Newborn:
        """A new helper."""
        try:
            self._control.sendall(struct.pack("<i", rank))
            note, fds, _, _ = socket.recv_fds(self._control, _NOTE.size, 1)
        except OSError as fault:
            raise NurseryGone from fault
        if not fds:
            raise NurseryGone
        return Newborn(_NOTE.unpack(note)[1], socket.socket(fileno=fds[0]))

    def status_of(self, pid: int) -> int:
        """How the helper `pid`, which is dead or dying, ended: an exit code, negative for a signal."""
        note = self._control.recv(_NOTE.size, socket.MSG_WAITALL)
        if len(note) < _NOTE.size:
            raise NurseryGone
        what, ended, status = _NOTE.unpack(note)
        assert (what, ended) == (_ENDED, pid), (what, ended, pid)
        return int(status)

    def close(self) -> None:
        self._control.close()
        self._process.wait()


def _main(control_fd: int, parent: int) -> int:
    die_with_parent(parent)
    print_whole_lines()
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor, which ends us in order
    settings = WorldSettings.from_environment()
    sys.path[:] = settings.search
    leave_mpi_alone()
    tasks = tasks_of_queue(settings.module, settings.queue)
    slots, cancels = Slots(settings.slots, settings.ranks), Cancels(settings.cancels)
    control = socket.socket(fileno=control_fd)
    with suppress(ConnectionResetError, BrokenPipeError):  # the rank is dead, and we shall be in a moment
        while request := control.recv(4, socket.MSG_WAITALL):
            (rank,) = struct.unpack("<i", request)
            pid = _fork(control, partial(Helper, rank, slots, cancels, tasks, settings.home))
            if not _wait(control, pid):
                break
    return 0


def _fork(control: socket.socket, helper: Callable[[socket.socket], Helper]) -> int:
    ours, theirs = socket.socketpair()
    nursery = os.getpid()
    pid = os.fork()
    if pid == 0:
        ours.close()
        control.close()
        _be_a_helper(nursery, helper(theirs))
    theirs.close()
    socket.send_fds(control, [_NOTE.pack(_BORN, pid, 0)], [ours.fileno()])
    ours.close()
    return pid


def _be_a_helper(nursery: int, helper: Helper) -> None:
    """Never returns: the nursery's own stack must not be unwound twice."""
    status = 1
    try:
        die_with_parent(nursery)
        os.setpgid(0, 0)  # what a job starts is killed with it
        helper.serve()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait(control: socket.socket, pid: int) -> bool:
    """Until the helper has ended, which is told to the rank. False: the rank is gone, or wants no more."""
    pidfd = os.pidfd_open(pid)
    try:
        ready, _, _ = select.select([pidfd, control.fileno()], [], [])
        if pidfd not in ready:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return False
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what its jobs have started; now, while the dead helper keeps its number
        _, status = os.waitpid(pid, 0)
        control.sendall(_NOTE.pack(_ENDED, pid, os.waitstatus_to_exitcode(status)))
        return True
    finally:
        os.close(pidfd)


if __name__ == "__main__":
    sys.exit(_main(int(sys.argv[1]), int(sys.argv[2])))
