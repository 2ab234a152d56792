"""Three real daemons that are one broker, on ipc sockets in one folder: found at the same places after a restart."""

from __future__ import annotations

import itertools
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import penstock
from faults.crew import LIMIT_S, Crew, end, make_queues, progress, until
from faults.history import check
from faults.worker import WORK
from penstock.cli.processes import spawn
from penstock.client.cluster import ClusterInfo

NODES = (1, 2, 3)
LOOK_S = 0.3  # for one look at one node, which may be dead or frozen
STEP = 60_000  # bytes of history: something has happened
MIXED = (("produce", "p1"), ("submit", "s1"), ("consume", "c1"), ("consume", "c2"), ("complete", "w1"))
Address = tuple[str, str]  # where a node listens for peers, and where it publishes
Roads = Mapping[tuple[int, int], Address]  # how node A finds node B, if not directly


class Cluster:
    """A context manager: three daemons, and a primary among them. `roads`: by which detours nodes find each other."""

    def __init__(self, folder: Path, settings: str = "", roads: Roads | None = None) -> None:
        self.folder = folder
        self.frozen: set[int] = set()
        self.harms: list[tuple[float, str]] = []  # what was done, and when, on the clock of histories
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        for node in NODES:
            (folder / str(node)).mkdir()
            self._config(node).write_text(self._settings(node, settings, roads or {}), encoding="utf-8")

    def _settings(self, node: int, more: str, roads: Roads) -> str:
        listen, publish = self.address(node)
        text = f'[node]\nid = {node}\ndata = "{self.folder}/{node}/data"\nlisten = "{self.client(node)}"\n'
        text += f'[cluster]\nlisten = "{listen}"\npublish = "{publish}"\n'
        for peer in NODES:
            listen, publish = roads.get((node, peer)) or self.address(peer)
            text += f'[[cluster.peer]]\nid = {peer}\nclient = "{self.client(peer)}"\n'
            text += f'listen = "{listen}"\npublish = "{publish}"\n'
        return text + more

    def _config(self, node: int) -> Path:
        return self.folder / str(node) / "daemon.toml"

    def log(self, node: int) -> Path:
        return self.folder / str(node) / "log"

    def client(self, node: int) -> str:
        return f"ipc://{self.folder}/{node}c"

    def address(self, node: int) -> Address:
        return f"ipc://{self.folder}/{node}l", f"ipc://{self.folder}/{node}p"

    @property
    def endpoint(self) -> list[str]:
        """Where clients find it."""
        return [self.client(node) for node in NODES]

    def __enter__(self) -> Self:
        try:
            self.start(*NODES)
            self.primary()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is not None:
            for node in NODES:
                print(f"-- node {node}\n{self.log(node).read_text(errors='replace')[-4000:]}")  # noqa: T201 (why it failed)

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    # -- looking ------------------------------------------------------------------------------------------------------

    def look(self, node: int) -> ClusterInfo | None:
        """What this node itself says of the cluster. None: it says nothing."""
        try:
            with penstock.connect(self.client(node), read_only=True, retry_for=LOOK_S) as client:
                return client.cluster()
        except penstock.PenstockError:
            return None

    def endpoints(self, *apart_from: int) -> dict[int, str]:
        """Where clients find the nodes, but for some."""
        return {node: self.client(node) for node in NODES if node not in apart_from}

    def primary(self, other_than: int = 0, limit_s: float = LIMIT_S) -> int:
        """Wait until a node is primary in the eyes of a majority, itself included, and return it."""
        deadline = time.monotonic() + limit_s
        while True:
            infos = [info for node in self.alive if (info := self.look(node)) is not None]
            for info in infos:
                agreed = [it for it in infos if (it.primary, it.term) == (info.node, info.term)]
                if info.role == "primary" and info.node != other_than and len(agreed) > len(NODES) // 2:
                    return info.node
            assert time.monotonic() < deadline, f"no primary within {limit_s:g} s: {infos}"

    def replicas(self, primary: int | None = None) -> list[int]:
        """The others."""
        primary = self.primary() if primary is None else primary
        return [node for node in NODES if node != primary]

    @property
    def alive(self) -> list[int]:
        """The nodes that run, and are not frozen. None has ended by itself."""
        for node, process in self._processes.items():
            assert process.poll() is None, f"node {node} ended with {process.returncode}"
        return [node for node in self._processes if node not in self.frozen]

    def sees(self, node: int, condition: Callable[[ClusterInfo], object]) -> bool:
        """Does this node answer, and with something of this kind?"""
        info = self.look(node)
        return info is not None and bool(condition(info))

    def whole(self) -> int:
        """Wait until all nodes follow the same primary, and return it."""

        def agreed() -> bool:
            infos = [info for node in NODES if (info := self.look(node)) is not None]
            return len(infos) == len(NODES) and len({(info.primary, info.term) for info in infos}) == 1

        until(agreed, "all nodes follow one primary")
        return self.primary()

    def alike(self) -> None:
        """Wait until all nodes have applied the same, and have nothing more to apply."""

        def same() -> bool:
            infos = [self.look(node) for node in NODES]
            return None not in infos and len({(it.applied, it.commit) for it in infos if it is not None}) == 1

        until(same, "all nodes have applied the same")

    # -- harm ---------------------------------------------------------------------------------------------------------

    def kill(self, *nodes: int) -> None:
        """kill -9, of all at once."""
        self.note(f"kill {nodes}")
        for node in nodes:
            self._processes[node].kill()
        for node in nodes:
            self._processes.pop(node).wait()
            self.frozen.discard(node)

    def stop(self, *nodes: int) -> None:
        """Have these end as SIGTERM does."""
        for node in nodes:
            self._processes[node].terminate()
        for node in nodes:
            assert self._processes.pop(node).wait(LIMIT_S) == 0

    def start(self, *nodes: int) -> None:
        """Start these, without waiting for them."""
        for node in nodes:
            with self.log(node).open("ab") as log:
                self._processes[node] = self._spawn(node, log)

    def _spawn(self, node: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return spawn(self._words(node), log)

    def _words(self, node: int) -> list[str]:
        return ["serve", "--config", str(self._config(node))]

    def ended(self, node: int) -> int:
        """Wait until this one has ended by itself, and return its exit code."""
        code = self._processes[node].wait(LIMIT_S)
        del self._processes[node]
        return code

    def freeze(self, node: int) -> None:
        self.note(f"freeze {node}")
        self._processes[node].send_signal(signal.SIGSTOP)
        self.frozen.add(node)

    def thaw(self, node: int) -> None:
        self.frozen.discard(node)
        self._processes[node].send_signal(signal.SIGCONT)

    def note(self, what: str) -> None:
        self.harms.append((time.monotonic_ns() / 1e6, what))


def gaps_s(confirmed_ms: Iterable[float], harms_ms: Iterable[float]) -> list[float]:
    """For each harm: the longest time, up to the next one, in which no publish was confirmed. In order of size."""
    times = sorted(confirmed_ms)
    harms = sorted(harms_ms)
    found = []
    for since, until_ms in itertools.pairwise([*harms, times[-1]]):
        seen = [since, *(at for at in times if since < at < until_ms), until_ms]
        found.append(max(later - sooner for sooner, later in itertools.pairwise(seen)))
    return sorted(round(gap / 1000, 3) for gap in found)


def begin(crew: Crew[Cluster]) -> None:
    """Set everybody to work."""
    make_queues(crew.daemon.endpoint)
    for role, name in MIXED:
        crew.start(role, name)


def end_alike(crew: Crew[Cluster], what: str) -> None:
    """Empty the queues; judge what happened; the nodes agree on it."""
    crew.daemon.whole()
    end(crew, what)
    crew.daemon.alike()


def told(crew: Crew[Cluster], what: str) -> None:
    """All is well so far. What it came to is for people: pytest -s."""
    progress(crew, STEP)
    now_ms = time.monotonic_ns() / 1e6
    events = [event for event in crew.history() if event.at_ms < now_ms]  # the files are read one after the other
    violations = check(events, drained=False)
    assert not violations, violations[:20]
    confirmed_ms = [event.at_ms for event in events if event.kind == "accepted" and event.queue == WORK]
    gaps = gaps_s(confirmed_ms, [at_ms for at_ms, _ in crew.daemon.harms])
    crew.daemon.harms.clear()
    print(f"{what}: acknowledged so far {len(confirmed_ms)}, gaps in confirmed publishes {gaps} s")  # noqa: T201
