"""What clients have to do. A new command of the protocol joins the simulation as one more entry in WORKLOADS.

Every message says who it is, in its body: so whatever comes anywhere can be judged by the history at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock.client.requests import Request
from penstock.peers.wire import pack_payload, unpack_payload

from .clients import Client
from .takers import LATER_MS, REFUSALS, Holding

if TYPE_CHECKING:
    from .world import World

WORK, JOBS, TOPIC, GROUPS = "work", "jobs", "events", ("billing", "audit")
QUEUES = (WORK, JOBS, TOPIC)


class Founder(Client):
    """Makes the queues; later on it pauses, resumes and configures them."""

    is_replaceable = False

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self._made = 0
        self._due_ms = 0
        self._paused: set[str] = set()
        self.plan: list[tuple[str, dict[str, Any]]] = [
            ("create", {"name": WORK, "kind": "queue", "options": {"max_failures": None}}),
            ("create", {"name": JOBS, "kind": "queue", "options": {"max_failures": None, "retry_delay_ms": 50}}),
            ("create", {"name": TOPIC, "kind": "topic", "options": {"max_failures": None}}),
            *(("group_create", {"topic": TOPIC, "group": group, "start": "earliest"}) for group in GROUPS),
            *(step for feature in world.features for step in feature.founds),
        ]

    @property
    def is_ready(self) -> bool:
        """Nothing of what it made stands in the way of others."""
        return self._made == len(self.plan) and not self._paused

    def act(self, now_ms: int) -> int:
        if self.under_way or now_ms < self._due_ms:
            return max(self._due_ms, now_ms + 50)
        if self._made < len(self.plan):
            op, args = self.plan[self._made]
            self.ask(op, args, self._founded)
            return now_ms + 20  # others wait for it
        if (self.world.is_ending and self._paused) or (self._paused and self.random.random() < 0.3):
            self._resume(min(self._paused))
        elif not self.world.is_ending and self.random.random() < 0.05:
            name = self.random.choice((WORK, JOBS))
            self._paused.add(name)
            self.ask("pause", {"name": name}, lambda request: None)
        elif self.random.random() < 0.1:
            options = {"retry_delay_ms": self.random.choice((0, 30, 200))}
            self.ask("configure", {"name": JOBS, "options": options}, lambda request: None)
        self._due_ms = now_ms + self.random.randrange(1, 2 * self.world.pace_ms)
        return self._due_ms

    def _founded(self, request: Request) -> None:
        if request.error is None or request.error.code == "AlreadyExists":
            self._made += 1

    def _resume(self, name: str) -> None:
        def done(request: Request) -> None:
            if request.error is None:
                self._paused.discard(name)

        self.ask("resume", {"name": name}, done)


class Reader(Client):
    """Reads see everything that anybody was told before they were asked (rule 9)."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self._due_ms = 0

    def act(self, now_ms: int) -> int:
        if self.under_way < 3 and now_ms >= self._due_ms:
            self._look()
            self._due_ms = now_ms + self.random.randrange(1, 2 * self.world.pace_ms)
        return max(self._due_ms, now_ms + 20)

    def _look(self) -> None:
        name = self.random.choice(QUEUES)
        due = self.world.checks.told_next.get(name, 0)

        def seen(request: Request) -> None:
            if request.error is None:
                self.world.checks.read(name, due, request.body)

        self.ask("describe", {"name": name}, seen, counted=False)


