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

if TYPE_CHECKING:
    from .bench_cases import Setting

COLUMNS = ("case", "size", "batch", "clients", "rate", "p50_ms", "p99_ms", "durability")
BACKLOG_COLUMNS = ("backlog", "rss_anon_mb", "restart_s", "small_rate", "consume_ratio")


@click.command(cls=Verb)
@click.option("--cases", help="Which, separated by commas.  [default: all but backlog]")
@click.option("--size", default="100", show_default=True, type=kinds.size, help="Bytes of a message.")
@click.option("--messages", type=click.IntRange(min=1), help="How many, for the cases that measure a rate.")
@click.option("--seconds", type=kinds.duration, help="How long, for the cases that measure a time.")
@click.pass_obj
def bench(options: Options, cases: str | None, size: int, messages: int | None, seconds: float | None) -> None:
    """Measure a daemon: one of its own in a temporary folder, or that of --endpoint.

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
    """
    from .bench_cases import CASES, DEFAULT_CASES

    names = list(DEFAULT_CASES) if cases is None else [name.strip() for name in cases.split(",")]
    for name in names:
        if name not in CASES:
            raise InvalidArgument(f"there is no case {name!r}", "cases are " + ", ".join(CASES))
    columns = COLUMNS + (BACKLOG_COLUMNS if "backlog" in names else ())
    output.rows(_measure(names, options, size, messages, seconds), columns, options.json)


def _measure(
    names: list[str], options: Options, size: int, messages: int | None, seconds: float | None
) -> Iterator[dict[str, Any]]:
    from .bench_cases import CASES

    for name in names:
        output.note(f"{name} ...")
        with _setting(options, size, messages, seconds) as setting:
            yield CASES[name](setting)


@contextmanager
def _setting(options: Options, size: int, messages: int | None, seconds: float | None) -> Iterator[Setting]:
    """A fresh daemon for each case, so that none pays for what another left behind; or the one that was named."""
    from ..client import connect
    from .bench_cases import Setting

    prefix = f"bench-{os.getpid()}"
    if options.endpoint:
        with options.connect() as client:
            durability = client.status()["durability"]
            yield Setting(client, options.endpoint[0], size, durability, prefix, messages, seconds)
        return
    with PrivateDaemon() as daemon, connect(daemon.endpoint) as client:
        durability = client.status()["durability"]
        yield Setting(client, daemon.endpoint, size, durability, prefix, messages, seconds, daemon)
