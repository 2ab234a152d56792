"""A daemon of one's own: in a temporary folder, on a port nobody chose, gone when the block ends."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from ..peers.errors import Timeout
from .exits import Refused
from .processes import Started, spawn, stop

START_S: Final = 30.0  # a restart replays the log first
POLL_S: Final = 0.005
CONNECT_S: Final = 5.0  # it has said that it listens
ENDPOINT_FILE: Final = "endpoint"  # in the data folder; the daemon writes it when it listens


class PrivateDaemon(Started):
    """A context manager: a running daemon, whose `endpoint` answers.

    `settings` is the text of its daemon.toml without data and listen. A `folder` that is given
    stays; one of its own goes. `listen`: with an ipc endpoint it is found at the same place after a restart.
    """

    def __init__(self, settings: str = "", folder: Path | None = None, listen: str = "tcp://127.0.0.1:*") -> None:
        self._own = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix="penstock-")) if folder is None else folder
        self.data = self.folder / "data"
        self.log = self.folder / "daemon.log"
        self.endpoint = ""
        self._settings = settings
        self.listen = listen
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Does its process live?"""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise Refused("the private daemon does not run")
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers. Raises Refused with the end of its log if it ends instead, or Timeout."""
        self.await_start(self.launch())

    def await_start(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until what was launched answers. Raises as `start`."""
        self.endpoint = wait_endpoint(self.data / ENDPOINT_FILE, process, self.log)

    def launch(self) -> subprocess.Popen[bytes]:
        """Start it without waiting."""
        self.data.mkdir(parents=True, exist_ok=True)
        (self.data / ENDPOINT_FILE).unlink(missing_ok=True)
        config = self.folder / "daemon.toml"
        config.write_text(self._settings, encoding="utf-8")
        with self.log.open("ab") as log:
            self._process = spawn(
                ["serve", "--config", str(config), "--data", str(self.data), "--listen", self.listen], log
            )
        return self._process

    def wait(self, patience_s: float = START_S) -> int:
        """Its exit code, once it has ended by itself. Raises Timeout."""
        if self._process is None:
            raise Refused("the private daemon does not run")
        try:
            return self._process.wait(patience_s)
        except subprocess.TimeoutExpired as error:
            raise Timeout(f"the daemon did not end within {patience_s:g} s", _last_lines(self.log)) from error

    def stop(self) -> int:
        """End it cleanly; its exit code. `start` starts it again on the same data."""
        code = 0 if self._process is None else stop(self._process)
        self._process = None
        return code

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def close(self) -> None:
        self.stop()
        if self._own:
            shutil.rmtree(self.folder, ignore_errors=True)  # what is left is a temporary file


def wait_endpoint(
    file: Path, process: subprocess.Popen[bytes], log: Path | None = None, patience_s: float = START_S
) -> str:
    """The endpoint that the daemon `process` writes to `file`, once it answers there."""
    from ..client import connect  # numpy and zmq: only where they are used

    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Refused(f"the daemon ended with exit code {process.returncode}", _last_lines(log))
        lines = file.read_text(encoding="utf-8").split() if file.exists() else []
        if lines:
            try:
                with connect(lines[0], read_only=True, retry_for=CONNECT_S):  # a replica answers, too
                    return lines[0]
            except Timeout:
                if process.poll() is None:
                    raise
                continue  # it ended meanwhile: then how it ended is what has to be told
        time.sleep(POLL_S)
    raise Timeout(f"the daemon did not listen within {patience_s:g} s", _last_lines(log))


def _last_lines(log: Path | None) -> str:
    return "" if log is None or not log.exists() else "; ".join(log.read_text(errors="replace").splitlines()[-3:])
