"""Each node on a network of its own, all of them on one bridge; routes are blackholed in one direction or in both.

Here packets are lost, TCP repeats them after ever longer pauses, and connections die of it: what RoadWorks cannot show.
The addresses are loopback ones, which the kernel is told to route: nodes refuse to speak in the clear over others.
Needs root, and a kernel that lets it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import pytest

from faults.cluster import NODES, Address, Cluster


class Namespaces:
    """A context manager: the networks. It skips the test where they are not permitted, and leaves nothing behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._prefix = f"pf{os.getpid()}"
        self._blocked: set[tuple[int, int]] = set()

    def __enter__(self) -> Self:
        try:
            self._build()
        except (OSError, subprocess.CalledProcessError) as fault:
            self._raze()
            why = getattr(fault, "stderr", None) or str(fault)
            pytest.skip(f"network namespaces cannot be made here: {why.strip()}")
        except BaseException:
            self._raze()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._raze()

    def cluster(self) -> Cluster:
        return _Apart(self.folder, self)

    def block(self, sender: int, receiver: int) -> None:
        """From now on `receiver` hears nothing of `sender`, not even that its own words arrived."""
        if (sender, receiver) not in self._blocked:
            self._in(sender, "ip", "route", "add", "blackhole", f"{host(receiver)}/32")
            self._blocked.add((sender, receiver))

    def cut(self, node: int, *others: int) -> None:
        """Block the routes between a node and some others (default: all of them), in both directions."""
        for other in others or [each for each in NODES if each != node]:
            self.block(node, other)
            self.block(other, node)

    def open(self) -> None:
        """All routes."""
        while self._blocked:
            sender, receiver = self._blocked.pop()
            self._in(sender, "ip", "route", "del", "blackhole", f"{host(receiver)}/32")

    def inside(self, node: int) -> list[str]:
        """What runs a command on the network of a node."""
        return ["ip", "netns", "exec", self._name(node)]

    def _name(self, node: int) -> str:
        return f"{self._prefix}n{node}"

    def _in(self, node: int, *command: str) -> None:
        run(*self.inside(node), *command)

    def _build(self) -> None:
        bridge = f"{self._prefix}b"
        run("ip", "link", "add", bridge, "type", "bridge")
        run("ip", "link", "set", bridge, "up")
        for node in NODES:
            name, port = self._name(node), f"{self._prefix}v{node}"
            run("ip", "netns", "add", name)
            run("ip", "link", "add", port, "type", "veth", "peer", "name", "e0", "netns", name)
            run("ip", "link", "set", port, "master", bridge, "up")
            self._in(node, "sysctl", "-q", "net.ipv4.conf.all.route_localnet=1")
            self._in(node, "ip", "addr", "add", f"{host(node)}/24", "dev", "e0")
            self._in(node, "ip", "link", "set", "e0", "up")

    def _raze(self) -> None:
        for words in [
            *(["ip", "link", "del", f"{self._prefix}v{node}"] for node in NODES),
            *(["ip", "netns", "del", self._name(node)] for node in NODES),
            ["ip", "link", "del", f"{self._prefix}b"],
        ]:
            subprocess.run(words, capture_output=True, check=False)  # it may never have been made


class _Apart(Cluster):
    """A cluster whose nodes speak to each other over these networks. Clients come by ipc, which knows no networks."""

    def __init__(self, folder: Path, networks: Namespaces) -> None:
        self._networks = networks
        super().__init__(folder)

    def address(self, node: int) -> Address:
        return f"tcp://{host(node)}:7471", f"tcp://{host(node)}:7472"

    def _spawn(self, node: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
        command = [*self._networks.inside(node), sys.executable, "-m", "penstock.cli", *self._words(node)]
        return subprocess.Popen(
            [*command, "--parent-pid", str(os.getpid())],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def host(node: int) -> str:
    return f"127.77.0.{node}"


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)
