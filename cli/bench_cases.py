"""The cases of `penstock bench`: what runs at once, what is counted, and the check that nothing was lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from statistics import median
from time import monotonic
from typing import Any, Final

from ..client import Client, connect
from . import bench_work as work
from .bench_work import Measured
from .crew import run_crew
from .exits import Refused
from .private import PrivateDaemon

BATCH: Final = 1000
SENDERS: Final = 16
PER_SECOND: Final = 100  # messages of `delivery`
PATIENCE_S: Final = 300.0
SMALL_BACKLOG: Final = 100_000
SMALL_RUNS: Final = 3  # 100,000 messages are gone in a blink: the middle one of three counts

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how much. messages, seconds None: what the case finds right."""

    client: Client
    endpoints: list[str]
    nodes: int
    size: int
    durability: str
    prefix: str  # of the names of its queues
    messages: int | None = None
    seconds: float | None = None
    daemon: PrivateDaemon | None = None  # None: a daemon that is not ours to restart

    def queue(self, case: str) -> str:
        name = f"{self.prefix}.{case}"
        self.client.create_queue(name)
        return name

    def row(self, case: str, clients: int, measured: list[Measured], rate: float, batch: int | None = None) -> Row:
        took_s = sorted(chain.from_iterable(one.took_s for one in measured))
        return {
            "case": case,
            "nodes": self.nodes,
            "size": self.size,
            "batch": batch,
            "clients": clients,
            "rate": round(rate),
            "p50_ms": _percentile_ms(took_s, 0.50),
            "p99_ms": _percentile_ms(took_s, 0.99),
            "durability": self.durability,
        }


def publish(setting: Setting) -> Row:
    queue, messages = setting.queue("publish"), setting.messages or 1_000_000
    done = run_crew([(work.publish, (setting.endpoints, queue, setting.size, messages))], PATIENCE_S)
    _expect(setting, queue, next=messages, ready=messages)
    return setting.row("publish", 1, done, _rate(done))


def publish_batches(setting: Setting) -> Row:
    queue, messages = setting.queue("publish_batches"), _whole_batches(setting.messages or 2_000_000)
    done = run_crew([_fill(setting, queue, messages)], PATIENCE_S)
    _expect(setting, queue, next=messages, ready=messages)
    return setting.row("publish_batches", 1, done, _rate(done), BATCH)


def consume(setting: Setting) -> Row:
    queue, messages = setting.queue("consume"), _whole_batches(setting.messages or 1_000_000)
    run_crew([_fill(setting, queue, messages)], PATIENCE_S)
    done = run_crew([(work.consume, (setting.endpoints, queue, messages))], PATIENCE_S)
    _expect(setting, queue, next=messages, done=messages, ready=0, leased=0)
    return setting.row("consume", 1, done, _rate(done))


def pipeline(setting: Setting) -> Row:
    queue, messages = setting.queue("pipeline"), _whole_batches(setting.messages or 1_000_000)
    sent, received = run_crew(
        [_fill(setting, queue, messages), (work.consume, (setting.endpoints, queue, messages))], PATIENCE_S
    )
    _expect(setting, queue, next=messages, done=messages, ready=0, leased=0)
    return setting.row("pipeline", 2, [], received.count / (received.last_s - sent.first_s), BATCH)


def senders(setting: Setting) -> Row:
    queue = setting.queue("senders")
    each = (work.send_each, (setting.endpoints, queue, setting.size, setting.seconds or 3.0))
    done = run_crew([each] * SENDERS, PATIENCE_S)
    _expect(setting, queue, next=sum(one.count for one in done) + SENDERS * work.WARM_UP)
    return setting.row("senders", SENDERS, done, _rate(done), 1)


def latency(setting: Setting) -> Row:
    queue = setting.queue("latency")
    each = (work.send_each, (setting.endpoints, queue, setting.size, setting.seconds or 3.0))
    done = run_crew([each], PATIENCE_S)
    _expect(setting, queue, next=done[0].count + work.WARM_UP)
    return setting.row("latency", 1, done, _rate(done), 1)


