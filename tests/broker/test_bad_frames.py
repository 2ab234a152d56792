"""What no client of ours says, said to a real daemon: it answers or drops it, counts it, and goes on serving."""

from __future__ import annotations

from collections.abc import Iterator

import msgpack
import pytest
from kit.daemons import Raw, until
from kit.wrong import FRAMES, cases, frames

from penstock.cli.private import PrivateDaemon
from penstock.peers import wire

SETTINGS = """
[storage]
map_size = "1GiB"
max_message = "1MiB"
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[PrivateDaemon]:
    with PrivateDaemon(SETTINGS) as daemon:
        yield daemon


@pytest.fixture
def raw(daemon: PrivateDaemon) -> Iterator[Raw]:
    with Raw(daemon.endpoint) as raw:
        raw.hello()
        yield raw
        assert raw.ask("ping").status == "ok", "the daemon still serves"


def counter(raw: Raw, name: str) -> int:
    found: int = raw.ask("status").body["counters"][name]
    return found


def test_frames_that_are_no_request_get_a_protocol_error(raw: Raw) -> None:
    before = counter(raw, "bad_frames")
    for name, wrong in FRAMES.items():
        raw.send(wrong)
        assert raw.receive().status == "ProtocolError", name
    assert counter(raw, "bad_frames") == before + len(FRAMES)


def test_wrong_arguments_are_refused_one_after_the_other(raw: Raw) -> None:
    """The first, the last and the deepest of each argument; all of them are tried without a socket elsewhere."""
    raw.do("create", name="jobs", kind="queue")
    raw.do("create", name="news", kind="topic")
    raw.do("group_create", topic="news", group="g", start="latest")
    before = raw.ask("list").body
    for op, argument, wrong in cases():
        for args, payload in (wrong[0], wrong[-1], *[case for case in wrong if len(frames(op, 0, case[0])[1]) > 500]):
            if op == "hello":
                continue
            raw.sequence += 1
            raw.send(frames(op, raw.sequence, args, payload))
            reply = raw.receive()
            assert reply.sequence == raw.sequence
            assert reply.status in ("InvalidArgument", "ProtocolError", "TooLarge"), (op, argument)
    after = raw.ask("list").body
    assert after == before


def test_before_hello_everything_is_refused(daemon: PrivateDaemon) -> None:
    with Raw(daemon.endpoint) as raw:
        reply = raw.say("append", 1, {"queue": "jobs", "count": 1}, wire.pack_payload([b"x"]))
        assert (reply.status, reply.body["hint"]) == ("ProtocolError", "say hello first")


def test_a_batch_that_is_too_large_is_told_so_and_the_connection_lives(raw: Raw) -> None:
    raw.do("create", name="large", kind="queue")
    payload = wire.pack_payload([b"x" * (1 << 20)])
    reply = raw.do("append", payload, queue="large", count=1)
    assert reply.status == "TooLarge"
    assert str(1 << 20) in reply.body["message"]
    assert raw.do("append", wire.pack_payload([b"small"]), queue="large", count=1).body["offset"] == 0


@pytest.mark.parametrize("frame", [1, 2])
def test_an_oversize_frame_closes_that_connection_only(daemon: PrivateDaemon, raw: Raw, frame: int) -> None:
    with Raw(daemon.endpoint) as other:
        session = other.hello()["session"]
        wrong = [wire.MAGIC, msgpack.packb(("append", 1, {"queue": "large", "count": 1})), b"x"]
        wrong[frame] = b"x" * (3 << 20)
        other.send(wrong)
        # zmq connects anew by itself: to the daemon that is a stranger, who must say hello.
        until(lambda: _refused_as_stranger(other), "the connection was cut")
        assert other.hello(session)["session"] == session
        assert other.ask("ping").status == "ok"
    assert raw.ask("ping").status == "ok"


def _refused_as_stranger(raw: Raw) -> bool:
    raw.send(wire.request("ping", next(raw.numbers), {}))
    return bool(raw.socket.poll(300)) and raw.receive().status == "ProtocolError"


def test_bytes_that_are_not_even_zmq_harm_nobody(daemon: PrivateDaemon, raw: Raw) -> None:
    import socket

    host, port = daemon.endpoint.removeprefix("tcp://").split(":")
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4096, b"", b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x09" * 9):
        with socket.create_connection((host, int(port))) as stranger:
            stranger.sendall(noise)
    assert raw.ask("ping").status == "ok"


def test_a_client_that_never_reads_loses_replies_and_nobody_else_waits_for_it(daemon: PrivateDaemon, raw: Raw) -> None:
    raw.do("create", name="deaf", kind="queue")
    raw.do("append", wire.pack_payload([b"x" * 900_000]), queue="deaf", count=1)
    before = counter(raw, "dropped_replies")
    with Raw(daemon.endpoint, hwm=1) as deaf:
        deaf.hello()

        def pestered() -> bool:
            for _ in range(50):
                deaf.send(wire.request("peek", next(deaf.numbers), {"name": "deaf", "limit": 1}))
            return counter(raw, "dropped_replies") > before

        until(pestered, "replies were dropped")
        assert raw.ask("ping").status == "ok"
    assert raw.do("delete", name="deaf").status == "ok"


def test_clients_that_come_and_go_leave_nothing_but_their_sessions(daemon: PrivateDaemon, raw: Raw) -> None:
    raw.do("create", name="gone", kind="queue")
    for _ in range(20):
        with Raw(daemon.endpoint) as visitor:
            visitor.hello()
            visitor.send(wire.request("pull", -1, {"queue": "gone", "messages": 1, "wait_ms": 60_000}))
            until(lambda: raw.ask("status").body["parked"], "it is parked")
            assert visitor.do("bye").status == "ok"
            assert raw.ask("status").body["parked"] == 0
    raw.do("append", wire.pack_payload([b"x"]), queue="gone", count=1)
    assert raw.ask("pull", queue="gone", messages=1).body["ranges"][0][0] == 0
