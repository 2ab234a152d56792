"""Keys of nodes, and who is let in with which: CURVE between nodes, decided by a list of public keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import zmq
from zmq.utils import z85

from .errors import AlreadyExists, InvalidArgument

DOMAIN = b"penstock"
AUTHORITY = "inproc://zeromq.zap.01"  # where libzmq asks who may come in (RFC 27, ZAP)
OPEN_TO_OTHERS = 0o077
Socket = zmq.Socket[bytes]


class KeyPair(NamedTuple):
    """Both keys of a node, as texts of 40 characters (Z85)."""

    public: str
    secret: str


def make_keys(path: Path) -> KeyPair:
    """A new pair, its secret key in a file that only its owner may read. Raises AlreadyExists; never overwrites one."""
    public, secret = (key.decode() for key in zmq.curve_keypair())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as fault:
        raise AlreadyExists(f"there is a key in {path} already", "it is kept; move it away to get a new one") from fault
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(descriptor)
    return KeyPair(public, secret)


def read_keys(path: Path) -> KeyPair:
    """The pair whose secret key is in this file. Raises InvalidArgument, also if others than its owner may read it."""
    try:
        with path.open(encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & OPEN_TO_OTHERS:
                raise InvalidArgument(
                    f"the secret key {path} can be read by others than its owner (mode {mode & 0o777:04o})",
                    f"chmod 600 {path}; if somebody else may have read it, the node needs a new one",
                )
            secret = file.read().strip()
        return KeyPair(zmq.curve_public(secret.encode()).decode(), secret)
    except OSError as fault:
        raise InvalidArgument(
            f"the secret key {path} cannot be read: {fault.strerror}", "make one with: penstock init"
        ) from fault
    except (ValueError, zmq.ZMQError) as fault:
        raise InvalidArgument(f"{path} holds no secret key", "make one with: penstock init") from fault


class Doorkeeper:
    """Answers libzmq, for one context, whether a public key may come in, and as which node."""

    def __init__(self, socket: Socket) -> None:
        """`socket`: a fresh REP. To be made before the sockets that it guards are bound."""
        self.nodes: dict[bytes, int] = {}  # who may come in: public key -> node
        self.denied = 0
        self.socket = socket
        self.socket.bind(AUTHORITY)

    def admit(self, node: int, key: str) -> None:
        self.dismiss(node)
        self.nodes[z85.decode(key)] = node

    def dismiss(self, node: int) -> None:
        """What stands already is not cut."""
        self.nodes = {key: other for key, other in self.nodes.items() if other != node}

    def answer(self, frames: list[bytes]) -> None:
        """One question of libzmq: version, number, domain, address, id, mechanism, credentials."""
        version, number, domain, *_, mechanism = frames[:6]
        key = frames[6] if len(frames) == 7 and (domain, mechanism) == (DOMAIN, b"CURVE") else b""
        node = self.nodes.get(key)
        if node is None:
            self.denied += 1
            # 300, not 400: who joins may be listed later, and with 400 libzmq never tries again.
            said = [version, number, b"300", b"this key is not listed", b"", b""]
        else:
            said = [version, number, b"200", b"", b"%d" % node, b""]
        self.socket.send_multipart(said, zmq.NOBLOCK)
