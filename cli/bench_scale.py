"""The cases of `penstock bench` about many: 10,000 queues, 1,000 groups of a topic, 1,000 parked consumers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from statistics import median
from threading import Event
from time import monotonic
from typing import Any, Final

from ..client import Client, connect
from ..client.connection import Connection
from ..client.requests import Request
from ..peers import wire
from . import bench_work as work
from .bench_cases import PATIENCE_S, Row, Setting, rss_anon_bytes
from .bench_work import Measured
from .crew import Ready, run_crew
from .exits import Refused
from .private import PrivateDaemon

QUEUES: Final = 10_000
GROUPS: Final = 1_000
PARKED: Final = 1_000
SESSIONS: Final = 20
PER_SECOND: Final = 100  # messages of `parked`
RUNS: Final = 3  # of a rate; the middle one counts
MESSAGES: Final = 200_000  # of one such run
EACH_S: Final = 2.0  # seconds of one such run of single messages, each a turn with its commit
WAIT_MS: Final = 600_000
STAMP: Final = struct.Struct("<d")
COLUMNS: Final = {
    "queues": ("made", "create_rate", "rss_growth_mb", "lone_rate", "ratio", "lone_p50_ms", "lone_p99_ms"),
    "groups": ("made", "create_rate", "rss_growth_mb", "lone_rate", "ratio", "lone_p50_ms", "lone_p99_ms"),
}


def queues(setting: Setting) -> Row:
    """Publishing to one of 10,000 queues, and to one that is alone at a daemon."""
    name, client = setting.queue("queues"), setting.client

    def make(number: int) -> None:
        client.create_queue(f"{setting.prefix}.q{number}")

    return _against_alone(setting, "queues", name, lambda lone: lone.create_queue(name), QUEUES, make)


def groups(setting: Setting) -> Row:
    """Publishing to a topic with 1,000 groups, and to one that has none, at another daemon."""
    name, client = f"{setting.prefix}.groups", setting.client
    client.create_topic(name)

    def make(number: int) -> None:
        client.create_group(name, f"g{number}", "latest")

    return _against_alone(setting, "groups", name, lambda lone: lone.create_topic(name), GROUPS, make)


def parked(setting: Setting) -> Row:
    """From a publish to its arrival at one of 1,000 consumers that wait for it, over 20 sessions."""
    queue, messages = setting.queue("parked"), max(1, round((setting.seconds or 10.0) * PER_SECOND))
    _, received = run_crew(
        [
            (work.send_paced, (setting.endpoints, queue, setting.size, messages, 1 / PER_SECOND)),
            (wait_parked, (setting.endpoints, queue, PARKED, SESSIONS, messages)),
        ],
        PATIENCE_S,
    )
    info = setting.client.describe(queue)
    if (info.next, info.done) != (messages, messages):
        raise Refused(f"{queue}: {info.done} of {messages} messages are done")
    setting.client.delete(queue)
    return setting.row("parked", PARKED, [received], received.count / (received.last_s - received.first_s), 1)


SCALE_CASES: Final[dict[str, Callable[[Setting], Row]]] = {"queues": queues, "groups": groups, "parked": parked}


def wait_parked(ready: Ready, endpoints: list[str], queue: str, parked: int, sessions: int, messages: int) -> Measured:
    """Keep `parked` pulls waiting; how long each stamped message took from its publish to here."""
    took_s: list[float] = []
    all_came = Event()
    connections = [
        Connection(endpoints, {"version": wire.VERSION, "client": "bench"}, round(work.QUIET_S * 1000))
        for _ in range(sessions)
    ]

    def park(connection: Connection) -> None:
        args = {"queue": queue, "messages": 1, "wait_ms": WAIT_MS}
        connection.ask(Request("pull", args, wait_ms=WAIT_MS, then=lambda request: came(connection, request)))

    def came(connection: Connection, request: Request) -> None:
        now_s = monotonic()
        if request.error is not None or request.body["lease"] is None:
            return  # the connection is being closed
        (body,), _ = wire.unpack_payload(request.data or b"")
        took_s.append(now_s - STAMP.unpack_from(body)[0])
        ranges = [[first, count] for first, count, *_ in request.body["ranges"]]
        acked = all_came.set if len(took_s) == messages else lambda: None
        args = {"lease": request.body["lease"], "ranges": ranges}
        connection.ask(Request("ack", args, counted=True, then=lambda request: acked()))
        park(connection)

    try:
        for number in range(parked):  # neighbours in the line are not on one connection
            connection = connections[number % sessions]
            with connection.lock:
                park(connection)
        _await_parked(endpoints, parked)
        ready()
        first_s = monotonic()
        all_came.wait(messages / PER_SECOND + work.QUIET_S)
        return Measured(len(took_s), first_s, monotonic(), took_s)
    finally:
        for connection in connections:
            connection.close()


def _await_parked(endpoints: list[str], parked: int) -> None:
    deadline_s = monotonic() + work.QUIET_S
    with connect(endpoints) as client:
        while client.status()["parked"] < parked:
            if monotonic() > deadline_s:
                raise ValueError(f"only {client.status()['parked']} of {parked} pulls are parked")


def _against_alone(
    setting: Setting, case: str, name: str, make_lone: Callable[[Client], Any], number: int, make: Callable[[int], Any]
) -> Row:
    """Both daemons in turns: what else the machine does hits both."""
    if setting.daemon is None:
        raise Refused(f"the case {case} measures the memory of a daemon", "leave --endpoint out: it runs on its own")
    rss_bytes, began_s = rss_anon_bytes(setting.daemon.pid), monotonic()
    for at in range(number):
        make(at)
    create_rate = number / (monotonic() - began_s)
    rss_growth_bytes = rss_anon_bytes(setting.daemon.pid) - rss_bytes
    rates: dict[str, list[float]] = {"lone": [], "one of many": []}
    times: dict[str, list[Measured]] = {"lone": [], "one of many": []}
    with PrivateDaemon() as daemon, connect(daemon.endpoint) as client:
        make_lone(client)
        for _ in range(RUNS):
            for which, endpoints in (("lone", [daemon.endpoint]), ("one of many", setting.endpoints)):
                sent = (work.publish, (endpoints, name, setting.size, setting.messages or MESSAGES))
                rates[which] += [one.count / (one.last_s - one.first_s) for one in run_crew([sent], PATIENCE_S)]
                each = (work.send_each, (endpoints, name, setting.size, setting.seconds or EACH_S))
                times[which] += run_crew([each], PATIENCE_S)
    lone_rate, rate = median(rates["lone"]), median(rates["one of many"])
    lone = setting.row(case, 1, times["lone"], lone_rate)
    return setting.row(case, 1, times["one of many"], rate) | {
        "made": number,
        "create_rate": round(create_rate),
        "rss_growth_mb": round(rss_growth_bytes / 1e6, 1),
        "lone_rate": round(lone_rate),
        "ratio": round(rate / lone_rate, 3),
        "lone_p50_ms": lone["p50_ms"],
        "lone_p99_ms": lone["p99_ms"],
    }
