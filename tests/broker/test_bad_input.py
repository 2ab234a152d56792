"""Nothing a client sends stops the node: each wrong argument is refused by its name, and nothing else changes."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from kit.world import COUNTED, Client, World
from kit.wrong import CATALOGUE, DEEP, FRAMES, ONE, cases, frames

from penstock.broker import checkpoint
from penstock.peers import wire
from penstock.peers.errors import ERRORS


def busy_world() -> tuple[World, Client]:
    """A queue with a leased message, a topic with a group, and somebody to be wrong."""
    world = World()
    client = Client(world, "ana")
    client.do("create", name="jobs", kind="queue")
    client.do("create", name="news", kind="topic")
    client.do("group_create", topic="news", group="g", start="latest")
    client.append("jobs", b"one", b"two")
    client.pull("jobs", lease_ms=3_600_000)
    client.do("schedule_add", wire.pack_payload([b"job"]), name="hourly", queue="jobs", every_ms=3_600_000)
    return world, client


def untouched(world: World) -> bytes:
    """All queues, topics, leases and schedules; not `applied` and not what sessions remember."""
    state = world.node.desk.state
    leases: dict[int, list[Any]] = {}
    for lease in state.leases.values():
        leases.setdefault(lease.queue_id, []).append(lease)
    queues = [checkpoint._pack_queue(queue, leases.get(queue.id, [])) for queue in state.queues.values()]
    packed: bytes = msgpack.packb([queues, state.schedules.pack()])
    return packed


def test_the_catalogue_knows_every_op_and_has_many_cases() -> None:
    from penstock.broker.clients import OPS

    assert set(OPS) == set(CATALOGUE) | {"ping", "status", "bye", "cluster", "crash", "snapshot"}
    assert sum(len(wrong) for _, _, wrong in cases()) > 600


@pytest.mark.parametrize(("op", "argument", "wrong"), cases(), ids=lambda it: it if isinstance(it, str) else "")
def test_a_wrong_argument_is_named_and_nothing_changes(op: str, argument: str, wrong: list[Any]) -> None:
    world, client = busy_world()
    before = untouched(world)
    for args, payload in wrong:
        sequence = client.number(op)
        world.turn([(client.route, frames(op, sequence, args, payload))])
        (reply,) = client.heard()
        case = f"{op} with {argument} {args.get(argument)!r:.60}" if args.get(argument) is not DEEP else f"{op} deep"
        assert reply.sequence == sequence, case
        assert reply.status in ("InvalidArgument", "ProtocolError", "TooLarge", "SessionExpired"), (case, reply)
        said = f"{reply.body['message']} {reply.body['hint']}"
        named = {"payload": "payload", "options": "option", "start": "start"}.get(argument, argument)
        assert named in said or reply.status == "TooLarge", (case, said)
        assert len(said) < 1000, case
        assert reply.body["retryable"] is False
        assert untouched(world) == before, case
    assert client.do("ping").ok
    assert client.sequence == world.node.desk.state.sessions[1 + 1].last, "a refusal uses its sequence, and no other"


@pytest.mark.parametrize("name", FRAMES)
def test_frames_that_are_no_request_get_a_protocol_error(name: str) -> None:
    world, client = busy_world()
    before = world.digest()
    world.turn([(client.route, FRAMES[name])])
    (reply,) = client.heard()
    assert reply.status == "ProtocolError"
    assert reply.body["message"]
    assert world.digest() == before
    assert world.node.counters.bad_frames == 1
    assert client.do("ping").ok


def test_every_op_before_hello_is_refused_with_the_hint_to_say_it() -> None:
    world = World()
    before = world.digest()
    for op in CATALOGUE:
        if op != "hello":
            world.turn([(b"stranger", wire.request(op, 1, {}))])
            (reply,) = world.replies.pop(b"stranger")
            assert (reply.status, reply.body["hint"]) == ("ProtocolError", "say hello first")
    assert world.digest() == before


def test_an_unknown_op_is_refused_with_the_list_of_known_ones() -> None:
    world, client = busy_world()
    before = untouched(world)
    for sequence in (client.sequence + 1, -99, 0):
        reply = client.call("explode", sequence, {})
        assert reply.status == "ProtocolError"
        assert "explode" in reply.body["message"]
        assert "append" in reply.body["hint"]
    client.sequence += 1  # the counted one used its sequence
    assert untouched(world) == before
    assert client.do("pause", name="jobs").ok


@pytest.mark.parametrize("op", sorted(COUNTED))
@pytest.mark.parametrize("sequence", [0, -7, -(2**63)])
def test_what_changes_state_must_be_counted(op: str, sequence: int) -> None:
    world, client = busy_world()
    before = world.digest()
    reply = client.call(op, sequence, CATALOGUE.get(op, ({}, None, {}))[0], ONE)
    assert reply.status == "ProtocolError"
    assert "positive" in reply.body["hint"]
    assert world.digest() == before


@pytest.mark.parametrize("op", sorted({*CATALOGUE, "ping", "status", "bye"} - {"hello"}))
def test_a_gap_in_the_sequences_is_refused_and_changes_nothing(op: str) -> None:
    world, client = busy_world()
    before = world.digest()
    good, payload, _ = CATALOGUE.get(op, ({}, None, {}))
    for sequence in (client.sequence + 2, 2**63 - 1):
        reply = client.call(op, sequence, good, payload)
        assert reply.status == "ProtocolError"
        assert f"the next one of this session is {client.sequence + 1}" in reply.body["message"]
    assert world.digest() == before


@pytest.mark.parametrize("depth", [3, 200, 500, 1000])
def test_headers_that_are_taken_can_be_given_again(depth: int) -> None:
    """Even when a credit cuts their batch, so that they are packed anew."""
    client = busy_world()[1]
    deep = b"\x91" * depth + b"\xc0"
    payload = b"\x92\x92\xc4\x01a\xc4\x01b\x92\x81\xa1k" + deep + b"\xc0"
    client.do("create", name="deep", kind="queue")
    if client.do("append", payload, queue="deep", count=2).status != "ok":
        assert depth > 400
        return
    assert client.pull("deep", 1).bodies == [b"a"]
    assert client.do("peek", name="deep", limit=1).bodies == [b"b"]


def test_every_code_that_the_node_answers_with_is_one_of_the_protocol() -> None:
    world, client = busy_world()
    for op, argument, wrong in cases():
        for args, payload in wrong[:2]:
            del argument
            sequence = client.number(op)
            world.turn([(client.route, frames(op, sequence, args, payload))])
            assert all(reply.status in ERRORS for reply in client.heard() if reply.status != "ok")
            break


def test_an_error_shared_by_many_jobs_does_not_multiply_in_the_stream_of_outcomes() -> None:
    """100,000 jobs with one error of 60 MB would otherwise be a reply of 6 TB."""
    client = busy_world()[1]
    client.do("create", name="many", kind="queue", options={"max_failures": 1})
    client.append("many", *[b""] * 5_000)
    delivery = client.pull("many", 5_000).ok
    error = b"e" * 1_000_000
    ranges = [list(some[:2]) for some in delivery["ranges"]]
    assert client.do("nack", lease=delivery["lease"], ranges=ranges, error=error).ok == {"dead": 5_000}
    reply = client.do("outcomes", queue="many", after=0, limit=10)
    assert reply.ok["outcomes"][0][:3] == (0, 5_000, "dead")
    assert reply.payload is not None
    assert len(reply.payload) < 16_000_000
    assert len(reply.bodies) == 5_000
    assert client.do("job_result", queue="many", offset=4_321).bodies == [error]


def test_dead_letters_of_a_large_batch_are_given_without_unpacking_it_for_each() -> None:
    client = busy_world()[1]
    client.do("create", name="many", kind="queue", options={"max_failures": 1})
    count = 20_000
    client.append("many", *[b"%d" % at for at in range(count)])
    delivery = client.pull("many", count).ok
    client.do("nack", lease=delivery["lease"], ranges=[[0, count]])
    reply = client.pull("many.dead", count)
    assert reply.bodies == [b"%d" % at for at in range(count)]
    assert reply.headers is not None
    assert [(header or {})["penstock-offset"] for header in reply.headers] == list(range(count))
