"""One client of a fault test in a process of its own: `python -m faults.worker SETUP`, until SIGTERM.

It does seeded, ordinary things through the real client, writes down what it does and sees, and has to survive whatever
becomes of the daemon by itself: an error that is not foreseen here ends it with a traceback, and so fails the test.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import penstock
from faults.history import Recorder
from penstock import Client, Consumer, LeaseLost, StorageFull
from penstock.peers import values

WORK, JOBS, LOG = "work", "jobs", "log"  # a queue, a queue of jobs, a topic
POLL_S = 0.3
LATE_MS = 10_000  # a delivery may have been on its way, or waited here, for so long before it was received
REFUSED = (StorageFull, penstock.QueueFull)


@dataclass
class Setup:
    """What a worker is told: its role, its name (the actor of its history), where the daemon is."""

    role: str
    name: str
    endpoint: str | list[str]
    folder: str
    seed: int
    lease_s: float = 30.0
    retry_for_s: float = 60.0
    body_bytes: int = 200

    def text(self) -> str:
        return json.dumps(asdict(self))


class Worker:
    """Its connection, its history and its dice."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.random = Random(f"{setup.seed} {setup.name}")
        self.stopping = False
        self._made = 0
        signal.signal(signal.SIGTERM, self._on_stop)
        # Last: once its file is there, a worker can be told to stop.
        self.recorder = Recorder(Path(setup.folder), setup.name)

    def _on_stop(self, number: int, frame: object) -> None:
        self.stopping = True

    def connect(self) -> Client:
        return penstock.connect(self.setup.endpoint, retry_for=self.setup.retry_for_s, name=self.setup.name)

    def fresh_ids(self, count: int) -> list[str]:
        first = self._made
        self._made += count
        return [f"{self.setup.name}-{number}" for number in range(first, self._made)]

    def body(self, id: str) -> bytes:
        return id.encode() + b" " + b"." * self.random.randrange(self.setup.body_bytes)


def id_of(body: bytes) -> str:
    return body.split(b" ", 1)[0].decode()


# -- producers --------------------------------------------------------------------------------------------------------


def produce(worker: Worker) -> None:
    """Into the queue: single sends with a receipt each, several at a time, and batches."""
    _produce(worker, WORK)


def publish(worker: Worker) -> None:
    """The same into the topic."""
    _produce(worker, LOG)


def _produce(worker: Worker, queue: str) -> None:
    random = worker.random
    with worker.connect() as client, client.producer(queue) as producer:
        while not worker.stopping:
            ids = worker.fresh_ids(random.choice((1, 1, 1, 5, 20, 50)))
            worker.recorder.note("sent", queue, ids)
            bodies = [worker.body(id) for id in ids]
            if random.random() < 0.5:
                _land(worker, queue, ids, producer.send_many(bodies).wait)
            else:
                receipts = [producer.send(body) for body in bodies]
                for id, receipt in zip(ids, receipts, strict=True):
                    _land(worker, queue, [id], receipt.wait)


def _land(worker: Worker, queue: str, ids: list[str], wait: Callable[[], int]) -> None:
    try:
        offset = wait()
    except REFUSED as fault:
        worker.recorder.note("refused", queue, ids, value=fault.code)
        time.sleep(0.02)  # nobody gains from asking a full disk as fast as one can
    else:
        worker.recorder.note("accepted", queue, ids, offset=offset)


# -- consumers --------------------------------------------------------------------------------------------------------


def consume(worker: Worker) -> None:
    """Acks with receipts; some nacks and releases; from time to time one message by itself."""
    _consume(worker, WORK, "")


def follow(worker: Worker) -> None:
    """The same in the group of the topic that is named like this worker."""
    _consume(worker, LOG, worker.setup.name)


def _consume(worker: Worker, queue: str, group: str) -> None:
    prefetch = worker.random.choice((0, 20, 200))
    with (
        may_lose(worker),
        worker.connect() as client,
        client.consumer(queue, group=group, lease=worker.setup.lease_s, prefetch=prefetch) as consumer,
    ):
        for messages in _received(worker, consumer, place(queue, group)):
            _settle_somehow(worker, consumer, messages)


def may_lose(worker: Worker) -> contextlib.AbstractContextManager[None]:
    """A short lease may end while the daemon is away or the machine is busy; closing a consumer then tells so."""
    return contextlib.suppress(*([LeaseLost] if worker.setup.lease_s * 1000 < LATE_MS else []))


def place(queue: str, group: str) -> str:
    """Where a message is delivered, in the words of a history: each group of a topic is a queue of its own."""
    return f"{queue}:{group}" if group else queue


