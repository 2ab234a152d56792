"""Reads its topics, each message once."""

from __future__ import annotations

from collections.abc import Iterable

from .client import Client
from .errors import LogQueueError, NoSuchConsumer


class Consumer:
    """Registers for `topics`, which must be there. `topic_id_map`: the id under which it reads each of them.

    A consumer that is given the `topic_id_map` of an earlier one goes on where that one stopped.
    """

    def __init__(self, broker: str, topics: Iterable[str] = (), topic_id_map: dict[str, int] | None = None) -> None:
        self.topic_id_map = dict(topic_id_map or {})
        self._client: Client | None = Client(broker)
        self._turn = 0
        try:
            for topic in topics:
                self.register(topic)
        except LogQueueError:
            self.stop()
            raise

    def register(self, topic: str) -> int:
        """The id under which this consumer reads `topic`. Raises NoSuchTopic."""
        self.topic_id_map[topic] = self._connected().register_consumer(topic)
        return self.topic_id_map[topic]

    def dequeue(self, topic: str, consumer_id: int | None = None) -> str | None:
        """The next message of `topic`; None: there is none. Raises NoSuchTopic, NoSuchConsumer, Mismatch."""
        return self._connected().dequeue(topic, self._id(topic, consumer_id))

    def size(self, topic: str, consumer_id: int | None = None) -> int:
        """How many messages of `topic` are still to come. Raises as `dequeue`."""
        return self._connected().size(topic, self._id(topic, consumer_id))

    def get_next(self) -> str | None:
        """The next message of any of its topics, which take turns; None: all were read."""
        topics = list(self.topic_id_map)
        for _ in topics:
            topic = topics[self._turn % len(topics)]
            self._turn += 1
            message = self.dequeue(topic)
            if message is not None:
                return message
        return None

    def stop(self) -> None:
        """Disconnect. Twice does nothing."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _id(self, topic: str, consumer_id: int | None) -> int:
        return self.topic_id_map.get(topic, -1) if consumer_id is None else consumer_id

    def _connected(self) -> Client:
        if self._client is None:
            raise NoSuchConsumer("the consumer was stopped")
        return self._client