class Producer(Client):
    """Publishes small batches, several at a time."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self._count = 0
        self._due_ms = 0
        self._window = self.random.choice((1, 3, 10))

    def act(self, now_ms: int) -> int:
        if self.world.is_ending:
            return LATER_MS
        while self.under_way < self._window and now_ms >= self._due_ms:
            self._publish(self.random.choice(QUEUES))
            self._due_ms = now_ms + self.random.choice((0, 0, self.random.randrange(1, 3 * self.world.pace_ms)))
        return max(self._due_ms, now_ms + 1) if self.under_way < self._window else LATER_MS

    def _publish(self, queue: str) -> None:
        ids = [f"{queue}/{self.name}/{self._count + at}" for at in range(self.random.choice((1, 1, 2, 4)))]
        self._count += len(ids)
        self.note("sent", queue, ids)

        def done(request: Request) -> None:
            if request.error is None:
                offset = request.body["offset"]
                self.note("accepted", queue, ids, offset=offset)
                self.world.checks.accepted(queue, offset + len(ids), request.body["index"])
            elif request.error.code in REFUSALS:
                self.note("refused", queue, ids)

        self.ask("append", {"queue": queue, "count": len(ids)}, done, pack_payload([id.encode() for id in ids]))


class Consumer(Holding):
    """Takes messages and does with them whatever a consumer may do, forgetting some of them."""

    queues = (WORK,)

    def _key(self, queue: str) -> str:
        return f"{queue}:{self.group}" if self.group else queue

    def saw(self, plan: dict[str, Any], headers: Sequence[Any]) -> None:
        # Each pull by a name of its own: those that are under way together may overtake each other.
        actor, first, attempt = f"{self.name}.{plan['pull']}", plan["ranges"][0][0], plan["attempt"]
        for at, id in enumerate(plan["ids"]):
            self.note("delivered", self._key(plan["queue"]), [id], actor=actor, offset=first + at, attempt=attempt)

    def settle(self, plan: dict[str, Any], args: dict[str, Any]) -> None:
        op, ids, attempt, key = plan["op"], plan["ids"], plan["attempt"], self._key(plan["queue"])
        payload, values = None, dict.fromkeys(ids)
        if op == "complete":
            values = {id: f"{id}|{self.name}|{attempt}" for id in ids}
            payload = pack_payload([value.encode() for value in values.values()])
        for id, value in values.items():
            self.note("asked", key, [id], attempt=attempt, op=op, value=value)

        def done(request: Request) -> None:
            if request.error is None:
                self.note("settled", key, ids, attempt=attempt, op=op)
            elif request.error.code in REFUSALS:
                self.note("denied", key, ids, attempt=attempt, op=op, value=request.error.code)

        self.ask(op, args, done, payload)


class Worker(Consumer):
    """Completes jobs, each with a result that tells who did it."""

    queues = (JOBS,)
    ops = ("nack", "release", "extend", "forget", "complete", "complete", "complete", "complete")


class Billing(Consumer):
    queues, group = (TOPIC,), GROUPS[0]


class Audit(Consumer):
    queues, group = (TOPIC,), GROUPS[1]


class Watcher(Client):
    """Sees how jobs end."""

    is_replaceable = False  # what it saw would be lost with it
    watched = JOBS

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.after = 0

    def act(self, now_ms: int) -> int:
        if not self.under_way:
            self.ask(
                "outcomes",
                {"queue": self.watched, "after": self.after, "limit": 50, "wait_ms": 1000},
                self._ended,
                counted=False,
            )
        return now_ms + 200

    def _ended(self, request: Request) -> None:
        if request.error is not None:
            return
        self.after = request.body["next"]
        if request.data is not None:
            for body in unpack_payload(request.data)[0]:
                value = body.decode()
                self.note("result", JOBS, [value.partition("|")[0]], value=value)


class Guest(Client):
    """Comes, holds something, and goes: with a word of farewell, or without."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self._leaves_ms = world.now_ms + self.random.randrange(300, 6000)
        self._pulled = self._said_bye = False

    def act(self, now_ms: int) -> int:
        if now_ms >= self._leaves_ms and not self._said_bye:
            self._said_bye = True
            if self.random.random() < 0.5:
                self.ask("bye", {}, lambda request: self._leave())
            else:
                self._leave()
        elif not self._pulled:
            self._pulled = True
            args = {"queue": self.random.choice((WORK, JOBS)), "messages": 2, "lease_ms": 60_000, "wait_ms": 1000}
            self.ask("pull", args, self._delivered, counted=False)
        return max(self._leaves_ms, now_ms + 1) if not self._said_bye else LATER_MS

    def _delivered(self, request: Request) -> None:
        if request.error is not None or request.data is None:
            return
        bodies = iter(unpack_payload(request.data)[0])
        for first, count, attempt, *_ in request.body["ranges"]:
            for at in range(count):
                id = next(bodies).decode()
                self.note("delivered", id.partition("/")[0], [id], offset=first + at, attempt=attempt)

    def _leave(self) -> None:
        self.die()
        if not self.world.is_ending:
            self.world.enter(type(self))


WORKLOADS: tuple[type[Client], ...] = (
    Founder, Reader, Reader, Producer, Producer, Consumer, Consumer, Worker, Worker, Billing, Audit, Watcher, Guest,
)  # fmt: skip
