"""What the producer and the consumer of `penstock demo failover` do, and the history that each of them writes.

A history is a file of JSON lines, handed to the kernel one by one as things happen: [kind, at_s, ...].
Times are time.monotonic(), which all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final

from ..client import Consumer, Message, connect
from ..peers.errors import LeaseLost, SessionExpired, Timeout
from .processes import end_with_parent

QUEUE: Final = "failover"
PATIENCE: Final = "60s"
BATCH: Final = 10  # messages of one publish
PACE_S: Final = 0.002  # between a confirmation and the next publish
RECEIVE: Final = 200
BODY: Final = 100  # bytes


class History:
    """The file that one worker writes."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, kind: str, *numbers: object) -> None:
        """Write down that it happened now."""
        os.write(self._file, json.dumps([kind, time.monotonic(), *numbers]).encode() + b"\n")


def produce(endpoints: list[str], path: Path, stop: Event, parent: int) -> None:
    """Publish numbered messages, a few at a time, each few confirmed before the next; until `stop`.

    Notes ["sent", at, first, count], then ["confirmed", at, first, count, offset].
    """
    end_with_parent(parent)
    history = History(path)
    first = 0
    client = connect(endpoints, retry_for=PATIENCE, name="failover producer")
    with client, client.producer(QUEUE) as producer:
        while not stop.is_set():
            history.note("sent", first, BATCH)
            offset = producer.send_many([_body(first + at) for at in range(BATCH)]).wait()
            history.note("confirmed", first, BATCH, offset)
            first += BATCH
            time.sleep(PACE_S)
    history.note("end")


def consume(endpoints: list[str], path: Path, stop: Event, parent: int) -> None:
    """Receive and ack, until `stop` is set and the queue is empty.

    Notes ["delivered", at, [[number, offset, attempt], ...]], then ["asked", at, numbers], then ["acked" | "denied" |
    "unclear", at, numbers]. "denied": the ack surely had no effect; "unclear": it may have had.
    """
    end_with_parent(parent)
    history = History(path)
    client = connect(endpoints, retry_for=PATIENCE, name="failover consumer")
    with client, client.consumer(QUEUE, prefetch=RECEIVE) as consumer:
        while True:
            messages = consumer.receive_many(RECEIVE, timeout=0.2)
            if messages:
                _ack(consumer, messages, history)
            elif stop.is_set() and client.describe(QUEUE).unfinished == 0:
                break
    history.note("end")


def _ack(consumer: Consumer, messages: list[Message], history: History) -> None:
    numbers = [_number(message.body) for message in messages]
    seen = [(number, it.offset, it.attempt) for number, it in zip(numbers, messages, strict=True)]
    history.note("delivered", seen)
    history.note("asked", numbers)
    try:
        consumer.ack_many(messages).wait()
    except LeaseLost:
        # One of several that was lost fails the request, and the others may have been acked one by one.
        history.note("denied" if len(messages) == 1 else "unclear", numbers)
    except (SessionExpired, Timeout):
        history.note("unclear", numbers)
    else:
        history.note("acked", numbers)


def _body(number: int) -> bytes:
    return number.to_bytes(8, "big") + bytes(BODY - 8)


def _number(body: bytes) -> int:
    return int.from_bytes(body[:8], "big")
