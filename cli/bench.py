"""penstock bench."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ..peers.errors import InvalidArgument
from . import options as kinds
from . import output
from .options import Options, Verb
from .private import PrivateDaemon
from .private_cluster import PrivateCluster

if TYPE_CHECKING:
    from ..client import Client
    from .bench_cases import Setting

Amounts = tuple[int, int | None, float | None]  # bytes of a message, messages, seconds

COLUMNS = ("case", "nodes", "size", "batch", "clients", "rate", "p50_ms", "p99_ms", "durability")
BACKLOG_COLUMNS = ("backlog", "rss_anon_mb", "restart_s", "small_rate", "consume_ratio")


@click.command(cls=Verb)
@click.option(
    "--cases",
    help="Which, separated by commas.  [default: all but the last six; with --nodes the first four and latency]",
)
@click.option("--size", default="100", show_default=True, type=kinds.size, help="Bytes of a message.")
@click.option("--messages", type=click.IntRange(min=1), help="How many, for the cases that measure a rate.")
@click.option("--seconds", type=kinds.duration, help="How long, for the cases that measure a time.")
@click.option(
    "--nodes", default=1, show_default=True, type=click.IntRange(1, 5), help="A cluster of so many daemons of its own."
)
@click.pass_obj
def bench(
    options: Options, cases: str | None, size: int, messages: int | None, seconds: float | None, nodes: int
) -> None:
    """Measure a daemon: one of its own in a temporary folder, a cluster of --nodes, or what is at --endpoint.

    Clients are processes of their own, ready before the clock runs; a rate counts from the first send to the last
    confirmation. A case whose messages do not all arrive is an error.

    \b
    publish          send() in a loop, batched by the client
    publish_batches  send_many() of 1,000
    consume          receive_many() and ack_many()
    pipeline         send_many() of 1,000 and consume at once, first publish to last ack
    senders          16 processes, one message at a time, each waiting for its receipt
    latency          one such client
    delivery         from send to receipt, at 100 messages a second
    backlog          5 million messages: memory, restart, rate against a backlog of 100,000
    queues           10,000 queues: create rate, memory, publishing to one of them against a lone one
    groups           1,000 groups of a topic: the same
    parked           from a publish to its arrival at one of 1,000 consumers that wait, over 20 sessions
    delayed          a million messages with due times of their own, 10,000 a second: memory, how late each comes
    scattered        the same, each of them in any of the batches
    """
    from .bench_cases import CASES, CLUSTER_CASES, DEFAULT_CASES
    from .bench_delayed import COLUMNS as DELAYED_COLUMNS
    from .bench_delayed import DELAYED_CASES
    from .bench_scale import COLUMNS as SCALE_COLUMNS
    from .bench_scale import SCALE_CASES

    special = SCALE_CASES | DELAYED_CASES
    if nodes > 1 and options.endpoint:
        raise InvalidArgument("--nodes makes a cluster, and --endpoint names one", "give one of them")
    usual = DEFAULT_CASES if nodes == 1 else CLUSTER_CASES
    names = list(usual) if cases is None else [name.strip() for name in cases.split(",")]
    for name in names:
        if name not in CASES and name not in special:
            raise InvalidArgument(f"there is no case {name!r}", "cases are " + ", ".join([*CASES, *special]))
    columns = COLUMNS + (BACKLOG_COLUMNS if "backlog" in names else ())
    columns += DELAYED_COLUMNS if DELAYED_CASES.keys() & set(names) else ()
    columns += next((SCALE_COLUMNS[name] for name in names if name in SCALE_COLUMNS), ())
    output.rows(_measure(names, options, nodes, (size, messages, seconds)), columns, options.json)


def _measure(names: list[str], options: Options, nodes: int, amounts: Amounts) -> Iterator[dict[str, Any]]:
    from .bench_cases import CASES
    from .bench_delayed import DELAYED_CASES
    from .bench_scale import SCALE_CASES

    for name in names:
        output.note(f"{name} ...")
        with _setting(options, nodes, amounts) as setting:
            yield (CASES | SCALE_CASES | DELAYED_CASES)[name](setting)


@contextmanager
def _setting(options: Options, nodes: int, amounts: Amounts) -> Iterator[Setting]:
    """A fresh daemon, or cluster, for each case, so that none pays for what another left behind; or what was named."""
    from ..client import connect

    if options.endpoint:
        with options.connect() as client:
            yield _describe(client, list(options.endpoint), amounts)
    elif nodes > 1:
        with PrivateCluster(nodes) as cluster, connect(cluster.endpoints) as client:
            yield _describe(client, cluster.endpoints, amounts)
    else:
        with PrivateDaemon() as daemon, connect(daemon.endpoint) as client:
            yield _describe(client, [daemon.endpoint], amounts, daemon)


def _describe(client: Client, endpoints: list[str], amounts: Amounts, daemon: PrivateDaemon | None = None) -> Setting:
    from .bench_cases import Setting

    size, messages, seconds = amounts
    durability, nodes = client.status()["durability"], len(client.cluster().members)
    return Setting(client, endpoints, nodes, size, durability, f"bench-{os.getpid()}", messages, seconds, daemon)
