"""Who has registered for which topic: a topic of its own, in which the offset of an entry is the id it gives."""

from __future__ import annotations

import penstock

from .errors import LogQueueError, Mismatch

RESERVED = "log-queue."


class Registry:
    """Ids, and the topic that each is for. They outlive the process: whoever replays the topic knows them all."""

    def __init__(self, client: penstock.Client, kind: str, missing: type[LogQueueError]) -> None:
        self._client = client
        self._kind = kind
        self._missing = missing
        self._topic = f"{RESERVED}{kind}s"
        self._known: list[str] = []  # by id
        client.create_topic(self._topic, exist_ok=True)
        self._producer = client.producer(self._topic)

    def register(self, topic: str) -> int:
        """A new id for this topic; it is durable when this returns."""
        return self._producer.send(topic.encode()).wait()

    def check(self, topic: str, id: int) -> None:
        """Raises NoSuchProducer or NoSuchConsumer, and Mismatch if the id is for another topic."""
        if id >= len(self._known):  # somebody else may have registered it
            self._known += [entry.body.decode() for entry in self._client.replay(self._topic, len(self._known))]
        if not 0 <= id < len(self._known):
            raise self._missing(f"there is no {self._kind} {id}")
        if self._known[id] != topic:
            raise Mismatch(f"{self._kind} {id} is registered for topic {self._known[id]!r}, not for {topic!r}")
