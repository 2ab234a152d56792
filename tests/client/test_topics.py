"""Topics through the client, against a real daemon: where groups begin, seek, replay, retention, dead letters."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count

import pytest
from kit.daemons import until

import penstock

_numbers = count()


@pytest.fixture
def topic(client: penstock.Client) -> str:
    name = f"topic-{next(_numbers)}"
    client.create_topic(name)
    return name


def publish(client: penstock.Client, topic: str, *bodies: bytes) -> None:
    with client.producer(topic) as producer:
        producer.send_many(list(bodies)).wait()


def bodies_of(messages: Iterator[penstock.Message]) -> list[bytes]:
    return [message.body for message in messages]


def take(client: penstock.Client, topic: str, group: str, number: int) -> list[bytes]:
    with client.consumer(topic, group=group) as consumer:
        messages = consumer.receive_many(number, timeout=10)
        consumer.ack_many(messages).wait()
        return [message.body for message in messages]


def published_apart(client: penstock.Client, topic: str) -> float:
    """Two messages at different times; seconds since 1970, between them."""
    publish(client, topic, b"early")
    between = client.status()["now_ms"] + 1
    until(lambda: client.status()["now_ms"] > between, "time passes")
    publish(client, topic, b"late")
    return between / 1000


def test_a_group_begins_at_an_offset_or_a_time(client: penstock.Client, topic: str) -> None:
    between = published_apart(client, topic)
    assert client.create_group(topic, "by-offset", 1).floor == 1
    assert client.create_group(topic, "by-seconds", between).floor == 1
    assert client.create_group(topic, "by-datetime", datetime.fromtimestamp(between, UTC)).floor == 1
    assert client.create_group(topic, "from-the-epoch", 0.0).floor == 0
    assert client.create_group(topic, "to-come", "latest").floor == 2


def test_a_consumer_makes_its_group_where_it_is_told(client: penstock.Client, topic: str) -> None:
    publish(client, topic, b"a", b"b", b"c")
    with client.consumer(topic, group="g", start=2) as consumer:
        message = consumer.receive(timeout=10)
        assert message is not None
        assert message.body == b"c"
        message.ack()
        assert consumer.size() == 0


@pytest.mark.parametrize("start", ["middle", -1, True, float("nan"), None, b"latest", float("inf")])
def test_a_place_that_is_none_is_named(client: penstock.Client, topic: str, start: object) -> None:
    with pytest.raises(penstock.InvalidArgument, match="start is"):
        client.create_group(topic, "g", start)  # type: ignore[arg-type]
    with pytest.raises(penstock.InvalidArgument, match="start is"):
        client.replay(topic, start)  # type: ignore[arg-type]
    assert client.list_groups(topic) == []


def test_a_place_behind_the_end_is_refused(client: penstock.Client, topic: str) -> None:
    with pytest.raises(penstock.InvalidArgument, match="offset 1"):
        client.create_group(topic, "g", 1)


def test_a_group_reads_again_after_a_seek_and_only_that_group(client: penstock.Client, topic: str) -> None:
    client.create_group(topic, "g")
    client.create_group(topic, "h")
    publish(client, topic, b"a", b"b", b"c")
    assert take(client, topic, "g", 3) == take(client, topic, "h", 3) == [b"a", b"b", b"c"]
    info = client.seek_group(topic, "g", 1)
    assert (info.floor, info.lag, info.done) == (1, 2, 3)
    assert take(client, topic, "g", 9) == [b"b", b"c"]
    assert client.describe_group(topic, "h").lag == 0


def test_what_is_in_hand_is_lost_by_a_seek(client: penstock.Client, topic: str) -> None:
    publish(client, topic, b"a", b"b")
    with client.consumer(topic, group="g", renew=False) as consumer:
        message = consumer.receive(timeout=10)
        assert message is not None
        client.seek_group(topic, "g", "latest")
        with pytest.raises(penstock.LeaseLost):
            message.ack().wait()
        assert consumer.lost == 1
    assert client.describe_group(topic, "g").lag == 0


@pytest.mark.parametrize("renew", [True, False])
def test_what_was_leased_ahead_is_not_given_once_the_lease_is_known_to_be_lost(
    client: penstock.Client, topic: str, renew: bool
) -> None:
    publish(client, topic, b"a", b"b", b"c", b"d")
    with client.consumer(topic, group="g", renew=renew) as consumer:
        message = consumer.receive(timeout=10)
        assert message is not None
        client.seek_group(topic, "g", 3)
        with pytest.raises(penstock.LeaseLost):
            message.ack().wait()
        again = consumer.receive(timeout=10)
        assert again is not None
        assert again.body == b"d", "the others had been leased ahead, and were lost with the first one"
        again.ack().wait()


def test_a_replay_reads_past_all_groups(client: penstock.Client, topic: str) -> None:
    client.create_group(topic, "g")
    publish(client, topic, *[b"%d" % at for at in range(12_000)])
    messages = list(client.replay(topic, 100))
    assert [message.offset for message in messages] == list(range(100, 12_000))
    assert messages[0].body == b"100"
    assert messages[-1].body == b"11999"
    assert bodies_of(client.replay(topic, 5, 8)) == [b"5", b"6", b"7"]
    assert bodies_of(client.replay(topic, "latest")) == []
    assert client.describe_group(topic, "g").ready == 12_000
    with pytest.raises(penstock.Closed):
        messages[0].ack()


def test_a_replay_begins_and_stops_at_times(client: penstock.Client, topic: str) -> None:
    between = published_apart(client, topic)
    assert bodies_of(client.replay(topic, between)) == [b"late"]
    assert bodies_of(client.replay(topic, stop=datetime.fromtimestamp(between, UTC))) == [b"early"]


def test_a_replay_from_a_time_stops_at_an_offset(client: penstock.Client, topic: str) -> None:
    publish(client, topic, b"a", b"b", b"c")
    assert bodies_of(client.replay(topic, 0.0, 2)) == [b"a", b"b"]


def test_a_replay_waits_for_what_comes(client: penstock.Client, topic: str) -> None:
    found: list[bytes] = []
    reads = threading.Thread(
        target=lambda: found.extend(m.body for m in client.replay(topic, "latest", 2, wait=None)), daemon=True
    )
    reads.start()
    until(lambda: client.status()["parked"] > 0, "the replay waits")
    publish(client, topic, b"a")
    publish(client, topic, b"b")
    reads.join(20)
    assert found == [b"a", b"b"]
    assert bodies_of(client.replay(topic, wait="10ms")) == [b"a", b"b"]


def test_a_local_replay_tells_how_old_its_copy_is_and_does_not_wait(client: penstock.Client, topic: str) -> None:
    publish(client, topic, b"a")
    assert bodies_of(client.replay(topic, consistency="local")) == [b"a"]
    assert client.staleness is not None
    with pytest.raises(penstock.InvalidArgument, match="does not wait"):
        client.replay(topic, wait="1s", consistency="local")


def test_a_queue_has_nothing_to_replay(client: penstock.Client, queue: str) -> None:
    with pytest.raises(penstock.InvalidArgument, match="is a queue"):
        next(client.replay(queue))


def test_only_so_much_of_a_topic_is_kept(client: penstock.Client) -> None:
    few, small = f"few-{time.time_ns()}", f"small-{time.time_ns()}"
    client.create_topic(few, retention_messages=3)
    client.create_topic(small, retention_bytes=1000)
    client.create_group(few, "g")
    for at in range(10):
        publish(client, few, b"%d" % at)
        publish(client, small, b"x" * 400)
    until(lambda: client.describe(few).first == 7, "only three are kept")
    assert bodies_of(client.replay(few)) == [b"7", b"8", b"9"]
    assert client.describe_group(few, "g").lag == 3
    until(lambda: client.describe(small).first == 8, "two fit in 1000 bytes")
    assert client.describe(small).bytes <= 1000


def test_a_message_that_dies_in_one_group_says_in_which(client: penstock.Client) -> None:
    name = f"deadly-{time.time_ns()}"
    client.create_topic(name)
    client.create_group(name, "strict")
    client.create_group(name, "lenient")
    publish(client, name, b"x")
    with client.consumer(name, group="strict") as consumer:
        message = consumer.receive(timeout=10)
        assert message is not None
        message.reject("no good").wait()
    (letter,) = client.peek(f"{name}.dead")
    assert letter.all_headers["penstock-group"] == "strict"
    assert letter.all_headers["penstock-offset"] == 0
    assert take(client, name, "lenient", 1) == [b"x"]


def test_a_group_gets_its_dead_letters_again_and_no_other_group_does(client: penstock.Client) -> None:
    name = f"again-{time.time_ns()}"
    client.create_topic(name)
    for group in ("strict", "lenient"):
        client.create_group(name, group)
    publish(client, name, b"x", b"y", b"z")
    with client.consumer(name, group="strict") as consumer:
        consumer.reject_many(consumer.receive_many(3, timeout=10), "no good").wait()
    assert take(client, name, "lenient", 3) == [b"x", b"y", b"z"]
    assert client.retry_group(name, "strict", limit=1) == 1
    assert client.retry_group(name, "strict") == 2
    assert client.retry_group(name, "strict") == 0
    with client.consumer(name, group="strict") as consumer:
        messages = consumer.receive_many(3, timeout=10)
        assert [(message.body, message.offset, message.attempt, message.failures) for message in messages] == [
            (b"x", 0, 2, 0), (b"y", 1, 2, 0), (b"z", 2, 2, 0),
        ]  # fmt: skip
        consumer.ack_many(messages).wait()
    assert [group.lag for group in client.list_groups(name)] == [0, 0]
    assert client.describe(f"{name}.dead").unfinished == 0


def test_a_group_tells_its_lag_and_the_age_of_what_it_has_not_done(client: penstock.Client, topic: str) -> None:
    client.create_group(topic, "g")
    publish(client, topic, b"a", b"b", b"c")
    with client.consumer(topic, group="g") as consumer:
        message = consumer.receive(timeout=10)
        assert message is not None
        message.ack().wait()
        (info,) = client.list_groups(topic)
        assert info.lag == 2
        assert info.oldest_ms is not None
    described = client.describe(topic)
    assert isinstance(described, penstock.TopicInfo)
    assert described.lag == 2


def test_more_queues_than_one_answer_holds_are_listed(client: penstock.Client) -> None:
    many = [f"page-{at:04}" for at in range(1_100)]
    for name in many:
        client.create_queue(name)
    listed = [info.name for info in client.list_queues() if info.name.startswith("page-")]
    assert listed == many
    for name in many:
        client.delete(name)
