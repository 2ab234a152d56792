"""Groups, seeks, retention and replays outlive the primary that they were asked of."""

from __future__ import annotations

from pathlib import Path

import pytest
from kit.daemons import until

import penstock
from faults.cluster import NODES, Cluster
from penstock.client import connect


def bodies(client: penstock.Client, topic: str, group: str, number: int) -> list[bytes]:
    with client.consumer(topic, group=group) as consumer:
        found: list[bytes] = []
        while len(found) < number:
            messages = consumer.receive_many(number - len(found), timeout=20)
            assert messages, found
            consumer.ack_many(messages).wait()
            found += [message.body for message in messages]
    return found


def test_where_groups_are_is_known_after_a_fail_over(short: Path) -> None:
    with Cluster(short) as cluster, connect(cluster.endpoint, retry_for=30) as client:
        client.create_topic("news", retention_messages=4)
        client.create_group("news", "all")
        with client.producer("news") as producer:
            for at in range(6):
                producer.send(b"%d" % at).wait()
        until(lambda: client.describe("news").first == 2, "what is beyond the retention goes")
        client.create_group("news", "since", start=4)
        assert bodies(client, "news", "all", 4) == [b"2", b"3", b"4", b"5"]
        client.seek_group("news", "all", 3)
        with client.consumer("news", group="since", prefetch=0) as consumer:
            held = consumer.receive(timeout=20)
            assert held is not None
            client.seek_group("news", "since", 5)
            victim = cluster.whole()
            cluster.kill(victim)
            with pytest.raises(penstock.LeaseLost):
                held.ack().wait(timeout=30)
        (replica,) = {*NODES} - {victim, cluster.primary()}
        assert [(info.name, info.floor, info.lag, info.done) for info in client.list_groups("news")] == [
            ("all", 3, 3, 4), ("since", 5, 1, 0),
        ]  # fmt: skip
        assert [message.body for message in client.replay("news", 3)] == [b"3", b"4", b"5"]
        assert bodies(client, "news", "all", 3) == [b"3", b"4", b"5"]
        assert bodies(client, "news", "since", 1) == [b"5"]
        with connect(cluster.client(replica), read_only=True, retry_for=30) as reader:
            until(lambda: reader.describe_group("news", "all").lag == 0, "a replica knows it, too")
            assert [message.body for message in reader.replay("news", 4)] == [b"4", b"5"]
            assert reader.staleness is not None
