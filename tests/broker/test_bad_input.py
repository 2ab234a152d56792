"""Nothing a client sends stops the node: each wrong argument is refused by its name, and nothing else changes."""

from __future__ import annotations

import struct
from typing import Any

import msgpack
import pytest
from kit.world import COUNTED, Client, World

from penstock.broker import checkpoint
from penstock.peers import wire
from penstock.peers.errors import ERRORS

NAN = float("nan")
HUGE = 2**64 - 1


class Raw(bytes):
    """Bytes that stand in a map as they are: what msgpack for Python would not write."""


def pack_map(args: dict[str, Any]) -> bytes:
    """A map whose values may be Raw."""
    parts = [b"\xdf" + struct.pack(">I", len(args))]
    for key, value in args.items():
        parts += [msgpack.packb(key), value if isinstance(value, Raw) else msgpack.packb(value)]
    return b"".join(parts)


def frames(op: str, sequence: int, args: dict[str, Any], payload: bytes | None = None) -> list[bytes]:
    header = b"\x93" + msgpack.packb(op) + msgpack.packb(sequence) + pack_map(args)
    return [wire.MAGIC, header] if payload is None else [wire.MAGIC, header, payload]


DEEP = Raw(b"\x91" * 1010 + b"\xc0")  # deeper than Python's repr or msgpack's own packer go
DEEP_MAP = Raw(b"\x81\xa1k" * 1010 + b"\xc0")
NO_TEXT = (None, 1, 1.5, True, b"jobs", [], {}, NAN, DEEP, DEEP_MAP, "x" * 20_000)
NO_NAME = (*NO_TEXT, "", "-x", "a/b", "a b", "é", "jobs\n", "../etc", "a\0b", "x" * 300)
NO_COUNT = (None, "1", 1.0, True, b"1", [], {}, NAN, -1, 0, HUGE, -(2**63), DEEP)
NO_NUMBER = tuple(value for value in NO_COUNT if value != 0 or value is False)
NO_RANGES = (
    None, 1, "0+2", {}, [], [0, 1], [[0]], [[0, 1, 2]], [[0, 0]], [[-1, 1]], [[0, -1]], [[0.0, 1]], [["0", 1]], [None],
    [[0, HUGE]], [[HUGE, 1]], [[True, 1]], NAN, DEEP,
)  # fmt: skip
NO_OPTIONS = (
    1, "max", [], True, {"max_mesages": 1}, {"max_messages": 0}, {"max_messages": "9"}, {"max_messages": NAN},
    {"max_bytes": -1}, {"max_failures": 1.5}, {"retry_delay_ms": None}, {"retry_delay_ms": HUGE}, {"result_ttl_ms": -5},
    {b"max_messages": 1}, DEEP, DEEP_MAP, Raw(b"\x81\xacmax_messages" + DEEP),
    Raw(b"\x81\xd9\x80" + b"x" * 128 + b"\x01"),
)  # fmt: skip
NO_PAYLOAD = (
    None, b"", b"\xc1", b"\x92", b"\x92\x91", msgpack.packb([[b"a"], None]) + b"x",
    *map(msgpack.packb, (
        [], [[b"a"]], [[b"a"], None, None], [["a"], None], [[1], None], [b"a", None], [[b"a", b"b"], None], [[], None],
        [[b"a"], []], [[b"a"], [1]], [[b"a"], [{1: 2}]], [[b"a"], [{b"k": 2}]], [[b"a"], {}],
    )),
    b"\x92\xdd\xff\xff\xff\xff", b"\x92\x91\xc6\xff\xff\xff\xff",
    b"\x92\x91\xc4\x01a\x91\x81\xa2\xff\xfe\x01", b"\x91" * 1100 + b"\xc0",
)  # fmt: skip

