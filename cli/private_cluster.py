"""A cluster of one's own: daemons on loopback, in a temporary folder, gone when the block ends."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..peers.errors import PenstockError, Timeout
from .init import KEY_FILE
from .ports import HeldPorts
from .private import CONNECT_S, POLL_S, START_S, PrivateDaemon
from .processes import Started

if TYPE_CHECKING:
    from ..client.cluster import ClusterInfo

LOOK_S: Final = 0.5  # for a node that may be down
NO_KEYS: Final[Mapping[int, str]] = {}
Address = tuple[str, str, str]  # for clients; for nodes: the ROUTER, the PUB


class PrivateCluster(Started):
    """A context manager: `size` running daemons that have a primary. Nodes are numbered from 1.

    `settings` is the text of every daemon.toml without [node], [cluster] and peers. A `folder` that is given stays.
    `curve`: what nodes say to each other is encrypted, with keys made for it.
    """

    def __init__(self, size: int = 3, settings: str = "", folder: Path | None = None, curve: bool = False) -> None:
        self._own = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix="penstock-")) if folder is None else folder
        self._settings = settings
        self._curve = curve
        self.keys: dict[int, str] = {}  # public ones, by node
        self._ports = HeldPorts()
        self._founders = {node: self._new_address() for node in range(1, size + 1)}
        for node in self._founders:
            self._make_folder(node)
        self.nodes = {node: self._daemon(node, self._founders) for node in self._founders}

    @property
    def endpoints(self) -> list[str]:
        """Where the nodes listen for clients, running or not, in the order of their numbers."""
        return [daemon.listen for daemon in self.nodes.values()]

    def start(self) -> None:
        """Start all that do not run, and wait until there is a primary that all of them are connected to."""
        launched = [(daemon, daemon.launch()) for daemon in self.nodes.values() if not daemon.running]
        for daemon, process in launched:
            daemon.await_start(process)
        self.settle()

    def add(self, node: int) -> Address:
        """Start one more node, that waits to be made a member: its addresses."""
        address = self._new_address()
        self._make_folder(node)
        self.nodes[node] = self._daemon(node, {**self._founders, node: address}, join=True)
        self.nodes[node].start()
        return address

    def info(self, node: int) -> ClusterInfo | None:
        """What a node tells of the cluster. None: it does not answer."""
        from ..client import connect

        if not self.nodes[node].running:
            return None
        try:
            with connect(self.nodes[node].listen, read_only=True, retry_for=LOOK_S) as client:
                return client.cluster()
        except PenstockError:
            return None  # it is on its way up or down

    def primary(self) -> int | None:
        """The node that is the primary, by its own word. None: there is none now."""
        infos = [info for node in self.nodes if (info := self.info(node)) is not None and info.role == "primary"]
        return max(infos, key=lambda info: info.term).node if infos else None  # an elder may not know yet

    def settle(self, patience_s: float = START_S, lag_max: int = 1000) -> int:
        """Wait until all nodes that run follow one primary, and are hardly behind it. Returns the primary."""
        found = 0

        def settled() -> bool:
            nonlocal found
            found = self.primary() or 0
            info = self.info(found) if found else None
            if info is None:
                return False
            rows = {member.node: member for member in info.members}
            running = [node for node, daemon in self.nodes.items() if daemon.running and node in rows]
            # A match of 0 was never told: nobody knows yet how far that node is.
            return all(
                rows[node].connected and rows[node].match and (rows[node].lag or 0) <= lag_max for node in running
            )

        wait_until(settled, f"the nodes in {self.folder} did not agree on a primary", patience_s)
        return found

    def close(self) -> None:
        with ExitStack() as stack:
            if self._own:
                stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            stack.callback(self._ports.close)
            for daemon in self.nodes.values():
                stack.callback(daemon.close)

    def _new_address(self) -> Address:
        return self._ports.endpoint(), self._ports.endpoint(), self._ports.endpoint()

    def _daemon(self, node: int, peers: dict[int, Address], join: bool = False) -> PrivateDaemon:
        text = configuration(node, peers, join, self.keys) + self._settings
        return PrivateDaemon(text, self._folder(node), listen=peers[node][0])

    def _folder(self, node: int) -> Path:
        return self.folder / f"node-{node}"

    def _make_folder(self, node: int) -> None:
        self._folder(node).mkdir(parents=True, exist_ok=True)
        if self._curve:
            from ..peers.curve import make_keys

            self.keys[node] = make_keys(self._folder(node) / KEY_FILE).public


def configuration(node: int, peers: dict[int, Address], join: bool = False, keys: Mapping[int, str] = NO_KEYS) -> str:
    """The daemon.toml of one node, without where its data is. `keys`: public ones, by node; none: in the clear."""
    _, listen, publish = peers[node]
    lines = ["[node]", f"id = {node}", "[cluster]", f'listen = "{listen}"', f'publish = "{publish}"']
    lines += ["join = true"] if join else []
    for peer, address in peers.items():
        lines += ["[[cluster.peer]]", f"id = {peer}"]
        lines += [f'{key} = "{value}"' for key, value in zip(("client", "listen", "publish"), address, strict=True)]
        lines += [f'public_key = "{keys[peer]}"'] if keys else []
    lines += ["[security]", "curve = true"] if keys else []
    return "\n".join([*lines, ""])


def wait_until(condition: Callable[[], object], otherwise: str, patience_s: float = CONNECT_S) -> None:
    """Return when the condition is true. Raises Timeout, which says what is `otherwise`."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise Timeout(f"{otherwise} within {patience_s:g} s")
        time.sleep(POLL_S)
