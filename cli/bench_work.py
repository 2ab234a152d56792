"""What the worker processes of the benchmark do. Times are time.monotonic(): comparable within one machine."""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from ..client import connect
from .crew import Ready

STAMP: Final = struct.Struct("<d")
PREFETCH: Final = 20_000  # messages a consumer has asked for; what it may hold
RECEIVE: Final = 5_000  # messages of one receive_many
WARM_UP: Final = 20  # messages of a sender before the clock runs
QUIET_S: Final = 20.0  # nothing for so long: something was lost


@dataclass(slots=True)
class Measured:
    """What one worker did: how much, from when to when, and how long each took."""

    count: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    took_s: list[float] = field(default_factory=list)
    extra: dict[str, float] = field(default_factory=dict)


def publish(ready: Ready, endpoints: list[str], queue: str, size: int, messages: int) -> Measured:
    """send() in a loop; the client makes the batches. Ends when all are acknowledged."""
    body = os.urandom(size)
    with connect(endpoints) as client, client.producer(queue) as producer:
        ready()
        first_s = monotonic()
        for _ in range(messages):
            producer.send(body)
        producer.flush(timeout=QUIET_S)
        return Measured(messages, first_s, monotonic())


def publish_batches(ready: Ready, endpoints: list[str], queue: str, size: int, messages: int, batch: int) -> Measured:
    """send_many() of `batch` in a loop. Ends when all are acknowledged."""
    bodies = [os.urandom(size) for _ in range(batch)]
    with connect(endpoints) as client, client.producer(queue) as producer:
        ready()
        first_s = monotonic()
        for _ in range(messages // batch):
            producer.send_many(bodies)
        producer.flush(timeout=QUIET_S)
        return Measured(messages // batch * batch, first_s, monotonic())


def consume(ready: Ready, endpoints: list[str], queue: str, messages: int) -> Measured:
    """receive_many() and ack_many() until `messages` came. Ends when the last is acknowledged."""
    spans: list[tuple[int, int, int]] = []
    count = 0
    with connect(endpoints) as client:
        ready()
        first_s = monotonic()
        with client.consumer(queue, prefetch=PREFETCH) as consumer:
            while count < messages:
                taken = consumer.receive_many(RECEIVE, timeout=QUIET_S)
                if not taken:
                    break
                consumer.ack_many(taken)
                count += len(taken)
                spans.append((taken[0].offset, taken[-1].offset, len(taken)))
        last_s = monotonic()
    following = 0
    for first, last, length in spans:
        if first != following or last - first + 1 != length:
            raise ValueError(f"after message {following - 1} came {length} messages from {first} to {last}")
        following = last + 1
    return Measured(count, first_s, last_s)


def send_each(ready: Ready, endpoints: list[str], queue: str, size: int, seconds: float) -> Measured:
    """One message at a time, each waiting for its receipt."""
    body = os.urandom(size)
    took_s: list[float] = []
    with connect(endpoints) as client, client.producer(queue) as producer:
        for _ in range(WARM_UP):
            producer.send(body).wait(timeout=QUIET_S)
        ready()
        first_s = before = monotonic()
        while before < first_s + seconds:
            producer.send(body).wait(timeout=QUIET_S)
            after = monotonic()
            took_s.append(after - before)
            before = after
    return Measured(len(took_s), first_s, before, took_s)


def send_paced(ready: Ready, endpoints: list[str], queue: str, size: int, messages: int, pause_s: float) -> Measured:
    """Messages stamped with their time, one every `pause_s`."""
    pad = bytes(max(0, size - STAMP.size))
    with connect(endpoints) as client, client.producer(queue) as producer:
        ready()
        first_s = monotonic()
        for number in range(messages):
            time.sleep(max(0.0, first_s + number * pause_s - monotonic()))
            producer.send(STAMP.pack(monotonic()) + pad)
        producer.flush(timeout=QUIET_S)
        return Measured(messages, first_s, monotonic())


def receive_stamped(ready: Ready, endpoints: list[str], queue: str, messages: int) -> Measured:
    """How long each stamped message took from send to receipt."""
    took_s: list[float] = []
    with connect(endpoints) as client, client.consumer(queue, prefetch=100) as consumer:
        ready()
        first_s = monotonic()
        while len(took_s) < messages:
            message = consumer.receive(timeout=QUIET_S)
            if message is None:
                break
            took_s.append(monotonic() - STAMP.unpack_from(message.body)[0])
            message.ack()
    return Measured(len(took_s), first_s, monotonic(), took_s)


def receive_first(endpoints: list[str], queue: str) -> float:
    """When the first message came; it is given back."""
    with connect(endpoints) as client, client.consumer(queue, prefetch=1) as consumer:
        if consumer.receive(timeout=QUIET_S) is None:
            raise ValueError("nothing came")
        return monotonic()