ONE = wire.pack_payload([b"a"])
# op -> (good args, payload, {argument: wrong values}); an argument that is required is also left out.
CATALOGUE: dict[str, tuple[dict[str, Any], bytes | None, dict[str, tuple[Any, ...]]]] = {
    "create": ({"name": "new", "kind": "queue"}, None, {
        "name": NO_NAME, "kind": (*NO_TEXT, "stack"), "options": NO_OPTIONS}),
    "configure": ({"name": "jobs", "options": {}}, None, {"name": NO_NAME, "options": NO_OPTIONS}),
    "delete": ({"name": "jobs"}, None, {"name": NO_NAME}),
    "purge": ({"name": "jobs"}, None, {"name": NO_NAME}),
    "pause": ({"name": "jobs"}, None, {"name": NO_NAME}),
    "resume": ({"name": "jobs"}, None, {"name": NO_NAME}),
    "group_create": ({"topic": "news", "group": "h", "start": "latest"}, None, {
        "topic": NO_NAME, "group": NO_NAME, "start": (*NO_TEXT, "middle")}),
    "group_delete": ({"topic": "news", "group": "g"}, None, {"topic": NO_NAME, "group": NO_NAME}),
    "append": ({"queue": "jobs", "count": 1}, ONE, {"queue": NO_NAME, "count": NO_COUNT, "payload": NO_PAYLOAD}),
    "ack": ({"lease": 1, "ranges": [[0, 1]]}, None, {"lease": NO_NUMBER, "ranges": NO_RANGES}),
    "complete": ({"lease": 1, "ranges": [[0, 1]]}, ONE, {
        "lease": NO_NUMBER, "ranges": NO_RANGES, "payload": NO_PAYLOAD}),
    "nack": ({"lease": 1, "ranges": [[0, 1]]}, None, {
        "lease": NO_NUMBER, "ranges": NO_RANGES, "delay_ms": ("1", 1.5, -1, HUGE, NAN, True, DEEP),
        "error": ("text", 1, [b"x"], DEEP)}),
    "reject": ({"lease": 1, "ranges": [[0, 1]]}, None, {
        "lease": NO_NUMBER, "ranges": NO_RANGES, "reason": (1, b"x", None, "x" * 20_000, DEEP),
        "error": ("text", 1, DEEP)}),
    "release": ({"lease": 1}, None, {"lease": NO_NUMBER, "ranges": tuple(v for v in NO_RANGES if v is not None)}),
    "extend": ({"leases": [1], "lease_ms": 1000}, None, {
        "leases": (None, 1, [], ["1"], [1.0], [True], [[1]], {}, DEEP), "lease_ms": NO_COUNT}),
    "job_cancel": ({"queue": "jobs", "offset": 0}, None, {"queue": NO_NAME, "offset": NO_NUMBER}),
    "job_retry": ({"queue": "jobs", "offset": 0}, None, {"queue": NO_NAME, "offset": NO_NUMBER}),
    "pull": ({"queue": "jobs", "messages": 1}, None, {
        "queue": NO_NAME, "group": tuple(v for v in NO_NAME if v != ""), "messages": NO_COUNT, "bytes": NO_COUNT,
        "lease_ms": NO_COUNT, "wait_ms": NO_NUMBER}),
    "list": ({}, None, {"kind": (*(v for v in NO_TEXT if v is not None), "stack")}),
    "describe": ({"name": "jobs"}, None, {"name": NO_NAME}),
    "peek": ({"name": "jobs", "limit": 1}, None, {
        "name": NO_NAME, "group": tuple(v for v in NO_NAME if v != ""), "limit": (*NO_COUNT, 1001)}),
    "job_status": ({"queue": "jobs", "offsets": [0]}, None, {
        "queue": NO_NAME, "offsets": (None, 1, "0", ["0"], [1.5], [True], [[0]], [0] * 10_001, {}, DEEP)}),
    "job_result": ({"queue": "jobs", "offset": 0}, None, {
        "queue": NO_NAME, "offset": NO_NUMBER, "wait_ms": NO_NUMBER}),
    "jobs": ({"queue": "jobs", "limit": 1}, None, {
        "queue": NO_NAME, "limit": (*NO_COUNT, 1001), "status": (*(v for v in NO_TEXT if v is not None), "lost"),
        "after": ("0", 1.5, True, -2, HUGE, DEEP)}),
    "outcomes": ({"queue": "jobs", "after": 0, "limit": 1}, None, {
        "queue": NO_NAME, "after": NO_NUMBER, "limit": NO_COUNT, "bytes": NO_COUNT, "wait_ms": NO_NUMBER}),
    "hello": ({"version": 1, "client": "x"}, None, {
        "version": (None, 0, 2, "1", b"1", NAN, 1.5, DEEP), "client": (1, None, b"x", "x" * 2000, DEEP),
        "session": (1, b"x", 1.5, [], DEEP, "", "1", "1-", "zz-0", "1-0000000000000000", "-", "x" * 9999)}),
}  # fmt: skip
DEFAULTED = {
    "append": ["payload"], "complete": ["payload"], "create": ["options"], "configure": ["options"],
    "group_create": ["start"], "nack": ["delay_ms", "error"], "reject": ["reason", "error"], "release": ["ranges"],
    "pull": ["group", "bytes", "lease_ms", "wait_ms"], "list": ["kind"], "peek": ["group", "limit"],
    "jobs": ["limit", "status", "after"], "outcomes": ["bytes", "limit", "wait_ms"], "job_result": ["wait_ms"],
    "hello": ["client", "session"],
}  # fmt: skip


