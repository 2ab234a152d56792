"""The conformance cases of the SDK, against a real daemon."""

from collections.abc import Iterator
from itertools import count

import pytest

import penstock
from log_queue import Client, Consumer, Mismatch, NoSuchConsumer, NoSuchProducer, NoSuchTopic, Producer
from penstock.cli.private import PrivateDaemon

_numbers = count()


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with PrivateDaemon() as daemon:
        yield daemon.endpoint.removeprefix("tcp://")


@pytest.fixture
def client(broker: str) -> Iterator[Client]:
    with Client(broker) as client:
        yield client


@pytest.fixture
def missing() -> str:
    return f"topic-{next(_numbers)}"


@pytest.fixture
def topic(client: Client, missing: str) -> str:
    assert client.create_topic(missing)
    return missing


@pytest.fixture
def other(client: Client) -> str:
    name = f"other-{next(_numbers)}"
    client.create_topic(name)
    return name


# -- topics ------------------------------------------------------------------------------------------------------------


def test_create_topic_new(client: Client, missing: str) -> None:
    assert client.create_topic(missing) is True
    assert missing in client.list_topics()


def test_create_topic_existing(client: Client, topic: str) -> None:
    assert client.create_topic(topic) is False
    assert client.list_topics().count(topic) == 1


def test_a_queue_of_the_same_name_is_no_topic(client: Client, broker: str, missing: str) -> None:
    with penstock.connect(f"tcp://{broker}") as other:
        other.create_queue(missing)
        for use in (client.create_topic, client.register_producer, client.register_consumer):
            with pytest.raises(NoSuchTopic, match="is a queue"):
                use(missing)
        assert other.describe(missing).unfinished == 0


def test_the_list_shows_what_was_created_and_nothing_of_ours(client: Client, topic: str, other: str) -> None:
    assert {topic, other} <= set(client.list_topics())
    assert not [name for name in client.list_topics() if name.startswith("log-queue.")]


# -- registration ------------------------------------------------------------------------------------------------------


def test_register_consumer_existing_topic(client: Client, topic: str) -> None:
    first, second = client.register_consumer(topic), client.register_consumer(topic)
    assert first != second


def test_register_consumer_missing_topic(client: Client, missing: str) -> None:
    with pytest.raises(NoSuchTopic, match=missing):
        client.register_consumer(missing)
    assert missing not in client.list_topics()


def test_register_producer_existing_topic(client: Client, topic: str) -> None:
    first, second = client.register_producer(topic), client.register_producer(topic)
    assert first != second


def test_register_producer_missing_topic(client: Client, missing: str) -> None:
    client.register_producer(missing)
    assert missing in client.list_topics()


# -- enqueue -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def producer(broker: str, topic: str, other: str) -> Iterator[Producer]:
    producer = Producer(broker, [topic, other])
    yield producer
    producer.stop()


def test_enqueue(producer: Producer, client: Client, topic: str) -> None:
    reader = client.register_consumer(topic)
    assert producer.can_send()
    assert producer.send(topic, "hello") is True
    assert client.size(topic, reader) == 1


def test_enqueue_no_topic(producer: Producer, client: Client) -> None:
    assert producer.send("nowhere", "hello") is False
    assert isinstance(producer.error, NoSuchTopic)
    assert "nowhere" not in client.list_topics()


def test_enqueue_no_producer(producer: Producer, client: Client, topic: str) -> None:
    reader = client.register_consumer(topic)
    assert producer.send(topic, "hello", producer_id=999_999) is False
    assert isinstance(producer.error, NoSuchProducer)
    assert client.size(topic, reader) == 0


def test_enqueue_mismatch(producer: Producer, client: Client, topic: str, other: str) -> None:
    reader = client.register_consumer(topic)
    assert producer.send(topic, "hello", producer_id=producer.topic_id_map[other]) is False
    assert isinstance(producer.error, Mismatch)
    assert client.size(topic, reader) == 0


def test_a_producer_that_was_stopped_sends_nothing(producer: Producer, topic: str) -> None:
    producer.stop()
    producer.stop()
    assert producer.can_send() is False
    assert producer.send(topic, "hello") is False


# -- dequeue -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def consumer(broker: str, topic: str, other: str) -> Iterator[Consumer]:
    consumer = Consumer(broker, [topic, other])
    yield consumer
    consumer.stop()


def test_dequeue(producer: Producer, consumer: Consumer, topic: str) -> None:
    for word in ("one", "two"):
        producer.send(topic, word)
    assert consumer.size(topic) == 2
    assert [consumer.dequeue(topic) for _ in range(3)] == ["one", "two", None]
    assert consumer.size(topic) == 0


def test_dequeue_no_topic(consumer: Consumer) -> None:
    with pytest.raises(NoSuchTopic, match="nowhere"):
        consumer.dequeue("nowhere")


def test_dequeue_no_consumer(consumer: Consumer, producer: Producer, topic: str) -> None:
    producer.send(topic, "hello")
    with pytest.raises(NoSuchConsumer, match="999999"):
        consumer.dequeue(topic, consumer_id=999_999)
    assert consumer.size(topic) == 1


def test_dequeue_mismatch(consumer: Consumer, producer: Producer, topic: str, other: str) -> None:
    producer.send(topic, "hello")
    with pytest.raises(Mismatch, match=other):
        consumer.dequeue(topic, consumer_id=consumer.topic_id_map[other])
    with pytest.raises(Mismatch):
        consumer.size(topic, consumer_id=consumer.topic_id_map[other])
    assert consumer.size(topic) == 1


def test_a_consumer_of_a_missing_topic_is_none(broker: str, missing: str) -> None:
    with pytest.raises(NoSuchTopic):
        Consumer(broker, [missing])


def test_every_consumer_sees_every_message(producer: Producer, broker: str, topic: str) -> None:
    producer.send(topic, "before")
    consumers = [Consumer(broker, [topic]) for _ in range(2)]
    producer.send(topic, "after")
    assert [[each.dequeue(topic), each.dequeue(topic)] for each in consumers] == [["before", "after"]] * 2
    for each in consumers:
        each.stop()


def test_get_next_takes_turns_over_all_topics(producer: Producer, consumer: Consumer, topic: str, other: str) -> None:
    for number in range(2):
        producer.send(topic, f"{topic} {number}")
        producer.send(other, f"{other} {number}")
    found = [consumer.get_next() for _ in range(5)]
    assert found == [f"{topic} 0", f"{other} 0", f"{topic} 1", f"{other} 1", None]


def test_another_process_goes_on_under_the_same_id(
    producer: Producer, consumer: Consumer, broker: str, topic: str
) -> None:
    producer.send(topic, "one")
    producer.send(topic, "two")
    assert consumer.dequeue(topic) == "one"
    consumer.stop()
    successor = Consumer(broker, topic_id_map=consumer.topic_id_map)
    assert successor.dequeue(topic) == "two"
    successor.stop()
