"""When jobs run, how often, after which others, and how many at once: through the client, against a real daemon or,
where time has to pass, one whose clock is turned."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest

import penstock
from penstock.peers import values
from penstock.testing import Broker

LIMIT_S = 20.0


def bodies(consumer: penstock.Consumer, count: int, timeout: float = LIMIT_S) -> list[bytes]:
    """The next `count` messages, acked one after the other as they come."""
    found: list[bytes] = []
    while len(found) < count and (message := consumer.receive(timeout)) is not None:
        found.append(message.body)
        message.ack()
    consumer.flush()
    return found


def nothing(consumer: penstock.Consumer) -> bool:
    return consumer.receive(timeout=0.05) is None


# -- priority and time -------------------------------------------------------------------------------------------------


def test_what_is_more_urgent_is_given_first_and_in_order_within_one_priority(
    client: penstock.Client, queue: str
) -> None:
    with client.producer(queue) as producer:
        for number, priority in enumerate([0, 5, 9, 5, 0]):
            producer.send(b"%d" % number, priority=priority)
    with client.consumer(queue, prefetch=0) as consumer:
        assert bodies(consumer, 5) == [b"2", b"1", b"3", b"0", b"4"]


def test_a_delayed_message_comes_when_its_time_has_come(broker: Broker, timed: penstock.Client) -> None:
    with timed.producer("q") as producer:
        producer.send(b"later", delay="10m")
        producer.send(b"much later", due=broker.now + timedelta(hours=1))
        producer.send(b"now", due=broker.now - timedelta(hours=1))
    assert timed.describe("q").delayed == 2
    assert [job.status() for job in timed.job_array("q/0-1")] == ["delayed", "delayed"]
    with timed.consumer("q", prefetch=0) as consumer:
        assert bodies(consumer, 1) == [b"now"]
        broker.advance("9m 59.999s")
        assert nothing(consumer)
        broker.advance("1ms")
        assert bodies(consumer, 1) == [b"later"]
        broker.advance("50m")
        assert bodies(consumer, 1) == [b"much later"]


def test_what_was_given_up_without_a_word_is_begun_by_nobody(broker: Broker, timed: penstock.Client) -> None:
    ended: list[BaseException] = []

    def call() -> None:
        try:
            timed.call("q", 1, timeout="5m")
        except penstock.PenstockError as fault:
            ended.append(fault)

    caller = threading.Thread(target=call)
    caller.start()
    end_s = time.monotonic() + LIMIT_S
    while not timed.describe("q").ready:
        assert time.monotonic() < end_s
    broker.advance("5m")
    with timed.consumer("q", prefetch=0) as consumer:
        assert nothing(consumer)
    caller.join(LIMIT_S)
    (fault,) = ended
    assert type(fault) is penstock.Timeout
    assert fault.message == "job q/0 is expired and did not end within 300 s"


def test_every_duration_may_be_a_timedelta(broker: Broker) -> None:
    minute, moment = timedelta(minutes=1), timedelta(milliseconds=50)
    client = broker.connect(retry_for=minute)
    client.create_queue("q", retry_delay=minute, result_ttl=timedelta(days=1))
    client.create_topic("t", retention=timedelta(days=7))
    client.schedules.add("s", "q", 1, every=timedelta(days=30))
    assert client.schedules.get("s").every_ms == timedelta(days=30) / timedelta(milliseconds=1)
    client.submit_many("q", [1, 2], delays=[timedelta(0), minute], ttl=timedelta(hours=1), time_limit=minute)
    with client.producer("q", linger=moment) as producer, client.consumer("q", lease=minute, prefetch=0) as consumer:
        producer.send(b"third", delay=timedelta(minutes=2)).wait(minute)
        message = consumer.receive(minute)
        assert message is not None
        message.extend(timedelta(minutes=10)).wait(minute)
        message.nack(delay=timedelta(minutes=3)).wait(minute)
        assert consumer.receive(moment) is None
        broker.advance(minute)
        assert consumer.receive(moment) is not None
        with pytest.raises(penstock.Timeout):
            client.call("q", 1, timeout=moment)
        with pytest.raises(penstock.InvalidArgument, match=r"delay is .*timedelta.*, which is no duration"):
            producer.send(b"earlier", delay=-minute)


def test_each_job_of_an_array_has_its_own_delay(broker: Broker, timed: penstock.Client) -> None:
    jobs = timed.submit_many("q", [0, 1, 2], delays=["1h", 0, "1m"])
    assert jobs.statuses() == {"delayed": 2, "queued": 1}
    broker.advance("1m")
    assert jobs.statuses() == {"delayed": 1, "queued": 2}
    broker.advance("59m")
    with timed.consumer("q", prefetch=0) as consumer:
        assert bodies(consumer, 3) == [values.pack(1), values.pack(2), values.pack(0)]


def test_a_message_expires_when_its_time_to_live_is_over(broker: Broker, timed: penstock.Client) -> None:
    job = timed.submit("q", 1, ttl="30m", delay="1h")
    broker.advance("29m 59s")
    assert job.status() == "delayed"
    broker.advance("1s")
    assert job.wait(timeout=LIMIT_S) == "expired"
    with pytest.raises(penstock.JobCancelled, match="expired"):
        job.result()


# -- ids ---------------------------------------------------------------------------------------------------------------


def test_an_id_is_taken_once(client: penstock.Client, queue: str) -> None:
    first = client.submit(queue, 1, id="nightly")
    with pytest.raises(penstock.AlreadyExists) as refusal:
        client.submit(queue, 2, id="nightly")
    assert refusal.value.job == first.id
    assert client.submit(queue, 2, id="nightly", if_exists="return").id == first.id
    assert client.describe(queue).next == 1


def test_an_id_is_free_again_when_its_time_is_over_and_its_job_has_ended(
    broker: Broker, timed: penstock.Client
) -> None:
    timed.configure("q", unique="1h")
    early = timed.submit("q", 1, id="early")
    late = timed.submit("q", 1, id="late")
    early.cancel()
    broker.advance("59m")
    for id in ("early", "late"):
        with pytest.raises(penstock.AlreadyExists):
            timed.submit("q", 2, id=id)
    broker.advance("2m")
    assert timed.submit("q", 3, id="early").offset == 2
    with pytest.raises(penstock.AlreadyExists):
        timed.submit("q", 3, id="late")
    late.cancel()
    assert timed.submit("q", 3, id="late").offset == 3


def test_one_taken_id_refuses_its_batch_and_no_other_message(client: penstock.Client, queue: str) -> None:
    client.submit(queue, 0, id="b")
    with pytest.raises(penstock.AlreadyExists):
        client.submit_many(queue, [1, 2, 3], ids=["a", "b", "c"])
    assert client.describe(queue).next == 1
    with client.producer(queue) as producer:
        before = producer.send(b"before")
        taken = producer.send(b"taken", id="b")
        after = producer.send(b"after")
        with pytest.raises(penstock.AlreadyExists):
            taken.wait()
        assert (before.wait(), after.wait()) == (1, 2)


def test_of_an_array_that_was_submitted_before_the_same_jobs_come_back(client: penstock.Client, queue: str) -> None:
    client.submit_many(queue, [1, 2], ids=["x1", "x2"])
    again = client.submit_many(queue, [1, 2, 3], ids=["x1", "x2", "x3"], if_exists="return")
    assert again.id == f"{queue}/0-2"


# -- one after the other -----------------------------------------------------------------------------------------------


def test_a_job_waits_for_its_parents_and_is_told_which(client: penstock.Client, queue: str) -> None:
    jobs = client.submit_many(queue, [1, 2, 3], gather=(queue, "sum"))
    gather = jobs.gather
    assert gather is not None
    assert gather.status() == "waiting"
    with client.consumer(queue, prefetch=0) as consumer:
        for message in consumer.receive_many(10, LIMIT_S):
            message.complete(10 * values.unpack(message.body))
        last = consumer.receive(LIMIT_S)
        assert last is not None
        assert last.id == gather.id
        assert last.all_headers["penstock-after"] == [[queue, 0, 3]]
        last.complete(sum(client.job_array(f"{queue}/0-2").results(LIMIT_S)))
    assert gather.result(LIMIT_S) == 60


def test_a_parent_that_fails_cancels_or_releases_as_it_was_said(client: penstock.Client, queue: str) -> None:
    parent = client.submit(queue, 0)
    cancelled = client.submit(queue, 1, after=parent)
    released = client.submit(queue, 2, after=[parent.id], on_failure="release")
    parent.cancel()
    assert cancelled.wait(LIMIT_S) == "cancelled"
    with pytest.raises(penstock.JobCancelled):
        cancelled.result()
    with client.consumer(queue, prefetch=0) as consumer:
        message = consumer.receive(LIMIT_S)
        assert message is not None
        assert message.id == released.id


def test_a_parent_that_never_was_is_refused(client: penstock.Client, queue: str) -> None:
    with pytest.raises(penstock.NotFound):
        client.submit(queue, 1, after=f"{queue}/77")
    with pytest.raises(penstock.NotFound):
        client.submit(queue, 1, after="no-such-queue/0")


# -- tries -------------------------------------------------------------------------------------------------------------


def test_a_job_has_a_retry_policy_of_its_own(broker: Broker, timed: penstock.Client) -> None:
    job = timed.submit("q", 1, max_failures=4, retry_delay="10s", retry_backoff="exponential", retry_jitter=0)
    with timed.consumer("q", prefetch=0) as consumer:
        for failures, pause_s in enumerate((10, 20, 40)):
            message = consumer.receive(LIMIT_S)
            assert message is not None
            assert (message.attempt, message.failures) == (failures + 1, failures)
            message.nack().wait()
            broker.advance(pause_s - 1)
            assert (job.status(), nothing(consumer)) == ("failed", True)
            broker.advance(1)
        message = consumer.receive(LIMIT_S)
        assert message is not None
        message.nack().wait()
    assert job.wait(LIMIT_S) == "dead"


def test_the_pauses_of_a_queue_grow(client: penstock.Client) -> None:
    info = client.create_queue(
        "growing", retry_delay="100ms", retry_backoff="exponential", retry_delay_max="1h", retry_jitter=10
    )
    assert isinstance(info, penstock.QueueInfo)
    found = (info.retry_delay_ms, info.retry_backoff, info.retry_delay_max_ms, info.retry_jitter)
    assert found == (100, "exponential", 3_600_000, 10)


# -- order and limits --------------------------------------------------------------------------------------------------


def test_of_one_key_one_message_is_in_hand_at_a_time(client: penstock.Client) -> None:
    client.create_queue("by-key", ordered_by="key")
    with client.producer("by-key") as producer:
        for body, key in ((b"a1", "a"), (b"a2", "a"), (b"b1", "b"), (b"free", None)):
            producer.send(body, key=key)
    with client.consumer("by-key", prefetch=0) as consumer:
        first = consumer.receive_many(10, LIMIT_S)
        assert sorted(message.body for message in first) == [b"a1", b"b1", b"free"]
        assert nothing(consumer)
        consumer.ack_many(first)
        assert bodies(consumer, 1) == [b"a2"]


def test_a_retry_blocks_its_key_only(client: penstock.Client) -> None:
    client.create_queue("blocked-key", ordered_by="key")
    with client.producer("blocked-key") as producer:
        producer.send_many([b"a1", b"a2"], key="a")
        producer.send_many([b"b1", b"b2"], key="b")
    with client.consumer("blocked-key", prefetch=0) as consumer:
        for message in consumer.receive_many(10, LIMIT_S):
            if message.body == b"a1":
                message.nack(delay="1h")
            else:
                message.ack()
        assert bodies(consumer, 1) == [b"b2"]
        assert nothing(consumer)


def test_no_more_are_given_than_the_limit_of_the_queue(client: penstock.Client, queue: str) -> None:
    client.configure(queue, max_leased=2)
    with client.producer(queue) as producer:
        producer.send_many([b"%d" % number for number in range(5)])
    with client.consumer(queue, prefetch=0) as consumer:
        first = consumer.receive_many(10, LIMIT_S)
        assert len(first) == 2
        assert nothing(consumer)
        first[0].ack().wait()
        assert len(consumer.receive_many(10, LIMIT_S)) == 1


def test_no_more_are_given_than_the_rate_allows(broker: Broker, timed: penstock.Client) -> None:
    timed.configure("q", rate="1/h")
    with timed.producer("q") as producer:
        producer.send_many([b"x"] * 10)
    with timed.consumer("q", prefetch=0) as consumer:
        for _ in range(3):
            assert bodies(consumer, 1) == [b"x"]
            assert nothing(consumer)
            broker.advance("1h")
        timed.configure("q", rate=None)
        assert len(bodies(consumer, 7)) == 7


def test_a_body_that_is_too_large_for_its_queue_is_refused(client: penstock.Client, queue: str) -> None:
    client.configure(queue, max_message="1KiB")
    with client.producer(queue) as producer:
        with pytest.raises(penstock.TooLarge, match="max_message"):
            producer.send(bytes(1025)).wait(LIMIT_S)
        assert producer.send(bytes(1024)).wait(LIMIT_S) == 0


def test_the_oldest_go_where_that_was_said(client: penstock.Client, queue: str) -> None:
    client.configure(queue, max_messages=3, overflow="drop_oldest")
    with client.producer(queue) as producer:
        for number in range(5):
            producer.send(b"%d" % number).wait(LIMIT_S)
    with client.consumer(queue, prefetch=0) as consumer:
        assert bodies(consumer, 3) == [b"2", b"3", b"4"]


def test_the_oldest_go_however_a_producer_cuts_what_is_sent(client: penstock.Client, queue: str) -> None:
    client.configure(queue, max_messages=3, overflow="drop_oldest")
    with client.producer(queue, linger="1s") as producer:
        for number in range(50):
            producer.send(b"%d" % number)
    with client.consumer(queue, prefetch=0) as consumer:
        assert bodies(consumer, 3) == [b"47", b"48", b"49"]


def test_the_options_of_a_queue_come_back(client: penstock.Client) -> None:
    options: dict[str, Any] = {
        "max_messages": 5, "max_bytes": 2**20, "overflow": "drop_oldest", "max_message": 100, "max_leased": 7,
        "ordered_by": "key", "retry_jitter": 3, "result_queue": "results",
    }  # fmt: skip
    client.create_queue("results")
    client.create_queue("all-options", rate="10/m", unique="1h", result_ttl="2h", **options)
    info = client.describe("all-options")
    assert isinstance(info, penstock.QueueInfo)
    assert {name: getattr(info, name) for name in options} == options
    assert (info.rate, info.unique_ms, info.result_ttl_ms) == ((10, 60_000), 3_600_000, 7_200_000)
    changed = client.configure("all-options", rate=None, overflow="reject")
    assert isinstance(changed, penstock.QueueInfo)
    assert (changed.rate, changed.overflow, changed.max_leased) == (None, "reject", 7)


@pytest.mark.parametrize("options", [{"priority": 1}, {"delay": 1}, {"ttl": 1}, {"id": "a"}])
def test_topics_have_no_such_properties(client: penstock.Client, options: Any) -> None:
    client.create_topic("plain-topic", exist_ok=True)
    with client.producer("plain-topic") as producer, pytest.raises(penstock.InvalidArgument, match="topic"):
        producer.send(b"x", **options).wait(LIMIT_S)


def test_draining_waits_for_jobs_that_wait_for_their_parents(client: penstock.Client, queue: str) -> None:
    parent = client.submit(queue, 1)
    client.submit(queue, 2, after=[parent])
    info = client.describe(queue)
    assert (info.ready, info.waiting, info.unfinished) == (1, 1, 2)
    with pytest.raises(penstock.Timeout, match="2 jobs"):
        client.drain(queue, timeout=0.05)
    with client.consumer(queue) as consumer:
        assert consumer.size() == 2
        for result in (10, 20):
            message = consumer.receive(timeout=10)
            assert message is not None
            message.complete(result).wait()
    assert [outcome.value for outcome in client.drain(queue, timeout=10)] == [10, 20]
