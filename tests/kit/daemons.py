"""Real daemons, and raw sockets that say to them what no client of ours would."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import zmq

from penstock.peers import wire

PATIENCE_S = 20.0


def until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """What `condition` answers once that is true."""
    deadline = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {patience_s:g} s: {what}"
        time.sleep(0.01)
    return found


class Raw:
    """A DEALER and the frames that go over it."""

    def __init__(self, endpoint: str, hwm: int = 0) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, hwm)
        self.socket.setsockopt(zmq.RCVHWM, hwm)
        self.socket.connect(endpoint)
        self.numbers = itertools.count(-1, -1)
        self.sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()
        self.context.term()

    def send(self, frames: Sequence[bytes]) -> None:
        self.socket.send_multipart(list(frames) or [b""])

    def receive(self, patience_s: float = PATIENCE_S) -> wire.Reply:
        assert self.socket.poll(round(patience_s * 1000)), "no reply"
        return wire.parse_reply(self.socket.recv_multipart())

    def silent(self, wait_s: float) -> bool:
        """Whether nothing comes within this time."""
        return not self.socket.poll(round(wait_s * 1000))

    def say_later(self, op: str, sequence: int, args: dict[str, Any], payload: bytes | None = None) -> None:
        """Say it; the reply is received later."""
        self.send(wire.request(op, sequence, args, payload))

    def say(self, op: str, sequence: int, args: dict[str, Any], payload: bytes | None = None) -> wire.Reply:
        self.send(wire.request(op, sequence, args, payload))
        return self.receive()

    def hello(self, session: str | None = None) -> dict[str, Any]:
        args = {"version": 1, "client": "raw"} | ({} if session is None else {"session": session})
        reply = self.say("hello", 0, args)
        assert reply.status == "ok", reply
        self.sequence = reply.body["last"]
        return reply.body

    def ask(self, op: str, **args: Any) -> wire.Reply:
        """A request that is not counted."""
        return self.say(op, next(self.numbers), args)

    def do(self, op: str, payload: bytes | None = None, **args: Any) -> wire.Reply:
        """A counted one."""
        self.sequence += 1
        return self.say(op, self.sequence, args, payload)
