"""What becomes of leases, waiting requests, remembered answers and reads when nodes go, seen one by one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from kit.daemons import Raw

import penstock
from faults.cluster import NODES, Cluster
from faults.conftest import a_folder
from faults.crew import until
from penstock.peers import wire

CROWD = 6_000  # a primary stops hearing clients when it waits for the majority with so many
HELLO = {"version": 1, "client": "raw"}


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    with a_folder() as folder, Cluster(folder) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """All three run, before and after."""
    shared.whole()
    yield shared
    shared.start(*(node for node in NODES if node not in shared.alive))


@pytest.fixture
def client(cluster: Cluster) -> Iterator[penstock.Client]:
    with penstock.connect(cluster.endpoint, retry_for=60) as client:
        yield client


def test_rule_10_running_consumers_keep_their_leases_over_a_fail_over_and_settle_at_the_new_primary(
    cluster: Cluster, client: penstock.Client
) -> None:
    client.create_queue("leased")
    jobs = client.submit_many("leased", range(20))
    with client.consumer("leased", lease=30, prefetch=0) as consumer:
        held = consumer.receive_many(20, timeout=30)
        assert [message.attempt for message in held] == [1] * 20
        cluster.kill(cluster.primary())
        consumer.ack_many(held[:5]).wait()
        consumer.complete_many(held[5:10], list("abcde")).wait()
        held[10].nack().wait()
        info = client.describe("leased")
        assert (info.done, info.leased, info.ready) == (10, 9, 1)
        assert [job.result(timeout=30) for job in jobs[5:10]] == list("abcde")
        consumer.ack_many(held[11:]).wait()
        again = consumer.receive(timeout=30)
        assert again is not None
        assert (again.offset, again.attempt, again.failures) == (10, 2, 1)
        again.ack().wait()
        assert client.describe("leased").done == 20


def test_a_lease_that_nobody_renews_ends_at_the_new_primary(cluster: Cluster, client: penstock.Client) -> None:
    client.create_queue("ends")
    with client.producer("ends") as producer:
        producer.send(b"a").wait()
    with Raw(cluster.client(cluster.primary())) as raw:
        session = raw.hello()["session"]
        pulled = raw.ask("pull", queue="ends", messages=1, lease_ms=1500)
        assert [tuple(part)[:3] for part in pulled.body["ranges"]] == [(0, 1, 1)]
    cluster.kill(cluster.primary())
    with client.consumer("ends", prefetch=0) as consumer:
        message = consumer.receive(timeout=30)
        assert message is not None
        assert (message.attempt, message.failures) == (2, 1)
        # Its former holder is refused at the new primary, too.
        with Raw(cluster.client(cluster.primary())) as raw:
            raw.hello(session)
            assert raw.do("ack", lease=pulled.body["lease"], ranges=[[0, 1]]).status == "LeaseLost"
        message.ack().wait()


def test_waiting_requests_are_asked_again_at_the_new_primary(cluster: Cluster, client: penstock.Client) -> None:
    client.create_queue("parked")
    job = client.submit("parked", "j")
    with (
        penstock.connect(cluster.endpoint, retry_for=60) as other,
        other.consumer("parked", prefetch=0) as consumer,
        ThreadPoolExecutor() as threads,
    ):
        held = consumer.receive(timeout=30)
        assert held is not None
        result = threads.submit(job.result, timeout=60)
        message = threads.submit(consumer.receive, timeout=60)
        until(lambda: client.status()["parked"] == 2, "both wait")
        cluster.kill(cluster.primary())
        until(lambda: client.status()["parked"] == 2, "and wait again at the new primary")
        held.complete("done").wait()
        assert result.result() == "done"
        client.submit("parked", "k")
        found = message.result()
        assert found is not None
        assert (found.offset, found.attempt) == (1, 1)
        found.ack().wait()


def test_rule_31_what_is_asked_again_after_a_fail_over_is_answered_again_and_not_done_twice(
    cluster: Cluster, client: penstock.Client
) -> None:
    client.create_queue("once")
    payload = wire.pack_payload([b"a", b"b"])
    with Raw(cluster.client(cluster.primary())) as raw:
        session = raw.hello()["session"]
        before = [raw.do("append", payload, queue="once", count=2) for _ in range(3)]
        assert [reply.body["offset"] for reply in before] == [0, 2, 4]
        refused = raw.do("append", payload, queue="no such queue", count=2)
        # The last one is on its way when the primary is killed: it is done once, or not at all.
        raw.say_later("append", raw.sequence + 1, {"queue": "once", "count": 2}, payload)
        last = raw.sequence
        cluster.kill(cluster.primary())
    with Raw(cluster.client(cluster.primary())) as raw:
        assert raw.hello(session)["last"] in (last, last + 1)
        for sequence, reply in enumerate(before, last - len(before)):
            assert raw.say("append", sequence, {"queue": "once", "count": 2}, payload).body == reply.body
        again = raw.say("append", last, {"queue": "no such queue", "count": 2}, payload)
        assert (again.status, again.body) == (refused.status, refused.body)
        assert raw.say("append", last + 1, {"queue": "once", "count": 2}, payload).body["offset"] == 6
        assert raw.say("append", last + 1, {"queue": "once", "count": 2}, payload).body["offset"] == 6
    assert client.describe("once").next == 8


@pytest.mark.parametrize("survivor", ["the primary", "a replica"])
def test_one_of_three_acknowledges_nothing_says_no_quorum_and_still_answers_local_reads(
    cluster: Cluster, client: penstock.Client, survivor: str
) -> None:
    name = "alone-" + survivor.split()[-1]
    client.create_queue(name)
    with client.producer(name) as producer:
        producer.send_many([b"%d" % number for number in range(100)]).wait()
        cluster.alike()
        primary = cluster.whole()
        one = primary if survivor == "the primary" else cluster.replicas(primary)[0]
        victims = [node for node in NODES if node != one]
        with Raw(cluster.client(primary)) as raw:
            raw.hello()
            cluster.kill(*victims)
            receipt = producer.send(b"late")
            if one == primary:  # it takes it, keeps quiet, and finds out that it is alone
                assert raw.do("append", wire.pack_payload([b"never"]), queue=name, count=1).status == "NoQuorum"
        until(lambda: cluster.sees(one, lambda info: info.primary is None), "it knows no primary")
        with Raw(cluster.client(one)) as raw:
            reply = raw.say("hello", 0, HELLO)
            assert (reply.status, reply.body["retryable"]) == ("NoQuorum", True)
        with penstock.connect(cluster.client(one), read_only=True) as reader:
            assert reader.describe(name).ready == 100
            assert [message.body for message in reader.peek(name, limit=1000)] == [b"%d" % n for n in range(100)]
            assert reader.staleness is not None
            first = reader.staleness.lag_ms
            assert first is not None
            until(lambda: (reader.describe(name), reader.staleness.lag_ms > first)[1], "its staleness grows")
            with pytest.raises(penstock.InvalidArgument):
                reader.create_queue("never")
        with pytest.raises(penstock.NoQuorum):
            penstock.connect(cluster.endpoint, retry_for=0.5)
        assert not receipt.done()
        cluster.start(victims[0])
        offset = receipt.wait(timeout=60)
    bodies = [message.body for message in client.peek(name, limit=1000)]
    assert bodies[:100] == [b"%d" % number for number in range(100)]
    assert bodies[offset] == b"late"
    assert bodies.count(b"late") == 1


def test_a_primary_that_was_deposed_with_more_under_way_than_it_takes_still_answers(
    cluster: Cluster, client: penstock.Client
) -> None:
    client.create_queue("crowd")
    payload = wire.pack_payload([b"x"])
    old = cluster.whole()
    frozen = cluster.replicas(old)
    with Raw(cluster.client(old)) as raw, Raw(cluster.client(old)) as other:
        raw.hello()
        for node in frozen:
            cluster.freeze(node)
        for sequence in range(raw.sequence + 1, raw.sequence + 1 + CROWD):
            raw.say_later("append", sequence, {"queue": "crowd", "count": 1}, payload)
        assert raw.receive().status == "NoQuorum"
        assert other.say("hello", 0, HELLO).status == "NoQuorum"
        assert cluster.sees(old, lambda info: info.role != "primary")
        for node in frozen:
            cluster.thaw(node)
    cluster.whole()
    cluster.alike()
