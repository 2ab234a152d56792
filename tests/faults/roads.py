"""The roads between the nodes of a cluster: each bends through here, and can be blocked in one direction or in both.

What is on a blocked road waits there, as it does in a network that repeats what is lost; nothing is dropped amid a
stream. New connections can be opened and bring nothing, until the road is open again.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from faults.cluster import NODES, Address, Cluster

PIECE_BYTES = 1 << 16


class RoadWorks:
    """A context manager. Needs no rights, and knows no lost packets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._open = {pair: threading.Event() for pair in itertools.permutations(NODES, 2)}
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        for event in self._open.values():
            event.set()

    def cluster(self) -> Cluster:
        """Three nodes that find each other by these roads."""
        return Cluster(self.folder, roads={pair: self._address(*pair) for pair in self._open})

    def _address(self, here: int, there: int) -> Address:
        """How `here` finds `there`."""
        return f"ipc://{self.folder}/{here}{there}l", f"ipc://{self.folder}/{here}{there}p"

    def __enter__(self) -> Self:
        for here, there in self._open:
            for kind in "lp":
                listener = self._new()
                listener.bind(f"{self.folder}/{here}{there}{kind}")
                listener.listen()
                self._run(self._accept, listener, here, there, f"{self.folder}/{there}{kind}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self.open()
        with self._lock:
            sockets = list(self._sockets)
        for each in sockets:
            _end(each)
        for thread in self._threads:
            thread.join()
        for each in sockets:
            each.close()

    def block(self, sender: int, receiver: int) -> None:
        """From now on `receiver` hears nothing of `sender`."""
        self._open[sender, receiver].clear()

    def cut(self, node: int, *others: int) -> None:
        """Block the roads between a node and some others (default: all of them), in both directions."""
        for other in others or [each for each in NODES if each != node]:
            self.block(node, other)
            self.block(other, node)

    def open(self) -> None:
        """All roads."""
        for event in self._open.values():
            event.set()

    # -- threads ------------------------------------------------------------------------------------------------------

    def _new(self, connected_to: str = "") -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        self._keep(made)
        if connected_to:
            made.connect(connected_to)
        return made

    def _keep(self, made: socket.socket) -> None:
        with self._lock:
            self._sockets.add(made)

    def _run(self, what: object, *args: object) -> None:
        thread = threading.Thread(target=what, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket, here: int, there: int, target: str) -> None:
        while not self._closed.is_set():
            try:
                near, _ = listener.accept()
            except OSError:
                return  # the works are over
            self._keep(near)
            try:
                far = self._new(target)
            except OSError:  # nobody is there
                _end(near)
                continue
            self._run(self._carry, near, far, self._open[here, there])
            self._run(self._carry, far, near, self._open[there, here])

    def _carry(self, source: socket.socket, target: socket.socket, gate: threading.Event) -> None:
        """One direction of a connection. The news of its end waits at the gate, too."""
        with contextlib.suppress(OSError):  # either end may have gone
            while piece := source.recv(PIECE_BYTES):
                gate.wait()
                target.sendall(piece)
        gate.wait()
        for each in (source, target):
            _end(each)


def _end(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
