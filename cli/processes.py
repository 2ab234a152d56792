"""Child processes of the command line: `penstock` verbs that never outlive the command that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Any, Final, Self

import click

from ..compute.orphans import die_with_parent

STOP_S: Final = 15.0  # a daemon commits, a pool gives its leases back; beyond this it hangs

parent_option = click.option("--parent-pid", type=int, hidden=True, help="End when this parent ends.")


class Started(ABC):
    """Runs as long as its `with`. What fails to start is closed at once."""

    @abstractmethod
    def start(self) -> None:
        """Returns when it runs."""

    @abstractmethod
    def close(self) -> None:
        """End what runs, started whole or in part, and leave nothing behind."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def spawn(arguments: Sequence[str], log: IO[Any] | None = None) -> subprocess.Popen[bytes]:
    """Start `penstock ARGUMENTS`, a verb that has parent_option. `log` takes its output; None: it shares ours.

    In a session of its own: a Ctrl-C at the terminal reaches only us, and we end our children in the right order.
    """
    command = [sys.executable, "-m", "penstock.cli", *arguments, "--parent-pid", str(os.getpid())]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def end_with_parent(parent_pid: int | None) -> None:
    """In the child: be killed when the parent's thread that started us ends, however it ends."""
    if parent_pid is not None:
        die_with_parent(parent_pid)


def stop(child: subprocess.Popen[bytes], patience_s: float = STOP_S) -> int:
    """End `child`, by SIGKILL if SIGTERM was not enough; its exit code."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            return child.wait(patience_s)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.wait()
