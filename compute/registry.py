"""The pools of this user on this machine: a file each in a folder, so that `pool status` and `pool stop` find them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..peers.errors import InvalidArgument, NotFound, PermissionDenied
from ..peers.errors import Timeout as TimedOut
from .leftovers import remove_unused
from .orphans import started_ticks

FOLDER_PREFIX = "penstock-pool-"


@dataclass(frozen=True)
class PoolState:
    """What a pool says of itself. `taken`, `done`, `failed` (failed tries), `returned` and `cancelled` (in hand) count
    jobs since it started; `first_lease_ms` and `last_result_ms` are the first job's coming and the last result's
    confirmation by the daemon (milliseconds since 1970). `world` holds the pids of the launcher and of ranks and
    helpers, and the `files` that MPI has made for them elsewhere; `running` what these are at: offset of the first job
    of each call, how many `jobs` the call has, its `task`, `since_ms`, `progress` and `text`; `folder` its sockets and
    slots; `error` why it ended."""

    pid: int
    pid_started: int
    name: str
    queue: str
    ranks: int
    tasks: str
    endpoint: str  # those of all nodes of a cluster, with spaces between
    phase: str
    started_ms: int
    taken: int = 0
    done: int = 0
    failed: int = 0
    returned: int = 0
    cancelled: int = 0
    restarts: int = 0
    in_hand: int = 0
    first_lease_ms: int | None = None
    last_result_ms: int | None = None
    world: dict[str, Any] = field(default_factory=dict)
    running: list[dict[str, Any]] = field(default_factory=list)
    folder: str = ""
    error: str = ""

    @property
    def alive(self) -> bool:
        """Is the process that wrote this still there? A pid alone may belong to another one by now."""
        return started_ticks(self.pid) == self.pid_started

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def default_folder() -> Path:
    """XDG_RUNTIME_DIR/penstock-pools, or a folder of this user below the temporary one."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir():
        return Path(runtime, "penstock-pools")
    return Path(tempfile.gettempdir(), f"penstock-pools-{os.getuid()}")


def own_folder(folder: Path | None) -> Path:
    """The folder, made if need be. Raises PermissionDenied if it is somebody else's: its files say whom we signal."""
    folder = folder or default_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionDenied(f"{folder} is not a folder of yours", "give another one as state_dir")
    return folder


class StateFile:
    """The file of one pool, written whole, and only when something changed."""

    def __init__(self, folder: Path | None, pid: int) -> None:
        self.path = own_folder(folder) / f"{pid}.json"
        self._written = ""

    def write(self, state: PoolState) -> None:
        text = json.dumps(state.to_dict())
        if text != self._written:
            draft = self.path.with_suffix(".new")
            draft.write_text(text)
            os.replace(draft, self.path)
            self._written = text

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def read_state(path: Path) -> PoolState | None:
    """The state in a file; None if it is gone or written by another version."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    known = {each.name for each in fields(PoolState)}
    if not isinstance(found, dict) or found.keys() != known:
        return None
    return PoolState(**found)


def pool_status(state_dir: Path | None = None) -> list[PoolState]:
    """The pools that live, oldest first. Files that dead ones left are cleared away."""
    folder = own_folder(state_dir)
    states = []
    for path in folder.glob("*.json"):
        state = read_state(path)
        if state is not None and state.alive:
            states.append(state)
        elif state is not None:
            _clear_away(path, state)
    return sorted(states, key=lambda state: state.started_ms)


def _clear_away(path: Path, state: PoolState) -> None:
    """What a pool leaves that was killed. Its folder is named in a file that only this user can write."""
    if not remove_unused(state.world.get("files", [])):
        return  # its ranks are dying still: next time
    if Path(state.folder).name.startswith(FOLDER_PREFIX):
        shutil.rmtree(state.folder, ignore_errors=True)
    path.unlink(missing_ok=True)


def stop_pool(name_or_pid: str | int, state_dir: Path | None = None, timeout_s: float = 20.0) -> PoolState:
    """Ask a pool to end cleanly and wait until it has. Its last state, as far as it was written down.

    Raises NotFound if there is none of that name or pid, InvalidArgument if the name fits several, Timeout.
    """
    pools = pool_status(state_dir)
    found = [pool for pool in pools if str(name_or_pid) in (pool.name, str(pool.pid))]
    if not found:
        known = ", ".join(f"{pool.name} (pid {pool.pid})" for pool in pools) or "none"
        raise NotFound(f"no pool {name_or_pid!r} runs here", f"running: {known}")
    if len(found) > 1:
        pids = ", ".join(f"{pool.pid} ({pool.endpoint})" for pool in found)
        raise InvalidArgument(f"{len(found)} pools are called {name_or_pid!r}", f"give one of the pids: {pids}")
    pool = found[0]
    path = own_folder(state_dir) / f"{pool.pid}.json"
    os.kill(pool.pid, signal.SIGTERM)

    def ended() -> bool:
        nonlocal pool
        pool = read_state(path) or pool
        return not pool.alive

    wait_until(ended, timeout_s, f"pool {pool.name} (pid {pool.pid}) to end; it goes on ending")
    return replace(pool, phase="ended", world={}, running=[])


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Raises Timeout, which names `what`, if it does not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            raise TimedOut(f"waited {timeout_s:g} s for {what}")
        time.sleep(0.01)
