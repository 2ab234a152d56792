"""The broker of penstock.testing: its clock, what waits in real time, and what a crash leaves."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from kit.daemons import Raw, until

import penstock
from penstock import Client, Message
from penstock.peers import values
from penstock.testing import Broker

LIMIT_S = 20.0
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def take(consumer: penstock.Consumer) -> Message:
    message = consumer.receive(timeout=LIMIT_S)
    assert message is not None
    return message


@pytest.fixture
def three() -> Iterator[Broker]:
    with Broker(nodes=3) as broker:
        yield broker


# -- time --------------------------------------------------------------------------------------------------------------


def test_the_clock_stands_still_until_it_is_turned() -> None:
    with Broker(start=NOON) as broker:
        assert broker.now == NOON
        broker.advance("1h30m")
        broker.advance(1.5)
        broker.advance(timedelta(seconds=1))
        assert broker.now == NOON + timedelta(minutes=90, seconds=2.5)
        broker.advance_to(NOON + timedelta(days=1))
        assert broker.now == NOON + timedelta(days=1)
        with pytest.raises(penstock.InvalidArgument, match="is past"):
            broker.advance_to(NOON)
        with pytest.raises(penstock.InvalidArgument, match="duration"):
            broker.advance("soon")
        assert broker.connect().status()["now_ms"] == broker.now.timestamp() * 1000


def test_a_delay_ends_to_the_millisecond_and_not_before(broker: Broker, client: Client) -> None:
    client.create_queue("q")
    producer, consumer = client.producer("q"), client.consumer("q", prefetch=0)
    producer.send(b"x", delay="10s")  # what was said before time passes is heard before it
    broker.advance("9.999s")
    assert client.describe("q").delayed == 1
    broker.advance(0.001)
    assert take(consumer).body == b"x"


def test_messages_whose_batches_formed_behind_others_are_heard_before_time_passes(
    broker: Broker, client: Client
) -> None:
    client.create_queue("q")
    producer = client.producer("q")
    for number in range(2000):
        producer.send(b"%d" % number, delay="1m")
    broker.advance("1m")
    assert client.describe("q").ready == 2000


def test_what_falls_due_on_the_way_happens_at_its_time(broker: Broker, client: Client) -> None:
    client.create_queue("q")
    began = broker.now.timestamp()
    client.schedules.add("hourly", "q", "by schedule", every="1h")
    client.submit("q", "late", delay="90m")
    client.submit("q", "early", delay="5m", ttl="2h")
    broker.advance("3h1m")
    with client.consumer("q", prefetch=0) as consumer:
        messages = consumer.receive_many(10, LIMIT_S)
    assert [values.unpack(message.body) for message in messages] == ["late", *["by schedule"] * 3]
    assert [message.timestamp - began for message in messages] == [0, 3600, 7200, 10_800]
    assert client.job("q/1").status() == "expired"


def test_a_year_of_nightly_schedules_makes_a_job_each_night(broker: Broker, client: Client) -> None:
    client.create_queue("q")
    client.schedules.add("nightly", "q", body=b"backup", cron="0 2 * * *")
    broker.advance("365d")
    assert client.describe("q").ready == 365


def test_the_clock_goes_to_what_falls_due_next(broker: Broker, client: Client) -> None:
    client.create_queue("q")
    assert not broker.advance_to_next()
    began = broker.now
    client.submit("q", 1, delay="42s")
    assert broker.advance_to_next()
    assert broker.now - began == timedelta(seconds=42)
    assert not broker.advance_to_next()
    assert client.describe("q").ready == 1


def test_a_lease_that_was_not_extended_has_ended(broker: Broker, client: Client) -> None:
    client.create_queue("q", max_failures=2)
    client.submit("q", 1)
    consumer = client.consumer("q", lease="30s", prefetch=0)
    first = take(consumer)
    broker.advance("20s")
    first.extend("30s").wait(LIMIT_S)
    broker.advance("20s")
    assert client.describe("q").leased == 1
    broker.advance("10s")
    with pytest.raises(penstock.LeaseLost):
        first.ack().wait(LIMIT_S)
    assert take(consumer).attempt == 2
    broker.advance("30s")
    assert client.describe("q.dead").ready == 1


def test_retention_and_results_go_when_their_time_is_over(broker: Broker, client: Client) -> None:
    client.create_topic("t", retention="1h")
    client.create_queue("q", result_ttl="1h")
    with client.producer("t") as producer:
        producer.send_many([b"old"] * 3)
    job = client.submit("q", 1)
    take(client.consumer("q")).complete("done").wait(LIMIT_S)
    assert job.status() == "done"
    broker.advance("2h")
    assert (list(client.replay("t")), client.job(job.id).status()) == ([], "expired")


def test_clients_keep_their_sessions_however_far_the_clock_jumps(broker: Broker, client: Client) -> None:
    client.create_queue("q")
    producer = client.producer("q")
    producer.send(b"1").wait()
    broker.advance("400d")
    producer.send(b"2").wait()
    assert client.status()["sessions"] == 1


def test_a_session_ends_where_that_is_what_is_tried() -> None:
    with Broker(session_timeout="1m") as broker:
        client = broker.connect()
        client.create_queue("q")
        client.submit("q", 1)
        message = take(client.consumer("q", lease="1h", prefetch=0))
        broker.advance("90s")
        assert broker.connect().describe("q").ready == 1
        with pytest.raises(penstock.PenstockError):
            message.ack().wait(LIMIT_S)


# -- real time ---------------------------------------------------------------------------------------------------------


def test_who_waits_for_nothing_waits_in_real_time(broker: Broker, client: Client) -> None:
    client.create_queue("q")
    job = client.submit("q", 1, delay="1h")
    with client.consumer("q") as consumer:
        assert consumer.receive(timeout=0.05) is None
    with client.consumer("q", prefetch=0) as consumer:
        assert consumer.receive(timeout=0.05) is None
    with pytest.raises(penstock.Timeout):
        job.result(timeout=0.05)
    with pytest.raises(penstock.Timeout):
        client.call("q", 1, timeout=0.05)


def test_the_clock_ends_no_wait_and_wakes_who_waits_for_what_falls_due(broker: Broker, client: Client) -> None:
    client.create_queue("q")
    client.submit("q", 1, delay="10d")
    with client.consumer("q", prefetch=0) as consumer, ThreadPoolExecutor(1) as pool:
        received = pool.submit(consumer.receive, LIMIT_S)
        until(lambda: client.status()["parked"] == 1, "it waits")
        broker.advance("9d")
        assert client.status()["parked"] == 1
        broker.advance("1d")
        assert received.result(LIMIT_S) is not None


def test_those_who_wait_are_served_in_their_order_after_days(broker: Broker) -> None:
    with Raw(broker.endpoints[0]) as first, Raw(broker.endpoints[0]) as second:
        for raw in (first, second):
            raw.hello()
        first.do("create", kind="queue", name="q", options={})
        client = broker.connect()
        for number, raw in enumerate((first, second), 1):
            raw.say_later("pull", -1, {"queue": "q", "messages": 1, "wait_ms": 3_600_000})
            until(lambda number=number: client.status()["parked"] == number, "it waits")
        broker.advance("3d")
        client.submit("q", 1)
        assert first.receive().body["lease"] is not None
        assert second.silent(0.05)


def test_a_wait_that_its_client_began_anew_elsewhere_is_not_ended_by_the_old_one(broker: Broker) -> None:
    with Raw(broker.endpoints[0]) as old, Raw(broker.endpoints[0]) as new:
        session = old.hello()["session"]
        old.do("create", kind="queue", name="q", options={})
        old.say_later("pull", -1, {"queue": "q", "messages": 1, "wait_ms": 100})
        client = broker.connect()
        until(lambda: client.status()["parked"] == 1, "it waits")
        new.hello(session)
        new.say_later("pull", -1, {"queue": "q", "messages": 1, "wait_ms": 20_000})
        assert new.silent(0.3)
        client.submit("q", 1)
        assert new.receive().body["lease"] is not None


def test_what_is_no_request_is_refused_as_a_daemon_does_it(broker: Broker) -> None:
    with Raw(broker.endpoints[0]) as raw:
        raw.send([b"PS1", b"wait_ms is no msgpack"])
        assert raw.receive().status == "ProtocolError"
        raw.hello()
        raw.do("create", kind="queue", name="q", options={})
        reply = raw.ask("pull", queue="q", messages=1, wait_ms="long")
        assert (reply.status, "wait_ms is 'long'" in reply.body["message"]) == ("InvalidArgument", True)


# -- crashes -----------------------------------------------------------------------------------------------------------


def test_what_was_acknowledged_survives_a_crash_and_what_was_not_is_asked_again(
    broker: Broker, client: Client, crash_primary: Callable[[], None]
) -> None:
    client.create_queue("q")
    sent = 0
    with client.producer("q") as producer:
        for _ in range(5):
            for _ in range(100):
                producer.send(b"x")
            sent += 100
            crash_primary()
    assert client.describe("q").next == sent


def test_leases_and_attempts_survive_a_crash(broker: Broker, client: Client) -> None:
    client.create_queue("q")
    client.submit("q", 1)
    message = take(client.consumer("q"))
    broker.crash()
    broker.advance("10m")  # nobody could renew meanwhile
    broker.restart()
    message.complete("done").wait(LIMIT_S)
    assert client.job("q/0").result(LIMIT_S) == "done"


def test_while_nothing_runs_clients_find_nobody(broker: Broker) -> None:
    client = broker.connect(retry_for="200ms")
    broker.crash()
    assert broker.primary is None
    with pytest.raises(penstock.Timeout):
        client.status()
    with pytest.raises(penstock.InvalidArgument, match="no node serves"):
        broker.crash()
    broker.restart()
    assert client.status()["role"] == "primary"


def test_a_client_may_ask_a_node_to_crash(broker: Broker, client: Client) -> None:
    client.crash_node()
    until(lambda: broker.primary is None, "it is gone")
    broker.restart()
    assert client.status()["role"] == "primary"


def test_of_three_nodes_another_one_serves_after_each_crash(three: Broker) -> None:
    client = three.connect()
    client.create_queue("q")
    primaries = []
    with client.producer("q") as producer:
        for number in range(6):
            producer.send(b"%d" % number).wait(LIMIT_S)
            primaries.append(three.primary)
            three.crash_primary()
    assert all(before != after for before, after in pairwise(primaries))
    with client.consumer("q") as consumer:
        assert [message.body for message in consumer.receive_many(10, LIMIT_S)] == [b"%d" % n for n in range(6)]
    lags = {member.node: member.lag for member in client.cluster().members}
    assert lags == {1: 0, 2: 0, 3: 0}


def test_without_a_majority_writes_are_refused_and_local_reads_answered(three: Broker) -> None:
    client = three.connect(retry_for="300ms")
    client.create_queue("q")
    three.crash()
    assert three.primary is not None
    three.crash()
    assert three.primary is None
    with pytest.raises(penstock.NoQuorum):
        client.create_queue("r")
    assert client.describe("q", consistency="local").name == "q"
    three.restart()
    assert client.create_queue("r").name == "r"
    three.advance("1d")
    assert three.primary is not None


def test_a_lease_lives_on_at_the_next_primary_and_time_does_not_stop(three: Broker) -> None:
    client = three.connect()
    client.create_queue("q")
    client.submit("q", 1)
    message = take(client.consumer("q", lease="30s", prefetch=0, renew=False))
    three.crash()
    three.advance("29s")
    message.extend("30s").wait(LIMIT_S)
    three.restart()
    three.advance("1h")
    assert client.describe("q").ready == 1


def test_a_replica_that_was_away_takes_in_what_it_missed_and_can_lead(three: Broker) -> None:
    client = three.connect()
    client.create_queue("q")
    three.crash(3)
    client.submit_many("q", range(500))
    three.restart()
    three.crash(1)
    three.crash(2)
    three.restart()
    assert client.describe("q").ready == 500
    with pytest.raises(penstock.InvalidArgument, match="node 9"):
        three.crash(9)


# -- the end -----------------------------------------------------------------------------------------------------------


def test_closing_ends_its_clients_and_its_thread_and_leaves_no_file() -> None:
    broker = Broker()
    client = broker.connect()
    folder = Path(broker.endpoints[0].removeprefix("ipc://")).parent
    assert folder.exists()
    before = threading.active_count()
    broker.close()
    broker.close()
    assert threading.active_count() <= before - 2
    assert not folder.exists()
    with pytest.raises(penstock.Closed):
        client.status()
    with pytest.raises(penstock.Closed):
        broker.advance(1)


def test_a_broker_that_crashed_closes_at_once() -> None:
    began = time.monotonic()
    with Broker() as broker:
        client = broker.connect()
        client.create_queue("q")
        broker.crash()
        client.producer("q").send(b"x")
    assert time.monotonic() - began < LIMIT_S


def test_there_are_clusters_of_one_three_and_five() -> None:
    with pytest.raises(penstock.InvalidArgument, match="nodes is 2"):
        Broker(nodes=2)
    with Broker(nodes=5) as broker:
        client = broker.connect()
        client.create_queue("q")
        broker.crash()
        broker.crash()
        client.submit("q", 1)
        assert client.describe("q").ready == 1


def test_a_fault_of_the_broker_is_raised_where_it_is_used_and_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, logger="penstock.testing"):
        broker = Broker()
        with pytest.raises(ZeroDivisionError):
            broker._do(fail)
        with pytest.raises(ZeroDivisionError):
            broker.advance("1s")
        with pytest.raises(ZeroDivisionError):
            broker.close()
    assert "the broker failed" in caplog.text
