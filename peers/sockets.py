"""Sockets between nodes, with every limit set, and encrypted if there are keys."""

from __future__ import annotations

from dataclasses import dataclass

import zmq

from .curve import DOMAIN, KeyPair
from .errors import InvalidArgument

Socket = zmq.Socket[bytes]
Context = zmq.Context[Socket]

LINGER_MS = 200
RECONNECT_MS, RECONNECT_MAX_MS = 50, 200  # a node that came back has to be heard in the next election


@dataclass(frozen=True)
class Sockets:
    """Opens them. `frame_max`: bytes; who sends more is cut off. `keys`: None, in the clear."""

    context: Context
    election_ms: int
    frame_max: int
    keys: KeyPair | None

    def open(self, kind: int, hwm: int, endpoint: str = "", key: str = "") -> Socket:
        """A fresh one. `endpoint`, `key`: of the node that it is to be connected to."""
        socket = self.context.socket(kind)
        for option, value in (
            (zmq.LINGER, LINGER_MS), (zmq.SNDHWM, hwm), (zmq.RCVHWM, hwm), (zmq.MAXMSGSIZE, self.frame_max),
            (zmq.HANDSHAKE_IVL, self.election_ms), (zmq.IPV6, int("[" in endpoint)),
            (zmq.RECONNECT_IVL, RECONNECT_MS), (zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS),
            # The kernel repeats an unanswered SYN after ever longer pauses: after a partition that would be minutes.
            (zmq.CONNECT_TIMEOUT, self.election_ms),
            *self._signs_of_life(kind),
        ):  # fmt: skip
            socket.setsockopt(option, value)
        if self.keys is not None and kind != zmq.REP:  # that one asks and answers within this process
            self._encrypt(socket, self.keys, is_server=kind in (zmq.ROUTER, zmq.PUB), key=key)
        return socket

    @staticmethod
    def _encrypt(socket: Socket, keys: KeyPair, is_server: bool, key: str) -> None:
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode())
        if is_server:
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)  # without it nobody would ask who it is
        else:
            socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.encode())
            socket.setsockopt(zmq.CURVE_SERVERKEY, key.encode())

    def _signs_of_life(self, kind: int) -> list[tuple[int, int]]:
        # A connection that a SUB itself gives up while its queue is full aborts the process (libzmq issue 3937): it
        # must neither ping nor be told a TTL. The kernel asks instead, and takes no full queue for a dead host.
        if kind == zmq.SUB:
            return [(zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, 1), (zmq.TCP_KEEPALIVE_INTVL, 1),
                    (zmq.TCP_KEEPALIVE_CNT, 2)]  # fmt: skip
        ttl_ms = 0 if kind == zmq.PUB else self.election_ms
        return [(zmq.HEARTBEAT_IVL, max(self.election_ms // 4, 1)), (zmq.HEARTBEAT_TIMEOUT, self.election_ms),
                (zmq.HEARTBEAT_TTL, ttl_ms)]  # fmt: skip


def bind(socket: Socket, endpoint: str) -> str:
    """Listen there; the endpoint as the system understood it. Raises InvalidArgument."""
    try:
        socket.setsockopt(zmq.IPV6, int("[" in endpoint))
        socket.bind(endpoint)
    except zmq.ZMQError as fault:
        raise InvalidArgument(
            f"cannot listen for peers on {endpoint}: {fault.strerror}", "is another daemon there?"
        ) from fault
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)
