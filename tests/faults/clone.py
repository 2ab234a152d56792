"""A node joins three others that hold a lot, while a producer and a consumer work. `make clone` prints the figures.

What is measured: from `cluster add` to the new node's vote; the longest pause between two confirmed publishes in that
time; whether the primary's term outlived it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import click

import penstock
from faults.steady import look
from penstock.cli import failover_work as work
from penstock.cli.failover_check import judge, read_history
from penstock.cli.private_cluster import PrivateCluster, wait_until
from penstock.client.cluster import ClusterInfo, MemberInfo

BACKLOG = "backlog"
BODY_BYTES = 1000
BATCH = 200
NEW = 4
LIMIT_S = 600.0
LOAD_S = 2.0  # of load alone, before and after
LOOK_S = 0.05
SETTINGS = '[storage]\nmap_size = "8GiB"\n'


@dataclass(frozen=True)
class Figures:
    """`gap_s`: the longest pause between confirmed publishes while the node was cloned; `gap_before_s`: before that.
    Rates are of confirmed messages."""

    backlog_bytes: int
    clone_s: float
    bytes_per_s: int
    gap_s: float
    gap_before_s: float
    rate: int
    rate_before: int
    terms: int  # 1: it was one primary's throughout
    slow_commits: int  # of the three meanwhile: a primary whose disk stands still is rightly replaced
    acknowledged: int
    lost: int
    duplicates: int

    @property
    def primary_stayed(self) -> bool:
        """As long as this machine's own disk let it."""
        return self.terms == 1 or self.slow_commits > 0


def fill(cluster: PrivateCluster, size: int) -> None:
    """A backlog of `size` bytes in queue BACKLOG."""
    with penstock.connect(cluster.endpoints, retry_for=60) as client:
        client.create_queue(work.QUEUE)
        client.create_queue(BACKLOG)
        with client.producer(BACKLOG) as producer:
            bodies = [os.urandom(BODY_BYTES) for _ in range(BATCH)]
            receipts = []
            for _ in range(0, size, BATCH * BODY_BYTES):
                receipts.append(producer.send_many(bodies))
                if len(receipts) == 16:
                    receipts.pop(0).wait()
            for receipt in receipts:
                receipt.wait()


@contextmanager
def load(cluster: PrivateCluster, produced: Path, consumed: Path) -> Iterator[None]:
    """A producer and a consumer at work on a queue of their own, until they have emptied it at the end."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    produced.touch()
    workers = [
        context.Process(target=function, args=(cluster.endpoints, path, stop, os.getpid()), daemon=True)
        for function, path in ((work.produce, produced), (work.consume, consumed))
    ]
    for worker in workers:
        worker.start()
    try:
        yield
        stop.set()
        for worker in workers:
            worker.join(LIMIT_S)
            assert worker.exitcode == 0, f"a worker ended with {worker.exitcode}"
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def member(info: ClusterInfo, node: int) -> MemberInfo | None:
    return next((it for it in info.members if it.node == node), None)


def votes(cluster: PrivateCluster, primary: int) -> bool:
    """Has the new node its vote, in the eyes of the primary?"""
    time.sleep(LOOK_S)  # looking is load, too
    info = cluster.info(primary)
    found = None if info is None else member(info, NEW)
    return found is not None and found.voter


def run(size: int) -> Figures:
    """Fill, load, add, watch."""
    with PrivateCluster(3, SETTINGS) as cluster:
        fill(cluster, size)
        primary = cluster.settle()
        old = list(cluster.endpoints)
        before = [look(endpoint) for endpoint in old]
        histories = cluster.folder / "produced.jsonl", cluster.folder / "consumed.jsonl"
        with load(cluster, *histories):
            wait_until(lambda: histories[0].stat().st_size, "nothing was published", LIMIT_S)
            time.sleep(LOAD_S)
            client_at, listen, publish = cluster.add(NEW)
            began_s = time.monotonic()
            with penstock.connect(cluster.endpoints, retry_for=60) as client:
                client.cluster_add(NEW, client=client_at, listen=listen, publish=publish)
            wait_until(lambda: votes(cluster, primary), "the new node has no vote", LIMIT_S)
            ended_s = time.monotonic()
            time.sleep(LOAD_S)
        after = [look(endpoint) for endpoint in old]
        cluster.settle(LIMIT_S)
        with penstock.connect(cluster.nodes[NEW].listen, read_only=True) as reader:
            held = reader.describe(BACKLOG).bytes
        produced, consumed = map(read_history, histories)
        verdict = judge(produced, consumed, [began_s])
    confirmed_s = [at_s for kind, at_s, *_ in produced if kind == "confirmed"]
    during = [at_s for at_s in confirmed_s if began_s <= at_s <= ended_s]
    quiet = [at_s for at_s in confirmed_s if began_s - LOAD_S <= at_s <= began_s]
    took_s = ended_s - began_s
    return Figures(
        backlog_bytes=held,
        clone_s=round(took_s, 2),
        bytes_per_s=round(held / took_s),
        gap_s=round(max(b - a for a, b in pairwise([began_s, *during, ended_s])), 3),
        gap_before_s=round(max((b - a for a, b in pairwise(quiet)), default=LOAD_S), 3),
        rate=round(len(during) * work.BATCH / took_s),
        rate_before=round(len(quiet) * work.BATCH / LOAD_S),
        terms=max(it.term for it in after) - max(it.term for it in before) + 1,
        slow_commits=sum(it.slow_commits for it in after) - sum(it.slow_commits for it in before),
        acknowledged=verdict.acknowledged,
        lost=verdict.lost,
        duplicates=verdict.duplicates,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="how much the cluster holds")
    figures = run(parser.parse_args().mib << 20)
    click.echo(json.dumps(asdict(figures), indent=2))
    return 0 if figures.primary_stayed and not figures.lost and not figures.duplicates else 1


if __name__ == "__main__":
    sys.exit(main())