def cases() -> list[tuple[str, str, list[Any]]]:
    """(op, argument, wrong values), each as [args, payload]."""
    found = []
    for op, (good, payload, arguments) in CATALOGUE.items():
        for argument, values in arguments.items():
            wrong: list[Any] = []
            if argument == "payload":
                wrong = [(good, value) for value in values]
            else:
                wrong = [(good | {argument: value}, payload) for value in values]
                if argument not in DEFAULTED.get(op, []):
                    wrong.append(({key: value for key, value in good.items() if key != argument}, payload))
            found.append((op, argument, wrong))
    return found


def busy_world() -> tuple[World, Client]:
    """A queue with a leased message, a topic with a group, and somebody to be wrong."""
    world = World()
    client = Client(world, "ana")
    client.do("create", name="jobs", kind="queue")
    client.do("create", name="news", kind="topic")
    client.do("group_create", topic="news", group="g", start="latest")
    client.append("jobs", b"one", b"two")
    client.pull("jobs", lease_ms=3_600_000)
    return world, client


def untouched(world: World) -> bytes:
    """All queues, topics and leases; not `applied` and not what sessions remember."""
    state = world.node.desk.state
    leases: dict[int, list[Any]] = {}
    for lease in state.leases.values():
        leases.setdefault(lease.queue_id, []).append(lease)
    packed: bytes = msgpack.packb([checkpoint._pack_queue(q, leases.get(q.id, [])) for q in state.queues.values()])
    return packed


def test_the_catalogue_knows_every_op_and_has_many_cases() -> None:
    from penstock.broker.node import OPS

    assert set(OPS) == set(CATALOGUE) | {"ping", "status", "bye"}
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


HEADER = msgpack.packb(("ping", -1, {}))
FRAMES = {
    "no frames": [],
    "one frame": [wire.MAGIC],
    "nine frames": [wire.MAGIC, HEADER, *[b""] * 7],
    "an empty first frame": [b"", wire.MAGIC, HEADER],
    "another magic": [b"PS2", HEADER],
    "a long magic": [b"P" * 100_000, HEADER],
    "an empty header": [wire.MAGIC, b""],
    "a header cut short": [wire.MAGIC, HEADER[:-1]],
    "bytes behind the header": [wire.MAGIC, HEADER + b"\x00"],
    "a header that is no msgpack": [wire.MAGIC, b"\xc1"],
    "a header that is a number": [wire.MAGIC, b"\x05"],
    "a header of two": [wire.MAGIC, msgpack.packb(("ping", -1))],
    "a header of four": [wire.MAGIC, msgpack.packb(("ping", -1, {}, 0))],
    "a header that is a map": [wire.MAGIC, msgpack.packb({"op": "ping"})],
    "an op that is a number": [wire.MAGIC, msgpack.packb((1, -1, {}))],
    "an op in bytes": [wire.MAGIC, msgpack.packb((b"ping", -1, {}))],
    "a sequence that is text": [wire.MAGIC, msgpack.packb(("ping", "1", {}))],
    "a sequence that is true": [wire.MAGIC, msgpack.packb(("ping", True, {}))],
    "a sequence that is no integer": [wire.MAGIC, msgpack.packb(("ping", 1.5, {}))],
    "a sequence of 64 bits without sign": [wire.MAGIC, msgpack.packb(("ping", HUGE, {}))],
    "args that are a list": [wire.MAGIC, msgpack.packb(("ping", -1, []))],
    "args that are nil": [wire.MAGIC, msgpack.packb(("ping", -1, None))],
    "args with a number as key": [wire.MAGIC, msgpack.packb(("ping", -1, {1: 2}))],
    "text that is not UTF-8": [wire.MAGIC, b"\x93\xa4\xff\xfe\xfd\xfc\xff\x80"],
    "an array that claims 4 billion items": [wire.MAGIC, b"\xdd\xff\xff\xff\xff"],
    "a text that claims 4 GB": [wire.MAGIC, b"\x93\xdb\xff\xff\xff\xff"],
    "lists 100000 deep": [wire.MAGIC, b"\x91" * 100_000],
    "lists 1100 deep": [wire.MAGIC, b"\x93\xa4ping\xff\x81\xa1x" + b"\x91" * 1100 + b"\xc0"],
    "an extension type": [wire.MAGIC, msgpack.packb(msgpack.ExtType(5, b"x"))],
    "a timestamp of a wrong length": [wire.MAGIC, b"\x93\xa4ping\xff\x81\xa1x\xc7\x05\xff12345"],
}  # fmt: skip


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
