"""Where clients reach a node under test: a ROUTER in a temporary folder.

The clock of the node stands still, and a client that waits for messages or for a result does so in real time. So a
request that waits is handed on as one that may wait for long, and when its real time is over it is asked again in its
client's place, without a wait: as a client does itself that wants its answer now.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import zmq

from ..broker.requests import WAIT_MAX_MS
from ..peers import wire
from ..peers.errors import ProtocolError

FRAME_MAX = 1 << 30
HEARD_MAX = 10_000  # messages at once

Frames = list[bytes]
Said = tuple[bytes, Frames]


class Door:
    """The socket of one life of one node. Used by one thread."""

    def __init__(self, endpoint: str) -> None:
        self.waits = Waits()
        self.heard = 0  # requests
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()  # its end is the end of everything that was sent
        self.socket = self._context.socket(zmq.ROUTER)
        options = ((zmq.LINGER, 0), (zmq.SNDHWM, 0), (zmq.RCVHWM, 0), (zmq.MAXMSGSIZE, FRAME_MAX))
        for option, value in (*options, (zmq.ROUTER_MANDATORY, 1)):
            self.socket.set(option, value)
        self.socket.bind(endpoint)

    def receive(self) -> list[Said]:
        """What has come."""
        heard: list[Said] = []
        while len(heard) < HEARD_MAX and self.socket.poll(0):
            route, *frames = self.socket.recv_multipart()
            heard.append((route, self.waits.hear(route, frames)))
        self.heard += len(heard)
        return heard

    def send(self, said: Sequence[Said]) -> list[bytes]:
        """Returns the routes on which it could not be said: the client is gone."""
        lost: list[bytes] = []
        for route, frames in said:
            self.waits.say(route, frames)
            try:
                self.socket.send_multipart([route, *frames])
            except zmq.ZMQError as fault:
                if fault.errno != zmq.EHOSTUNREACH:
                    raise
                lost.append(route)
                self.waits.forget(route)
        return lost

    def close(self) -> None:
        """As the end of a process closes it."""
        self.socket.close(0)
        self._context.term()


class _Wait:
    def __init__(self, request: wire.Request, deadline_s: float) -> None:
        op, sequence, args, payload = request
        self.deadline_s = deadline_s
        self.patient = wire.request(op, sequence, {**args, "wait_ms": WAIT_MAX_MS}, payload)
        self.impatient = wire.request(op, sequence, {**args, "wait_ms": 0}, payload)


class Waits:
    """The requests that wait at one node, each until its real time is over."""

    def __init__(self) -> None:
        self._waits: dict[tuple[bytes, int], _Wait] = {}
        self._routes: dict[str, bytes] = {}  # by session: where it was heard last

    def __len__(self) -> int:
        return len(self._waits)

    def hear(self, route: bytes, frames: Frames) -> Frames:
        """What the node is to hear."""
        if len(frames) < 2 or b"wait_ms" not in frames[1]:
            return frames
        try:
            request = wire.parse_request(frames)
        except ProtocolError:
            return frames  # the node says what is wrong with it
        wait_ms: Any = request.args.get("wait_ms")
        self._waits.pop((route, request.sequence), None)
        if type(wait_ms) is not int or not 0 < wait_ms <= WAIT_MAX_MS:
            return frames
        wait = self._waits[route, request.sequence] = _Wait(request, time.monotonic() + wait_ms / 1000)
        return wait.patient

    def say(self, route: bytes, frames: Frames) -> None:
        """The node answers."""
        reply = wire.parse_reply(frames)
        self._waits.pop((route, reply.sequence), None)
        session = reply.body.get("session")
        if type(session) is str:  # a client greeted: if it is known from another connection, that one is gone
            before = self._routes.get(session)
            if before is not None and before != route:
                self.forget(before)
            self._routes[session] = route

    def forget(self, route: bytes) -> None:
        """This connection is gone."""
        for key in [key for key in self._waits if key[0] == route]:
            del self._waits[key]

    def next_s(self) -> float | None:
        """When the next real time is over, by the monotonic clock."""
        return min((wait.deadline_s for wait in self._waits.values()), default=None)

    def due(self, now_s: float) -> list[Said]:
        """Those whose time is over, without a wait."""
        over = [(key, wait) for key, wait in self._waits.items() if wait.deadline_s <= now_s]
        for key, _ in over:
            del self._waits[key]
        return [(route, wait.impatient) for (route, _), wait in over]

    def anew(self) -> list[Said]:
        """All of them, to be asked again before the node's clock ends their wait, in the order in which they came."""
        return [(route, wait.patient) for (route, _), wait in self._waits.items()]