def _received(worker: Worker, consumer: Consumer, queue: str) -> Iterator[list[penstock.Message]]:
    held_ms = max(0.0, worker.setup.lease_s * 1000 - LATE_MS)
    while not worker.stopping:
        messages = consumer.receive_many(worker.random.choice((1, 10, 100)), timeout=POLL_S)
        worker.recorder.note_all(
            {"kind": "delivered", "queue": queue, "ids": [name_of(message)], "offset": message.offset,
             "attempt": message.attempt, "held_ms": held_ms} for message in messages
        )  # fmt: skip
        if messages:
            yield messages


def name_of(message: penstock.Message) -> str:
    return str(values.unpack(message.body)) if message.queue == JOBS else id_of(message.body)


def _settle_somehow(worker: Worker, consumer: Consumer, messages: list[penstock.Message]) -> None:
    while messages:
        count = worker.random.choice((1, 10, 100))
        some, messages = messages[:count], messages[count:]
        dice = worker.random.random()
        op = "nack" if dice < 0.05 else "release" if dice < 0.1 else "ack"
        settle(worker, consumer, op, some)


def settle(worker: Worker, consumer: Consumer, op: str, messages: list[penstock.Message]) -> None:
    """Say it, and wait until it is durable or refused."""
    facts = [
        {"queue": place(message.queue, consumer.group), "ids": [name_of(message)], "offset": message.offset,
         "attempt": message.attempt, "op": op} for message in messages
    ]  # fmt: skip
    results: list[Any] = [[name_of(message), worker.setup.name, message.attempt] for message in messages]
    told: list[Any] = results if op == "complete" else [None] * len(messages)
    worker.recorder.note_all({**fact, "kind": "asked", "value": value} for fact, value in zip(facts, told, strict=True))
    says = {
        "ack": lambda: consumer.ack_many(messages),
        "nack": lambda: consumer.nack_many(messages),
        "release": lambda: consumer.release_many(messages),
        "complete": lambda: consumer.complete_many(messages, results),
    }
    try:
        says[op]().wait()
    except LeaseLost:
        # One of them was lost, or all: which of the others were settled is not known here.
        kind = "denied" if len(messages) == 1 else None
        if kind:
            worker.recorder.note_all({**fact, "kind": kind, "value": "LeaseLost"} for fact in facts)
    else:
        worker.recorder.note_all({**fact, "kind": "settled"} for fact in facts)


# -- jobs -------------------------------------------------------------------------------------------------------------


def submit(worker: Worker) -> None:
    """Jobs, alone and in batches; then their results, asked for in one way or another."""
    random = worker.random
    with worker.connect() as client:
        while not worker.stopping:
            ids = worker.fresh_ids(random.choice((1, 1, 10, 30)))
            worker.recorder.note("sent", JOBS, ids)
            jobs = client.submit_many(JOBS, ids)
            worker.recorder.note("accepted", JOBS, ids, offset=jobs[0].offset)
            names = {job.offset: id for job, id in zip(jobs, ids, strict=True)}
            for job in client.as_completed(jobs) if random.random() < 0.5 else jobs:
                worker.recorder.note("result", JOBS, [names[job.offset]], value=job.result(timeout=60))


def complete(worker: Worker) -> None:
    """Each job's result is its id, who did it, and at which attempt."""
    with (
        may_lose(worker),
        worker.connect() as client,
        client.consumer(JOBS, lease=worker.setup.lease_s, prefetch=worker.random.choice((0, 50))) as consumer,
    ):
        for messages in _received(worker, consumer, JOBS):
            if worker.random.random() < 0.05:
                settle(worker, consumer, "nack", messages[:1])
                messages = messages[1:]
            if messages:
                settle(worker, consumer, "complete", messages)


def hold(worker: Worker) -> None:
    """Take one message of either queue and keep it, renewed, until the file `go` is there; then settle it."""
    go = Path(worker.setup.folder) / "go"
    with worker.connect() as client:
        queue = next(info.name for info in client.list_queues() if info.ready)
        # A renewal may be told first that the lease is lost: then closing says so, too, after it was noted.
        with (
            contextlib.suppress(LeaseLost),
            client.consumer(queue, lease=worker.setup.lease_s, prefetch=0) as consumer,
        ):
            messages = next(_received(worker, consumer, queue))
            while not go.exists():
                time.sleep(0.02)
            settle(worker, consumer, "complete" if queue == JOBS else "ack", messages)


ROLES: dict[str, Callable[[Worker], None]] = {
    "produce": produce, "publish": publish, "consume": consume, "follow": follow, "submit": submit,
    "complete": complete, "hold": hold,
}  # fmt: skip


def main() -> None:
    setup = Setup(**json.loads(sys.argv[1]))
    ROLES[setup.role](Worker(setup))


if __name__ == "__main__":
    main()
