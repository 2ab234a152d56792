"""The drill of `penstock demo failover`: a cluster under load whose primary is killed again and again."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from . import failover_work as work
from .exits import Refused
from .failover_check import Verdict, judge, read_history
from .private_cluster import PrivateCluster, wait_until

if TYPE_CHECKING:
    from ..client.cluster import ClusterInfo

_CONTEXT: Final = multiprocessing.get_context("spawn")
NODES: Final = 3
FLOW_S: Final = 1.0  # load between a restart and the next kill
RECOVER_S: Final = 30.0  # the longest that anything may take
DRAIN_S: Final = 60.0
LOOK_S: Final = 0.25


@dataclass
class Drill:
    """Where a drill is: what the live table shows."""

    kills: int
    cluster: PrivateCluster
    started_s: float = field(default_factory=monotonic)
    kills_s: list[float] = field(default_factory=list)
    killed: int | None = None  # the node that is down
    doing: str = "starting"


Show = Callable[[Drill, "dict[int, ClusterInfo | None]"], None]


def run(kills: int, show: Show | None) -> tuple[Verdict, float]:
    """Kill the primary `kills` times under load. The verdict, and how many seconds it took from first to last publish.

    `show` is called with the drill and what each node tells, several times a second.
    """
    with PrivateCluster(NODES) as cluster:
        drill = Drill(kills, cluster)
        _create_queue(cluster)
        histories = cluster.folder / "producer.jsonl", cluster.folder / "consumer.jsonl"
        with _workers(cluster, *histories) as (producer, consumer, stop):
            crew = _Watch(drill, [producer, consumer], show)
            confirmed = _Confirmed(histories[0])
            crew.wait(lambda: confirmed.count() > 0, "nothing was published")
            for _ in range(kills):
                _kill_once(drill, crew, confirmed)
            drill.doing = "draining"
            stop.set()
            crew.wait(lambda: not producer.is_alive() and not consumer.is_alive(), "the queue was not emptied", DRAIN_S)
        produced, consumed = map(read_history, histories)
        if produced[-1][0] != "end" or consumed[-1][0] != "end":
            raise Refused("a worker of the drill failed: its history has no end")
        times_s = [event[1] for event in produced]
        return judge(produced, consumed, drill.kills_s), times_s[-1] - times_s[0]


def _kill_once(drill: Drill, crew: _Watch, confirmed: _Confirmed) -> None:
    cluster = drill.cluster
    drill.doing = "load on all nodes"
    flowing_s = monotonic()
    crew.wait(lambda: monotonic() - flowing_s > FLOW_S, "the clock stands still")
    primary = cluster.settle()
    before = confirmed.count()
    drill.killed, drill.doing = primary, f"node {primary} was killed"
    drill.kills_s.append(monotonic())
    cluster.nodes[primary].kill()
    # More than one: the answer to a publish may have left just before the kill.
    crew.wait(lambda: confirmed.count() > before + 10, "nothing was published after the kill of the primary")
    drill.doing = f"node {primary} starts again"
    cluster.nodes[primary].start()
    drill.killed = None
    cluster.settle(RECOVER_S)


def _create_queue(cluster: PrivateCluster) -> None:
    from ..client import connect

    with connect(cluster.endpoints) as client:
        client.create_queue(work.QUEUE)


@contextmanager
def _workers(
    cluster: PrivateCluster, produced: Path, consumed: Path
) -> Iterator[tuple[SpawnProcess, SpawnProcess, Event]]:
    """The producer and the consumer, running; killed if they are still there in the end."""
    stop = _CONTEXT.Event()
    produced.touch()
    workers = [
        _CONTEXT.Process(target=function, args=(cluster.endpoints, path, stop, os.getpid()), daemon=True)
        for function, path in ((work.produce, produced), (work.consume, consumed))
    ]
    for worker in workers:
        worker.start()
    try:
        yield workers[0], workers[1], stop
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


class _Watch:
    """Waits, and meanwhile sees to it that the workers live and that somebody shows how it goes."""

    def __init__(self, drill: Drill, workers: list[SpawnProcess], show: Show | None) -> None:
        self._drill = drill
        self._workers = workers
        self._show = show
        self._shown_s = 0.0

    def wait(self, condition: Callable[[], Any], otherwise: str, patience_s: float = RECOVER_S) -> None:
        """Until the condition is true. Raises Timeout, and Refused if a worker fails."""

        def looking() -> bool:
            if any(worker.exitcode for worker in self._workers):
                raise Refused("a worker of the drill failed", "its error is above")
            self._look()
            return bool(condition())

        wait_until(looking, otherwise, patience_s)

    def _look(self) -> None:
        if self._show is not None and monotonic() - self._shown_s > LOOK_S:
            self._show(self._drill, {node: self._drill.cluster.info(node) for node in self._drill.cluster.nodes})
            self._shown_s = monotonic()


class _Confirmed:
    """Counts the confirmed publishes in the producer's history while it is written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = self._count = 0

    def count(self) -> int:
        with self._path.open("rb") as file:
            file.seek(self._read)
            whole_lines = file.read().rpartition(b"\n")[0]
        self._read += len(whole_lines)
        self._count += whole_lines.count(b'"confirmed"')
        return self._count
