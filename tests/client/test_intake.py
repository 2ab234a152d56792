"""How a consumer asks for messages, against a daemon that says what a test tells it to say."""

from __future__ import annotations

from typing import Any

import penstock
from penstock.peers import wire

LIMIT_S = 20.0
NOTHING = {"lease": None, "ends_ms": 0, "ranges": []}
ONE = {"lease": 7, "ends_ms": 2**40, "ranges": [[0, 1, 1, 0, 0]]}


def after(empty: int) -> Any:
    """A daemon that has nothing for so many pulls, then one message."""
    pulls = [0]

    def handle(request: wire.Request) -> Any:
        if request.op != "pull":
            return "ok", {}, None
        pulls[0] += 1
        return ("ok", NOTHING, None) if pulls[0] <= empty else ("ok", ONE, wire.pack_payload([b"body"]))

    return handle


def test_who_waits_without_prefetch_asks_again_until_something_comes(fake: Any) -> None:
    fake.handle = after(2)
    with penstock.connect(fake.endpoint) as client, client.consumer("work", prefetch=0) as consumer:
        message = consumer.receive(timeout=LIMIT_S)
        assert message is not None
        assert message.body == b"body"
    waits = [request.args["wait_ms"] for request in fake.heard if request.op == "pull"]
    assert len(waits) == 3
    assert waits == sorted(waits, reverse=True)  # never longer than what is left of the time


def test_who_waits_for_ever_asks_for_as_long_as_it_takes(fake: Any) -> None:
    fake.handle = after(1)
    with penstock.connect(fake.endpoint) as client, client.consumer("work", prefetch=0) as consumer:
        assert consumer.receive() is not None


def test_a_short_wait_that_came_to_nothing_does_not_spoil_the_next_one(fake: Any) -> None:
    fake.handle = after(1)
    with penstock.connect(fake.endpoint) as client, client.consumer("work", prefetch=0) as consumer:
        assert consumer.receive(timeout=0) is None  # its pull is on its way, and will bring nothing
        assert consumer.receive(timeout=LIMIT_S) is not None
