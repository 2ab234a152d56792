"""Clients of which many workloads are made: one who asks, one who sends, and one who takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock.client.requests import Request
from penstock.peers.wire import pack_payload, unpack_payload

from .clients import Client
from .ledger import DONE, REFUSED, UNKNOWN, Asked, Delivery

if TYPE_CHECKING:
    from .world import World

LATER_MS = 1 << 40
NO_PROPERTIES: Mapping[str, Any] = {}
REFUSALS = ("NotFound", "InvalidArgument", "QueueFull", "TooLarge", "StorageFull", "AlreadyExists", "LeaseLost")


class Asker(Client):
    """Its counted requests are in the ledger."""

    def do(
        self,
        op: str,
        args: Mapping[str, Any],
        then: Callable[[Asked], None] = lambda asked: None,
        payload: bytes | None = None,
        *,
        queue: str = "",
        group: str = "",
        ids: Sequence[str] = (),
    ) -> None:
        """Ask for something that changes state; `then` hears what became of it."""
        asked = Asked(self.name, op, args, queue, group, ids)
        self.world.ledger.asked.append(asked)

        def done(request: Request) -> None:
            if request.error is None:
                asked.fate, asked.body, asked.data = DONE, request.body, request.data
            else:
                asked.code, asked.job = request.error.code, getattr(request.error, "job", None) or ""
                if asked.code in REFUSALS:
                    asked.fate = REFUSED
            if asked.fate != UNKNOWN:
                assert self.session.id is not None
                asked.session, asked.sequence = int(self.session.id.partition("-")[0], 16), request.sequence
            then(asked)

        self.ask(op, args, done, payload)

    def soon_ms(self, now_ms: int) -> int:
        """When it acts next."""
        return now_ms + self.random.randrange(1, 2 * self.world.pace_ms)


class Sender(Asker):
    """Publishes small batches to one queue or topic, until the end."""

    queue = ""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.count = 0
        self.due_ms = 0

    def act(self, now_ms: int) -> int:
        if self.world.is_ending:
            return LATER_MS
        if self.under_way < 3 and now_ms >= self.due_ms:
            self.send()
            self.due_ms = self.soon_ms(now_ms)
        return max(self.due_ms, now_ms + 1) if self.under_way < 3 else LATER_MS

    def send(self) -> None:
        self.publish(self.fresh_ids(self.random.choice((1, 1, 3))))

    def fresh_ids(self, count: int) -> list[str]:
        ids = [f"{self.name}.{self.count + at}" for at in range(count)]
        self.count += count
        return ids

    def publish(
        self,
        ids: Sequence[str],
        properties: Mapping[str, Any] = NO_PROPERTIES,
        then: Callable[[Asked], None] = lambda asked: None,
        headers: list[Any] | None = None,
        queue: str = "",
    ) -> None:
        queue = queue or self.queue
        payload = pack_payload([id.encode() for id in ids], headers)
        self.do("append", {"queue": queue, "count": len(ids), **properties}, then, payload, queue=queue, ids=ids)


class Holding(Asker):
    """Pulls, and does with what it gets whatever is drawn from `ops`; in the end always the last of these."""

    queues: tuple[str, ...] = ()
    group = ""
    ops: tuple[str, ...] = ("nack", "release", "extend", "forget", "ack", "ack", "ack", "ack")
    credits: tuple[int, ...] = (1, 3, 10)

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self._due_ms = 0
        self._in_hand: list[tuple[int, int, dict[str, Any]]] = []  # (when, session, what to ask)
        self._patient = self.random.random() < 0.5

    def act(self, now_ms: int) -> int:
        due = [it for it in self._in_hand if it[0] <= now_ms]
        self._in_hand = [it for it in self._in_hand if it[0] > now_ms]
        for _, epoch, plan in due:
            if epoch == self.session.epoch:  # leases end with their session
                self._act_on(plan)
        if now_ms >= self._due_ms and self.under_way < 4:
            self._pull(self.random.choice(self.queues))
            self._due_ms = self.soon_ms(now_ms)
        return min([self._due_ms if self.under_way < 4 else now_ms + 100, *(it[0] for it in self._in_hand)])

    def _pull(self, queue: str) -> None:
        args = {"queue": queue, "messages": self.random.choice(self.credits), "wait_ms": 1000}
        args["lease_ms"] = 5000 if self._patient or self.world.is_ending else self.random.choice((150, 800, 5000))
        if self.group:
            args["group"] = self.group
        self.ask("pull", args, lambda request: self._delivered(queue, request), counted=False)

    def _delivered(self, queue: str, request: Request) -> None:
        if request.error is not None or request.body["lease"] is None or request.data is None:
            return
        bodies, headers = unpack_payload(request.data)
        at = 0
        for first, count, attempt, stamp_ms, failures in request.body["ranges"]:
            ids = [body.decode() for body in bodies[at : at + count]]
            plan = {
                "queue": queue, "lease": request.body["lease"], "ranges": [[first, count]], "ids": ids,
                "attempt": attempt, "failures": failures, "stamp_ms": stamp_ms, "pull": -request.sequence,
            }  # fmt: skip
            self.saw(plan, headers[at : at + count] if headers is not None else [None] * count)
            at += count
            self._decide(plan)

    def _decide(self, plan: dict[str, Any]) -> None:
        if self.world.is_ending:
            op, later_ms = self.ops[-1], 1
        else:
            op = self.random.choice(self.ops)
            later_ms = self.random.choice((1, 1, 1, 30, 300, 1000))
        if op != "forget":
            self.later(later_ms, {**plan, "op": op})

    def later(self, later_ms: int, plan: dict[str, Any]) -> None:
        """Carry it out then, if its lease may still live."""
        self._in_hand.append((self.world.now_ms + later_ms, self.session.epoch, plan))

    def _act_on(self, plan: dict[str, Any]) -> None:
        if plan["op"] == "extend":
            self.ask("extend", {"leases": [plan["lease"]], "lease_ms": 1000}, lambda request: None)
            self.later(200, {**plan, "op": self.ops[-1]})
        else:
            self.settle(plan, {"lease": plan["lease"], "ranges": plan["ranges"]})

    # -- what they differ in ------------------------------------------------------------------------------------------

    def saw(self, plan: dict[str, Any], headers: Sequence[Any]) -> None:
        """Messages came."""
        raise NotImplementedError

    def settle(self, plan: dict[str, Any], args: dict[str, Any]) -> None:
        """What was decided is to be asked now."""
        raise NotImplementedError


class Taker(Holding):
    """Keeps the ledger of what it was given and of what it settled."""

    def saw(self, plan: dict[str, Any], headers: Sequence[Any]) -> None:
        first = plan["ranges"][0][0]
        counters = plan["lease"], plan["attempt"], plan["failures"], plan["stamp_ms"]
        for at, id in enumerate(plan["ids"]):
            delivery = Delivery(plan["queue"], self.group, first + at, *counters, id, headers[at] or {}, self.name)
            self.world.ledger.deliveries.append(delivery)

    def settle(self, plan: dict[str, Any], args: dict[str, Any]) -> None:
        payload = None
        if plan["op"] == "complete":
            payload = pack_payload([f"{id}|{self.name}".encode() for id in plan["ids"]])
        self.do(plan["op"], args, payload=payload, queue=plan["queue"], group=self.group, ids=plan["ids"])
