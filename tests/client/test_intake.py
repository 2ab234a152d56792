"""How a consumer asks for messages, against a daemon that says what a test tells it to say."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import penstock
from penstock.client import intake
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


def test_a_wait_that_is_over_here_is_ended_at_the_daemon_too(fake: Any) -> None:
    """Its clock may be behind, and what it did not hear of is sent again when it is back."""
    fake.handle = lambda request: None if request.op == "pull" and request.args["wait_ms"] else ("ok", NOTHING, None)
    with penstock.connect(fake.endpoint) as client, client.consumer("work", prefetch=0) as consumer:
        assert consumer.receive(timeout=0.05) is None
        asked, ended = [request for request in fake.heard if request.op == "pull"]
        assert asked.args["wait_ms"] > 0
        assert ended.args["wait_ms"] == 0
        assert ended.sequence == asked.sequence


def test_what_comes_as_the_wait_is_ended_is_received(fake: Any) -> None:
    one = ("ok", ONE, wire.pack_payload([b"body"]))
    fake.handle = lambda request: None if request.op == "pull" and request.args["wait_ms"] else one
    with penstock.connect(fake.endpoint) as client, client.consumer("work", prefetch=0) as consumer:
        assert consumer.receive(timeout=0.05) is not None


def test_what_comes_when_nobody_waits_any_more_is_given_back(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "ANSWER_S", 0.0)
    late = threading.Event()

    def handle(request: wire.Request) -> Any:
        if request.op != "pull":
            return "ok", {}, None
        if request.args["wait_ms"]:
            return None
        late.wait(LIMIT_S)
        return "ok", ONE, wire.pack_payload([b"body"])

    fake.handle = handle
    with penstock.connect(fake.endpoint) as client, client.consumer("work", prefetch=0) as consumer:
        assert consumer.receive(timeout=0.05) is None
        late.set()
        deadline_s = time.monotonic() + LIMIT_S
        while not any(request.op == "release" for request in fake.heard):
            assert time.monotonic() < deadline_s
            time.sleep(0.005)
        assert consumer._intake.buffered == 0


def test_what_is_published_after_a_wait_is_nobodys(timed: penstock.Client) -> None:
    """The clock of this daemon stands still: it would wait for ever."""
    with timed.consumer("q", prefetch=0) as consumer, timed.producer("q") as producer:
        assert consumer.receive(timeout=0.01) is None
        producer.send(b"for others").wait(LIMIT_S)
        assert (timed.describe("q").ready, timed.describe("q").leased) == (1, 0)


def test_without_prefetch_no_time_is_enough_for_what_is_there(client: penstock.Client, queue: str) -> None:
    with client.consumer(queue, prefetch=0) as consumer, client.producer(queue) as producer:
        producer.send(b"there").wait(LIMIT_S)
        assert consumer.receive(timeout=0) is not None
        assert consumer.receive(timeout=0) is None
