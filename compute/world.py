"""The supervisor's hold on one MPI world: start it, talk to rank 0, see it die, make sure that all of it is gone."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import zmq

from . import launch, leftovers
from .cancels import Cancels
from .faults import words_of_status
from .frames import Frame, Kind, decode, unpack
from .orphans import started_ticks
from .settings import VARIABLE, WorldSettings
from .slots import Running, Slots

TAIL_LINES = 50  # of what a world printed: enough for a traceback
CUT_MAX = 65536  # bytes of a line whose end has not come: then it is passed on without
OUTPUT_READS_MAX = 16  # in one turn: jobs that print without end must not stop the pool
STOP_S = 5.0  # a world that was told to end, and has nothing to do, takes a tenth of that
TERM_S = 2.0


class LastWord(NamedTuple):
    """What a rank left behind when it ended the world on purpose."""

    batch: int
    place: int
    error: bytes
    final: bool


class World:
    """One generation of ranks. `fds` are what to poll."""

    def __init__(
        self, command: list[str], settings: WorldSettings, context: zmq.Context[Any], env: Mapping[str, str]
    ) -> None:
        self._settings = settings
        self._slots = Slots.create(settings.slots, settings.ranks)
        self.cancels = Cancels.create(settings.cancels)
        self.socket: zmq.Socket[bytes] = context.socket(zmq.PAIR)
        self.socket.linger = 0
        self.socket.sndhwm = 0  # what is in flight is bounded by the runner: it is never full
        self.socket.bind(settings.endpoint)
        # Tasks, and commands that they run, find the daemon that they work for.
        home = {"PENSTOCK_ENDPOINT": " ".join(settings.endpoints)}
        self._process = launch.start(command, launch.environment({**home, **env, VARIABLE: settings.to_text()}))
        assert self._process.stdout is not None
        self.output = self._process.stdout.fileno()
        os.set_blocking(self.output, False)
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._cut = b""
        self._ranks: dict[int, int] = {}  # pid -> start time
        self._helpers: dict[int, int] = {}  # rank -> pid
        self._known: dict[int, int] = {}  # pid -> start time, of all that may outlive the launcher
        self._files: set[str] = set()  # that MPI has made, and that have a name
        self.exited = os.pidfd_open(self._process.pid)
        self.started_s = time.monotonic()
        self.ready_s: float | None = None
        self.hosts = 1

    def to_dict(self) -> dict[str, Any]:
        """The pids of the launcher, the ranks and the helpers, and the files to remove when they are dead."""
        return {
            "launcher": self._process.pid,
            "ranks": [*self._ranks],
            "helpers": [*self._helpers.values()],
            "files": sorted(self._files),
        }

    @property
    def tail(self) -> str:
        """The last lines that the world printed."""
        return "\n".join(self._tail)

    def send(self, frame: Frame) -> None:
        """To rank 0. If that has died a moment ago the frame is lost, as all is that the world had."""
        with suppress(zmq.Again):  # nobody is connected; who waited for that would wait for ever
            self.socket.send(frame.encode(), zmq.DONTWAIT)

    def receive(self, wait_ms: int = 0) -> list[Frame]:
        """What rank 0 has sent. READY and HELPER are noted here and passed on."""
        frames = []
        while self.socket.poll(wait_ms):
            frame = decode(self.socket.recv())
            if frame.kind is Kind.READY:
                self._note_ready(unpack(frame.payload))
            elif frame.kind is Kind.HELPER:
                self._note_helper(frame.rank, int(bytes(frame.payload)))
            frames.append(frame)
        return frames

    def copy_output(self) -> None:
        """Pass on what the world printed to our stderr, and keep its end."""
        try:
            for _ in range(OUTPUT_READS_MAX):
                data = os.read(self.output, 65536)
                if not data:
                    break
                *lines, self._cut = (self._cut + data).split(b"\n")
                if len(self._cut) > CUT_MAX:
                    lines, self._cut = [*lines, self._cut], b""
                self._pass_on([line.decode(errors="replace") for line in lines])
        except BlockingIOError:
            pass

    def _pass_on(self, lines: list[str]) -> None:
        """In whole lines: between them comes what the pool itself has to say."""
        sys.stderr.writelines(f"{line}\n" for line in lines)
        sys.stderr.flush()
        self._tail.extend(lines)

    def dead(self) -> bool:
        """Has the launcher, or a rank, ended? Launchers do not notice every end of a rank."""
        if self._process.poll() is not None:
            return True
        return self.ready_s is not None and any(started_ticks(pid) != ticks for pid, ticks in self._ranks.items())

    @property
    def end(self) -> str:
        """How it died, before it is killed."""
        status = self._process.poll()
        if status is not None:
            return f"its launcher {words_of_status(status)}"
        gone = [str(pid) for pid, ticks in self._ranks.items() if started_ticks(pid) != ticks]
        return f"rank process {', '.join(gone)} ended" if gone else "we ended it"

    def suspects(self) -> list[Running]:
        """What ran in the ranks of this host when they died."""
        return self._slots.read_all()

    def last_word(self) -> LastWord | None:
        try:
            return LastWord(*unpack(self._settings.last_word.read_bytes()))
        except FileNotFoundError:
            return None

    def stop(self) -> None:
        """End a world that is idle: ask, as soon as it can hear, then SIGTERM, then SIGKILL."""
        self._wait_ready()
        if self.ready_s is not None:
            self.send(Frame(Kind.STOP))
            self._wait(STOP_S)
        if self._process.poll() is None:
            self._process.terminate()
            self._wait(TERM_S)
        self.kill()

    def kill(self) -> None:
        """Leave nothing: the launcher with all that descends from it, every rank and helper that is known, and what
        MPI has made for them."""
        if self._process.poll() is None:
            self._known |= leftovers.freeze(self._process.pid)
            self._files |= leftovers.files_of(self._known)
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for pid, ticks in self._known.items():
            if started_ticks(pid) == ticks:
                os.kill(pid, signal.SIGKILL)
        leftovers.remove(self._files)
        self.copy_output()

    def close(self) -> None:
        if self._cut:
            self._pass_on([self._cut.decode(errors="replace")])
        self.socket.close()
        self._slots.close()
        self.cancels.close()
        os.close(self.exited)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _note_ready(self, note: dict[str, Any]) -> None:
        self.ready_s = time.monotonic()
        self.hosts = len(note["hosts"])
        if self.hosts == 1:  # pids of other hosts mean nothing here
            # 0 for one that is dead already: then it will not be taken for alive.
            self._ranks = {pid: started_ticks(pid) or 0 for pid in note["ranks"]}
            self._known.update(self._ranks)
            self._files = leftovers.files_of(self._ranks)
            for rank, pid in enumerate(note["helpers"]):
                self._note_helper(rank, pid)

    def _note_helper(self, rank: int, pid: int) -> None:
        if self.hosts == 1:
            self._known.pop(self._helpers.get(rank, 0), None)
            self._helpers[rank] = pid
            self._known[pid] = started_ticks(pid) or 0

    def _wait_ready(self) -> None:
        """A world that is starting ends in order a moment later."""
        deadline = time.monotonic() + STOP_S
        while self.ready_s is None and self._process.poll() is None and time.monotonic() < deadline:
            self.copy_output()
            self.receive(wait_ms=20)

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < deadline:
            self.copy_output()  # who cannot print cannot end
            time.sleep(0.005)


def folder_of(parent: Path, generation: int) -> Path:
    """A folder for one world. Socket paths must be short, and each generation gets fresh ones."""
    folder = parent / str(generation)
    folder.mkdir()
    return folder
