"""The case of `penstock bench` about time: a million messages, each due at a moment of its own."""

from __future__ import annotations

import os
import struct
import time
from random import Random
from time import monotonic
from typing import Final

from ..client import connect
from . import bench_work as work
from .bench_cases import PATIENCE_S, Row, Setting, rss_anon_bytes
from .bench_work import Measured
from .crew import Ready, run_crew
from .exits import Refused

MESSAGES: Final = 1_000_000
PER_SECOND: Final = 10_000  # that fall due
PUBLISHED_PER_SECOND: Final = 20_000  # at least; the first falls due when all are there
BATCH: Final = 1_000
LATE_MS: Final = 100.0
DUE: Final = struct.Struct("<d")
COLUMNS: Final = ("messages", "rss_growth_mb", "publish_rate", "late", "max_ms", "commit_max_ms")


def delayed(setting: Setting) -> Row:
    """How late each message comes, measured from its due time; and what all of them, waiting, weigh in the daemon."""
    return _measure("delayed", setting, scattered=False)


def scattered(setting: Setting) -> Row:
    """The same, but that each of them may lie in any of the batches: none is near the one that is due before it."""
    return _measure("scattered", setting, scattered=True)


def _measure(case: str, setting: Setting, scattered: bool) -> Row:
    daemon = setting.daemon
    if daemon is None:
        raise Refused(f"the case {case} looks at the memory of the daemon", "leave --endpoint out: it starts its own")
    queue, messages = setting.queue(case), max(BATCH, (setting.messages or MESSAGES) // BATCH * BATCH)
    before = rss_anon_bytes(daemon.pid)
    start_s = time.time() + 5.0 + messages / PUBLISHED_PER_SECOND
    publisher = (publish_due, (setting.endpoints, queue, setting.size, messages, start_s, scattered))
    consumer = (receive_due, (setting.endpoints, queue, messages, start_s, daemon.pid))
    sent, received = run_crew([publisher, consumer], PATIENCE_S + messages / PER_SECOND)
    info = setting.client.describe(queue)
    if info.done != messages:
        raise Refused(f"{queue}: {info.done} of {messages} messages were done")
    late_s = received.took_s
    row = setting.row(case, 2, [received], received.count / (received.last_s - received.first_s), BATCH)
    return row | {
        "messages": messages,
        "rss_growth_mb": round((received.extra["rss"] - before) / 1e6, 1),
        "publish_rate": round(sent.count / (sent.last_s - sent.first_s)),
        "late": sum(1 for one in late_s if one * 1000 > LATE_MS),
        "max_ms": round(max(late_s) * 1000, 1),
        "commit_max_ms": setting.client.status()["counters"]["commit_max_ms"],  # of it, what the disk alone took
    }


def publish_due(
    ready: Ready, endpoints: list[str], queue: str, size: int, messages: int, start_s: float, scattered: bool
) -> Measured:
    """Messages that fall due one after the other, 10,000 a second from `start_s` on, shuffled: all of them if
    `scattered`, else those of each batch."""
    dice, mixed = Random(1), messages if scattered else BATCH
    order = [number for at in range(0, messages, mixed) for number in dice.sample(range(at, at + mixed), mixed)]
    pad = os.urandom(max(0, size - DUE.size))
    with connect(endpoints) as client, client.producer(queue) as producer:
        ready()
        first_s = monotonic()
        for at in range(0, messages, BATCH):
            dues = [start_s + number / PER_SECOND for number in order[at : at + BATCH]]
            producer.send_many([DUE.pack(due) + pad for due in dues], dues=dues)
        producer.flush(timeout=work.QUIET_S)
        last_s = monotonic()
    if time.time() > start_s:
        raise Refused(f"publishing took until {time.time() - start_s:.1f} s after the first was due", "give fewer")
    return Measured(messages, first_s, last_s)


def receive_due(ready: Ready, endpoints: list[str], queue: str, messages: int, start_s: float, pid: int) -> Measured:
    """How long after its due time each came. A message that comes before it is an error."""
    late_s: list[float] = []
    with connect(endpoints) as client:
        ready()
        time.sleep(max(0.0, start_s - 1.0 - time.time()))
        rss = rss_anon_bytes(pid)
        with client.consumer(queue, prefetch=work.PREFETCH) as consumer:
            first_s = monotonic()
            while len(late_s) < messages:
                taken = consumer.receive_many(work.RECEIVE, timeout=work.QUIET_S)
                if not taken:
                    break
                now = time.time()
                late_s += [now - DUE.unpack_from(message.body)[0] for message in taken]
                consumer.ack_many(taken)
            last_s = monotonic()
    if late_s and min(late_s) < -0.002:  # due times are of whole milliseconds
        raise Refused(f"a message came {-min(late_s):.3f} s before it was due")
    return Measured(len(late_s), first_s, last_s, late_s, {"rss": rss})


DELAYED_CASES: Final = {"delayed": delayed, "scattered": scattered}