def delivery(setting: Setting) -> Row:
    queue, messages = setting.queue("delivery"), max(1, round((setting.seconds or 5.0) * PER_SECOND))
    sent, received = run_crew(
        [
            (work.send_paced, (setting.endpoints, queue, setting.size, messages, 1 / PER_SECOND)),
            (work.receive_stamped, (setting.endpoints, queue, messages)),
        ],
        PATIENCE_S,
    )
    _expect(setting, queue, next=messages, done=messages)
    return setting.row("delivery", 2, [received], _rate([sent]), 1)


def backlog(setting: Setting) -> Row:
    """A deep backlog: memory of the daemon, time from its start to the first delivery, rate against a small backlog."""
    daemon = setting.daemon
    if daemon is None:
        raise Refused("the case backlog restarts the daemon", "leave --endpoint out: it runs on a daemon of its own")
    small = median(_small_rate(setting, number) for number in range(SMALL_RUNS))
    queue, messages = setting.queue("backlog"), _whole_batches(setting.messages or 5_000_000)
    run_crew([_fill(setting, queue, messages)], PATIENCE_S)
    _expect_of(setting.client, queue, next=messages, ready=messages)
    rss_full = rss_anon_bytes(daemon.pid)
    setting.client.close()
    daemon.stop()
    started_s = monotonic()
    daemon.start()
    restart_s = work.receive_first([daemon.endpoint], queue) - started_s
    done = run_crew([(work.consume, ([daemon.endpoint], queue, messages))], PATIENCE_S)
    rss_drained = rss_anon_bytes(daemon.pid)
    with connect(daemon.endpoint) as client:
        _expect_of(client, queue, next=messages, done=messages, ready=0, leased=0)
    row = setting.row("backlog", 1, done, _rate(done))
    return row | {
        "backlog": messages,
        "rss_anon_mb": round(max(rss_full, rss_drained) / 1e6, 1),
        "restart_s": round(restart_s, 3),
        "small_rate": round(small),
        "consume_ratio": round(_rate(done) / small, 3),
    }


CASES: Final[dict[str, Callable[[Setting], Row]]] = {
    "publish": publish,
    "publish_batches": publish_batches,
    "consume": consume,
    "pipeline": pipeline,
    "senders": senders,
    "latency": latency,
    "delivery": delivery,
    "backlog": backlog,
}
CLUSTER_CASES: Final = ("publish", "publish_batches", "consume", "pipeline", "latency")
DEFAULT_CASES: Final = tuple(name for name in CASES if name != "backlog")  # minutes and gigabytes: only when asked for


def rss_anon_bytes(pid: int) -> int:
    """The anonymous memory of a process: what is its own, without the pages of the mapped store."""
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    raise Refused(f"/proc/{pid}/status says no RssAnon")


def _small_rate(setting: Setting, number: int) -> float:
    queue = setting.queue(f"small-{number}")
    run_crew([_fill(setting, queue, SMALL_BACKLOG)], PATIENCE_S)
    return _rate(run_crew([(work.consume, (setting.endpoints, queue, SMALL_BACKLOG))], PATIENCE_S))


def _fill(setting: Setting, queue: str, messages: int) -> tuple[Callable[..., Measured], tuple[Any, ...]]:
    return work.publish_batches, (setting.endpoints, queue, setting.size, messages, BATCH)


def _whole_batches(messages: int) -> int:
    return max(1, messages // BATCH) * BATCH


def _rate(measured: list[Measured]) -> float:
    """Messages a second, from the first beginning to the last end."""
    span_s = max(one.last_s for one in measured) - min(one.first_s for one in measured)
    return sum(one.count for one in measured) / span_s


def _percentile_ms(took_s: list[float], share: float) -> float | None:
    return round(took_s[min(len(took_s) - 1, int(share * len(took_s)))] * 1000, 3) if took_s else None


def _expect(setting: Setting, queue: str, **counts: int) -> None:
    """As _expect_of, then delete the queue: a named daemon is left as it was."""
    _expect_of(setting.client, queue, **counts)
    setting.client.delete(queue)


def _expect_of(client: Client, queue: str, **counts: int) -> None:
    """Refuse a figure of messages that were lost: the daemon's own counts must be what was acknowledged."""
    info = client.describe(queue)
    for name, expected in counts.items():
        if getattr(info, name) != expected:
            raise Refused(f"{queue}: {name} is {getattr(info, name)} where {expected} was acknowledged")
