"""Three daemons whose primary is killed again and again: each due time of a schedule makes one job, and whoever watches
is told of each once."""

from __future__ import annotations

import threading
from pathlib import Path

import penstock
from faults.cluster import Cluster
from faults.crew import LIMIT_S, until

EVERY_MS = 1_000
KILLS = 3
JOBS_MIN = 6


def test_due_times_and_events_are_exact_through_fail_overs(short: Path) -> None:
    with Cluster(short) as cluster, penstock.connect(cluster.endpoint, retry_for=LIMIT_S) as client:
        client.create_queue("ticks", max_failures=None)
        watch = client.watch("schedule.*", after="now")
        seen: list[penstock.Event] = []
        watcher = threading.Thread(target=lambda: seen.extend(watch))
        watcher.start()
        first_ms = client.schedules.add("tick", "ticks", every=EVERY_MS / 1000, missed="all").next_ms
        assert first_ms is not None
        for _ in range(KILLS):
            fired = client.schedules.get("tick").fired
            until(lambda fired=fired: client.schedules.get("tick").fired >= fired + 2, "two more due times")
            victim = cluster.whole()
            cluster.kill(victim)
            assert cluster.primary() != victim
            cluster.start(victim)
        cluster.whole()
        info = client.schedules.pause("tick")
        with client.consumer("ticks") as consumer:
            messages = consumer.receive_many(1_000, timeout=LIMIT_S)
            while len(messages) < info.fired:
                messages += consumer.receive_many(1_000, timeout=LIMIT_S)
            dues = [message.all_headers["penstock-due"] for message in messages]
            consumer.ack_many(messages).wait(LIMIT_S)
        until(lambda: seen and seen[-1].type == "schedule.paused", "the watch is told of the pause")
        watch.stop()
        watcher.join(LIMIT_S)
    assert len(dues) >= JOBS_MIN
    assert dues == list(range(first_ms, first_ms + len(dues) * EVERY_MS, EVERY_MS))
    assert [event.type for event in seen] == ["schedule.added", *["schedule.fired"] * len(dues), "schedule.paused"]
    assert [event.more["due_ms"] for event in seen[1:-1]] == dues
