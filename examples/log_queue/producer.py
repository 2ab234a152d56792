"""Sends to any of its topics."""

from __future__ import annotations

from collections.abc import Iterable

from .client import Client
from .errors import LogQueueError


class Producer:
    """Registers for `topics`, which are made if they are not there. `error`: why the last `send` was False."""

    def __init__(self, broker: str, topics: Iterable[str] = ()) -> None:
        self.topic_id_map: dict[str, int] = {}
        self.error: LogQueueError | None = None
        self._client: Client | None = Client(broker)
        for topic in topics:
            self.register(topic)

    def register(self, topic: str) -> int:
        """The id under which this producer sends to `topic`."""
        self.topic_id_map[topic] = self._connected().register_producer(topic)
        return self.topic_id_map[topic]

    def can_send(self) -> bool:
        """Would a message to any of its topics be taken now?"""
        return self._client is not None and all(map(self._client.can_send, self.topic_id_map))

    def send(self, topic: str, message: str, producer_id: int | None = None) -> bool:
        """True: the message is safe. False: it was refused, see `error`. `producer_id`: not the one registered here."""
        id = self.topic_id_map.get(topic, -1) if producer_id is None else producer_id
        try:
            self._connected().enqueue(topic, id, message)
        except LogQueueError as error:
            self.error = error
            return False
        return True

    def stop(self) -> None:
        """Disconnect. Twice does nothing."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connected(self) -> Client:
        if self._client is None:
            raise LogQueueError("the producer was stopped")
        return self._client
