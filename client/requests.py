"""One request of a client, from its asking to its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..peers.errors import PenstockError

# What these refer to dies with its session, so they are never asked again in a new one.
LEASE_OPS = frozenset({"ack", "nack", "reject", "release", "extend", "complete", "job_progress", "job_log"})

# The node cannot serve this now, and another one, or this one later, can. Nothing was done, and the sequence was not
# used.
ELSEWHERE = frozenset({"NotPrimary", "NoQuorum", "Closed"})
HELLO_FIRST = "say hello first"  # the hint of a ProtocolError: this connection speaks for no session
# Refusals of a hello that time heals; the others are the caller's fault and end the try.
HEALING = ELSEWHERE | {"StorageFull", "Timeout"}


class Request:
    """A request and, once `done`, its answer: `body` and `data` (the payload), or `error`.

    `counted`: it changes state and takes part in the numbering that makes a repeat harmless. `wait_ms`: how long the
    daemon may park it. `single`: if its connection is lost it fails, and is not asked again. `then` is called once,
    when it is done, by the thread that heard the answer. `orphaned`: what to ask once the answer is there, if whoever
    waited for it was cancelled meanwhile.
    """

    __slots__ = (
        "args", "asked_ms", "body", "counted", "data", "deadline_ms", "done", "error", "frames", "link", "op",
        "orphaned", "payload", "refused_ms", "sent_ms", "sequence", "single", "then", "wait_ms",
    )  # fmt: skip

    def __init__(
        self,
        op: str,
        args: Mapping[str, Any],
        payload: bytes | None = None,
        *,
        counted: bool = False,
        wait_ms: int = 0,
        deadline_ms: int | None = None,
        single: bool = False,
        then: Callable[[Request], None] | None = None,
        orphaned: Callable[[Request], Sequence[Request]] | None = None,
    ) -> None:
        self.op = op
        self.args = args
        self.payload = payload
        self.counted = counted
        self.wait_ms = wait_ms
        self.deadline_ms = deadline_ms
        self.single = single
        self.then = then
        self.orphaned = orphaned
        self.done = False
        self.body: dict[str, Any] = {}
        self.data: bytes | None = None
        self.error: PenstockError | None = None
        self.sequence = 0  # 0: not sent yet
        self.frames: list[bytes] = []
        self.link = 0  # the connection it was first sent on
        self.asked_ms = 0
        self.sent_ms = 0
        self.refused_ms: int | None = None  # since when the daemon says "not now, ask again"


class Tell(Request):
    """A request whose answer nobody waits for."""

    __slots__ = ()
