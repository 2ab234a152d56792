"""What a client must not say: wrong arguments of every op, and frames that are no request."""

from __future__ import annotations

import struct
from typing import Any

import msgpack

from penstock.peers import wire

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
NO_AT_OF_LATEST = (0, 1, "1", 1.5, True, [], {}, NAN, HUGE, DEEP)  # only an offset and a time have a place
NO_RANGES = (
    None, 1, "0+2", {}, [], [0, 1], [[0]], [[0, 1, 2]], [[0, 0]], [[-1, 1]], [[0, -1]], [[0.0, 1]], [["0", 1]], [None],
    [[0, HUGE]], [[HUGE, 1]], [[True, 1]], NAN, DEEP,
)  # fmt: skip
NO_OPTIONS = (
    1, "max", [], True, {"max_mesages": 1}, {"max_messages": 0}, {"max_messages": "9"}, {"max_messages": NAN},
    {"max_bytes": -1}, {"max_failures": 1.5}, {"retry_delay_ms": None}, {"retry_delay_ms": HUGE}, {"result_ttl_ms": -5},
    {"result_queue": ""}, {"result_queue": 1}, {"result_queue": b"jobs"}, {"result_queue": "a/b"},
    {"overflow": "explode"}, {"overflow": None}, {"max_message": 0}, {"rate": 5}, {"rate": [1]}, {"rate": [0, 1]},
    {"rate": [1, 0]}, {"rate": [1, 1, 1]}, {"rate": ["1", 1]}, {"rate": [1.5, 1]}, {"rate": "1/s"}, {"max_leased": 0},
    {"ordered_by": "size"}, {"ordered_by": 1}, {"retry_backoff": "linear"}, {"retry_backoff": None},
    {"retry_delay_max_ms": -1}, {"retry_delay_max_ms": "1h"}, {"retry_jitter": 101}, {"retry_jitter": -1},
    {"unique_ms": -1}, {"unique_ms": None}, {"result_queue": ""}, {"result_queue": "a b"}, {"result_queue": 5},
    {b"max_messages": 1}, DEEP, DEEP_MAP, Raw(b"\x81\xacmax_messages" + DEEP),
    Raw(b"\x81\xd9\x80" + b"x" * 128 + b"\x01"),
)  # fmt: skip
NO_FLAG = (1, "yes", 0.0, b"", [], {}, DEEP)
NO_CRON = (
    "", "* * * *", "* * * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "0 0 31 2 *",
    "0 0 30 2 *", "* * */20 * 1L", "a b c d e", "*/0 * * * *", "5-1 * * * *", "@never", "1,,2 * * * *", "* * * * MON#6",
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

NO_TIME = ("1", 1.5, True, -1, HUGE, NAN, b"1", [], [1, 2], ["1"], [-1], {}, DEEP)  # for one message
NO_RETENTION = ({"retention_ms": 0}, {"retention_bytes": 0}, {"retention_messages": -1}, {"retention_ms": "7d"})
PROPERTIES: dict[str, tuple[Any, ...]] = {
    "priority": ("1", 1.5, True, -1, 10, HUGE, NAN, [], {}, DEEP),
    "delay_ms": NO_TIME, "due_ms": NO_TIME, "ttl_ms": ("1", 0, -1, 1.5, True, HUGE, [1], {}, DEEP),
    "ids": ("a", 1, [], [""], ["a", "b"], ["x" * 201], [1], [b"a"], [None], [["a"]], {}, True, DEEP),
    "after": ("jobs/0", 0, [], ["jobs/0"], [["jobs", 0]], [["jobs", 0, 0]], [["jobs", -1, 1]], [["jobs", 0, HUGE]],
              [[1, 0, 1]], [["jobs", "0", 1]], [["jobs", 0.5, 1]], [["jobs", True, 1]], [["jobs", 0, 1, 1]],
              [["jobs", 0, 1]] * 10_001, {}, DEEP),
    "on_failure": ("explode", "", 1, b"cancel", True, [], "cancel", DEEP),  # without `after`, the right word is wrong
    "max_failures": ("1", 0, -1, 1.5, True, HUGE, [], DEEP), "retry_delay_ms": ("1", -1, 1.5, True, HUGE, DEEP),
    "retry_backoff": ("linear", "", 1, b"constant", True, DEEP), "retry_delay_max_ms": ("1h", -1, 1.5, HUGE, DEEP),
    "retry_jitter": ("1", -1, 101, 1.5, True, DEEP),
}  # fmt: skip

ONE = wire.pack_payload([b"a"])
# op -> (good args, payload, {argument: wrong values}); an argument that is required is also left out.
CATALOGUE: dict[str, tuple[dict[str, Any], bytes | None, dict[str, tuple[Any, ...]]]] = {
    "create": ({"name": "new", "kind": "queue"}, None, {
        "name": NO_NAME, "kind": (*NO_TEXT, "stack"), "options": NO_OPTIONS}),
    "configure": ({"name": "jobs", "options": {}}, None, {"name": NO_NAME, "options": (*NO_OPTIONS, *NO_RETENTION)}),
    "delete": ({"name": "jobs"}, None, {"name": NO_NAME}),
    "purge": ({"name": "jobs"}, None, {"name": NO_NAME}),
    "pause": ({"name": "jobs"}, None, {"name": NO_NAME}),
    "resume": ({"name": "jobs"}, None, {"name": NO_NAME}),
    "group_create": ({"topic": "news", "group": "h", "start": "latest"}, None, {
        "topic": NO_NAME, "group": NO_NAME, "start": (*NO_TEXT, "middle"), "at": NO_AT_OF_LATEST}),
    "group_seek": ({"topic": "news", "group": "g", "start": "offset", "at": 0}, None, {
        "topic": NO_NAME, "group": NO_NAME, "start": (*NO_TEXT, "middle"), "at": (*NO_NUMBER, 1)}),
    "group_retry": ({"topic": "news", "group": "g"}, None, {
        "topic": NO_NAME, "group": NO_NAME, "limit": (*NO_COUNT, 10_001)}),
    "group_delete": ({"topic": "news", "group": "g"}, None, {"topic": NO_NAME, "group": NO_NAME}),
    "append": ({"queue": "jobs", "count": 1}, ONE, {
        "queue": NO_NAME, "count": NO_COUNT, "payload": NO_PAYLOAD, **PROPERTIES}),
    "ack": ({"lease": 1, "ranges": [[0, 1]]}, None, {"lease": NO_NUMBER, "ranges": NO_RANGES}),
    "complete": ({"lease": 1, "ranges": [[0, 1]]}, ONE, {
        "lease": NO_NUMBER, "ranges": NO_RANGES, "payload": NO_PAYLOAD,
        "outputs": (1, "jobs", {}, ["jobs"], [["jobs"]], [["jobs", 0]], [["", 1]], [[b"jobs", 1]], [["jobs", 1, 1]],
                    [["jobs", True]], [["jobs", -1]], [["jobs", 1.5]], [["jobs", 1]] * 1001, DEEP)}),
    "nack": ({"lease": 1, "ranges": [[0, 1]]}, None, {
        "lease": NO_NUMBER, "ranges": NO_RANGES, "delay_ms": ("1", 1.5, -1, HUGE, NAN, True, DEEP),
        "error": ("text", 1, [b"x"], DEEP), "reason": (1, b"x", None, "x" * 20_000, DEEP)}),
    "reject": ({"lease": 1, "ranges": [[0, 1]]}, None, {
        "lease": NO_NUMBER, "ranges": NO_RANGES, "reason": (1, b"x", None, "x" * 20_000, DEEP),
        "error": ("text", 1, DEEP), "error_text": (1, b"x", None, "x" * 20_000, DEEP)}),
    "release": ({"lease": 1}, None, {"lease": NO_NUMBER, "ranges": tuple(v for v in NO_RANGES if v is not None)}),
    "extend": ({"leases": [1], "lease_ms": 1000}, None, {
        "leases": (None, 1, [], ["1"], [1.0], [True], [[1]], {}, DEEP), "lease_ms": NO_COUNT}),
    "job_cancel": ({"queue": "jobs", "offset": 0}, None, {
        "queue": NO_NAME, "offset": NO_NUMBER, "count": (*NO_COUNT, 10_001)}),
    "job_retry": ({"queue": "jobs", "offset": 0}, None, {
        "queue": NO_NAME, "offset": NO_NUMBER, "count": (*NO_COUNT, 10_001)}),
    "job_retry_dead": ({"queue": "jobs"}, None, {"queue": NO_NAME, "limit": (*NO_COUNT, 10_001)}),
    "move": ({"queue": "jobs", "target": "other"}, None, {
        "queue": NO_NAME, "target": (*NO_NAME, "jobs"), "limit": (*NO_COUNT, 10_001)}),
    "job_progress": ({"lease": 1, "offset": 0, "progress": 0.5}, None, {
        "lease": NO_NUMBER, "offset": NO_NUMBER,
        "progress": (None, "1", b"1", [], {}, NAN, -0.1, 1.01, True, HUGE, DEEP),
        "text": (*(v for v in NO_TEXT if v is not None), None, "x" * 501)}),
    "job_log": ({"lease": 1, "offset": 0, "lines": ["a"]}, None, {
        "lease": NO_NUMBER, "offset": NO_NUMBER,
        "lines": (None, "a", [], [1], [b"a"], [None], ["a"] * 1001, ["x" * 70_000], {}, DEEP)}),
    "job_forget": ({"queue": "jobs", "offset": 0}, None, {"queue": NO_NAME, "offset": NO_NUMBER}),
    "job_info": ({"queue": "jobs", "offset": 0}, None, {"queue": NO_NAME, "offset": NO_NUMBER}),
    "job_explain": ({"queue": "jobs", "offset": 0}, None, {"queue": NO_NAME, "offset": NO_NUMBER}),
    "call": ({"queue": "jobs"}, ONE, {
        "queue": (*NO_NAME, "news"), "count": (*NO_COUNT, 2), "payload": NO_PAYLOAD, "wait_ms": NO_NUMBER,
        **PROPERTIES}),
    "cluster_add": ({"node": 9, "client": "ipc://c", "listen": "ipc://l", "publish": "ipc://p"}, None, {
        "node": NO_COUNT, "client": (*NO_TEXT, "c"), "listen": (*NO_TEXT, "tcp:/l"), "publish": (*NO_TEXT, "")}),
    "cluster_remove": ({"node": 1}, None, {"node": NO_COUNT}),
    "cluster_transfer": ({"to": 2}, None, {"to": NO_COUNT}),
    "pull": ({"queue": "jobs", "messages": 1}, None, {
        "queue": NO_NAME, "group": tuple(v for v in NO_NAME if v != ""), "messages": NO_COUNT, "bytes": NO_COUNT,
        "lease_ms": NO_COUNT, "wait_ms": NO_NUMBER}),
    "list": ({}, None, {
        "kind": (*(v for v in NO_TEXT if v is not None), "stack"), "limit": (*NO_COUNT, 1001),
        "after": tuple(v for v in NO_NAME if v != "")}),
    "describe": ({"name": "jobs"}, None, {"name": NO_NAME, "group": tuple(v for v in NO_NAME if v not in ("", None))}),
    "read": ({"topic": "news", "start": "time", "at": 0}, None, {
        "topic": (*NO_NAME, "jobs"), "start": (*NO_TEXT, "middle"), "at": NO_NUMBER, "offset": (*NO_NUMBER, 1),
        "messages": (*NO_COUNT, 100_001), "bytes": NO_COUNT, "wait_ms": (*NO_NUMBER, 3_600_001)}),
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
    "schedule_add": ({"name": "nightly", "queue": "jobs", "cron": "0 2 * * *"}, ONE, {
        "name": NO_NAME, "queue": (*NO_NAME, "news"), "tz": (*NO_TEXT, "", "Berlin", "../UTC", "UTC\0"),
        "cron": (*NO_TEXT, *NO_CRON), "missed": (*NO_TEXT, "twice"), "overlap": NO_FLAG, "replace": NO_FLAG,
        "payload": (*NO_PAYLOAD, wire.pack_payload([b"a", b"b"]), wire.pack_payload([]))}),
    "schedule_remove": ({"name": "hourly"}, None, {"name": NO_NAME}),
    "schedule_pause": ({"name": "hourly"}, None, {"name": NO_NAME}),
    "schedule_resume": ({"name": "hourly"}, None, {"name": NO_NAME}),
    "schedule_run": ({"name": "hourly"}, None, {"name": NO_NAME}),
    "schedules": ({}, None, {"limit": (*NO_COUNT, 1001), "after": tuple(v for v in NO_NAME if v != "")}),
    "schedule": ({"name": "hourly"}, None, {"name": NO_NAME}),
    "watch": ({"patterns": ["job.*"]}, None, {
        "patterns": (None, "job.*", [], [1], ["quue.*"], [None], ["x" * 20_000], ["*"] * 101, {}, DEEP),
        "after": (1, 1.5, True, b"0.0", "", "later", "1", "1.", ".1", "1.-2", "-1.0", "1.0.0", "9" * 50, [], DEEP),
        "limit": (*NO_COUNT, 1001), "wait_ms": NO_NUMBER}),
    "hello": ({"version": 1, "client": "x"}, None, {
        "version": (None, 0, 2, "1", b"1", NAN, 1.5, DEEP), "client": (1, None, b"x", "x" * 2000, DEEP),
        "session": (1, b"x", 1.5, [], DEEP, "", "1", "1-", "zz-0", "1-0000000000000000", "-", "x" * 9999)}),
}  # fmt: skip
DEFAULTED = {
    "append": ["payload", *PROPERTIES], "complete": ["payload", "outputs"], "create": ["options"],
    "configure": ["options"],
    "group_create": ["start", "at"], "group_seek": ["start"], "group_retry": ["limit"],
    "nack": ["delay_ms", "error", "reason"],
    "job_cancel": ["count"], "job_retry": ["count"], "job_retry_dead": ["limit"], "move": ["limit"],
    "job_progress": ["text"], "call": ["count", "payload", "wait_ms", *PROPERTIES],
    "reject": ["reason", "error", "error_text"], "release": ["ranges"],
    "pull": ["group", "bytes", "lease_ms", "wait_ms"], "list": ["kind", "limit", "after"], "peek": ["group", "limit"],
    "jobs": ["limit", "status", "after"], "outcomes": ["bytes", "limit", "wait_ms"], "job_result": ["wait_ms"],
    "schedule_add": ["tz", "missed", "overlap", "replace", "payload"], "schedules": ["limit", "after"],
    "watch": ["after", "limit", "wait_ms"], "hello": ["client", "session"],
    "describe": ["group"], "read": ["start", "offset", "messages", "bytes", "wait_ms"],
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
