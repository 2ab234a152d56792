"""The calls beneath producers and consumers: topics, registration, enqueue, dequeue, size."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import penstock

from .errors import LogQueueError, NoSuchConsumer, NoSuchProducer, NoSuchTopic
from .registry import RESERVED, Registry

DELIVERY_S = 30.0  # a message that is there arrives within this time


class Client:
    """A connection to the broker. `broker`: "host:port", or an endpoint of Penstock ("tcp://...", "ipc://...")."""

    def __init__(self, broker: str = "127.0.0.1:7470") -> None:
        self._client = penstock.connect(broker if "://" in broker else f"tcp://{broker}")
        self._producer_ids = Registry(self._client, "producer", NoSuchProducer)
        self._consumer_ids = Registry(self._client, "consumer", NoSuchConsumer)
        self._producers: dict[str, penstock.Producer] = {}
        self._consumers: dict[int, penstock.Consumer] = {}

    def create_topic(self, topic: str) -> bool:
        """True: it is new. False: it was there already. Raises NoSuchTopic if a queue has this name."""
        try:
            self._client.create_topic(topic)
        except penstock.AlreadyExists:
            self._check_topic(topic)
            return False
        return True

    def list_topics(self) -> list[str]:
        return [info.name for info in self._client.list_topics() if not info.name.startswith(RESERVED)]

    def register_producer(self, topic: str) -> int:
        """The id of a new producer. A topic that is not there is made. Raises as `create_topic`."""
        self.create_topic(topic)
        return self._producer_ids.register(topic)

    def register_consumer(self, topic: str) -> int:
        """The id of a new consumer, which will see all messages of the topic. Raises NoSuchTopic."""
        self._check_topic(topic)
        id = self._consumer_ids.register(topic)
        self._client.create_group(topic, _group(id))
        return id

    def enqueue(self, topic: str, producer_id: int, message: str) -> None:
        """Append a message; it is durable when this returns. Raises NoSuchTopic, NoSuchProducer, Mismatch."""
        self._check(self._producer_ids, topic, producer_id)
        producer = self._producers.get(topic)
        if producer is None:
            producer = self._producers[topic] = self._client.producer(topic)
        try:
            producer.send(message.encode()).wait()
        except penstock.NotFound as error:
            raise NoSuchTopic(f"there is no topic {topic!r} any more") from error

    def dequeue(self, topic: str, consumer_id: int) -> str | None:
        """The next message for this consumer, which is then behind it; None: it has seen all. Raises as `size`."""
        if not self.size(topic, consumer_id):
            return None
        message = self._consumer(topic, consumer_id).receive(timeout=DELIVERY_S)
        if message is None:  # another process that dequeues under this id was faster
            return None
        message.ack().wait()
        return message.body.decode()

    def size(self, topic: str, consumer_id: int) -> int:
        """How many messages this consumer has not seen. Raises NoSuchTopic, NoSuchConsumer, Mismatch."""
        self._check(self._consumer_ids, topic, consumer_id)
        try:
            return self._consumer(topic, consumer_id).size()
        except penstock.NotFound as error:
            raise NoSuchTopic(f"there is no topic {topic!r} any more") from error

    def can_send(self, topic: str) -> bool:
        """Is the topic there, so that what is sent now would be taken?"""
        try:
            self._check_topic(topic)
        except NoSuchTopic:
            return False
        return True

    def close(self) -> None:
        """Confirm what is under way and disconnect. Ids stay valid."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _consumer(self, topic: str, id: int) -> penstock.Consumer:
        consumer = self._consumers.get(id)
        if consumer is None:
            # Nothing is taken ahead: another process that goes on under this id misses nothing.
            consumer = self._consumers[id] = self._client.consumer(topic, group=_group(id), prefetch=0)
        return consumer

    def _check(self, ids: Registry, topic: str, id: int) -> None:
        try:
            ids.check(topic, id)
        except LogQueueError:
            self._check_topic(topic)  # that there is no such topic says more
            raise

    def _check_topic(self, topic: str) -> None:
        try:
            info = self._client.describe(topic)
        except (penstock.NotFound, penstock.InvalidArgument) as error:
            raise NoSuchTopic(f"there is no topic {topic!r}") from error
        if info.kind != "topic":  # the work of others: it is not to be mixed with messages of ours
            raise NoSuchTopic(f"{topic!r} is a queue of Penstock, and no topic")


def _group(consumer_id: int) -> str:
    return f"consumer-{consumer_id}"
