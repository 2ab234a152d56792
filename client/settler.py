"""Sends what a consumer says about its messages, and finds out what became of it. All of it under the lock."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..peers import wire
from ..peers.errors import InvalidArgument, LeaseLost, PenstockError, SessionExpired, shown
from .acks import GATHER_BYTES, AckBatcher, Range, Settlement
from .channel import Channel
from .delivery import Delivery
from .message import BaseMessage
from .requests import Request
from .several import as_bytes, several

log = logging.getLogger("penstock")


def checked_outputs(outputs: Mapping[str, Iterable[bytes]]) -> dict[str, list[bytes]]:
    """Bodies by queue. Raises InvalidArgument."""
    if not isinstance(outputs, Mapping) or not all(isinstance(queue, str) for queue in outputs):
        raise InvalidArgument(f"outputs is {shown(outputs)}", 'give a map of bodies, as {"queue": [b"body"]}')
    return {
        queue: [as_bytes(body) for body in several(bodies, f"outputs[{queue!r}]", "bytes")]
        for queue, bodies in outputs.items()
    }


class Settler:
    """Acknowledgements of one consumer: gathered, sent, and, when one message fails a request, taken apart."""

    def __init__(self, connection: Channel, queue: str, lease_ms: int, on_lost: Callable[[int], None]) -> None:
        """`on_lost` is told which lease has turned out to be gone."""
        self.lost = 0
        self._on_lost = on_lost
        self._connection = connection
        self._queue = queue
        self._lease_ms = lease_ms
        self._acks = AckBatcher()
        self._refused: list[Settlement] = []  # and perhaps nobody has looked at the receipt

    @property
    def idle(self) -> bool:
        """Has everything its answer?"""
        return not self._acks.flying and not self._acks.gathered

    def settle(
        self,
        op: str,
        run: tuple[Delivery, int, int],
        args: Mapping[str, Any],
        bodies: Sequence[bytes] | None,
    ) -> list[Settlement]:
        """Say `op` about a run of messages. Those that were settled before, or are lost, fail at once."""
        delivery, first, end = run
        settlements: list[Settlement] = []
        settled = 0
        for start, stop in delivery.settle(first, end):
            settled += stop - start
            mine = None if bodies is None else bodies[start - first : stop - first]
            settlements += self._gather(op, delivery, start, stop, args, mine)
        if settled < end - first:
            failed = Settlement(op, delivery.lease, args)
            failed.end(delivery.why_lost(first))
            settlements.append(failed)
        return settlements

    def complete_with(self, message: BaseMessage, result: bytes, outputs: Mapping[str, Sequence[bytes]]) -> Settlement:
        """Complete one message, and append to other queues. Refused, it is in hand again, unless the lease is gone."""
        delivery, index = message._delivery, message._index
        bodies = [body for some in outputs.values() for body in some]
        counts = [[queue, len(some)] for queue, some in outputs.items() if some]
        settlement = Settlement("complete", delivery.lease, {"outputs": counts}, [])
        if not delivery.settle(index, index + 1):
            settlement.end(delivery.why_lost(index))
            return settlement

        def answered(request: Request) -> None:
            if request.error is not None and not isinstance(request.error, (LeaseLost, SessionExpired)):
                delivery.unsettle(index)
                delivery.consumer.keep(delivery)
            self._answered(settlement, request.error)

        settlement.add(delivery.offsets(index, index + 1), [result, *bodies])
        self._acks.flying += 1
        payload = wire.pack_payload(settlement.bodies or [])
        self._connection.ask(Request("complete", settlement.request_args(), payload, counted=True, then=answered))
        return settlement

    def tell(self, message: BaseMessage, op: str, args: Mapping[str, Any]) -> Settlement:
        """Say something about a job in hand that does not settle it."""
        delivery = message._delivery
        settlement = Settlement(op, delivery.lease, {})
        if delivery.lost_why or message.cancelled:
            settlement.end(delivery.why_lost(message._index))
            return settlement
        asked = {"lease": delivery.lease, "offset": message.offset, **args}
        self._connection.ask(Request(op, asked, counted=True, then=lambda request: settlement.end(request.error)))
        return settlement

    def release(self, lease: int, ranges: Sequence[Range]) -> None:
        """Give back messages that the application never saw."""
        self._acks.add("release", lease, {}, ranges)
        self.push_if_due()

    def extend(self, delivery: Delivery, lease_ms: int) -> Settlement:
        """Have a lease end later. Its error is LeaseLost if it is gone."""
        settlement = Settlement("extend", delivery.lease, {})
        if delivery.lost_why:
            settlement.end(delivery.why_lost(0))
            return settlement

        def extended(request: Request) -> None:
            for lease, first, count in request.body.get("cancelled", ()):
                if lease == delivery.lease:
                    delivery.consumer.cancel(delivery, first, count)
            if request.error is None and request.body["lost"]:
                delivery.consumer.lose(delivery)
                settlement.end(delivery.why_lost(0))
            else:
                settlement.end(request.error)

        args = {"leases": [delivery.lease], "lease_ms": lease_ms}
        self._connection.ask(Request("extend", args, counted=True, then=extended))
        return settlement

    def push(self) -> None:
        """What was gathered leaves now."""
        if self._acks.gathered:
            for settlement in self._acks.take():
                self._send(settlement)

    def push_if_due(self) -> None:
        """What was gathered leaves if nothing is under way, or if it is much."""
        if self._acks.due():
            self.push()

    def refusal(self) -> PenstockError | None:
        """The first refusal since the last time that no receipt has told."""
        untold, self._refused = [each for each in self._refused if not each.root.told], []
        if not untold or (first := untold[0].error) is None:
            return None
        count = sum(settlement.count for settlement in untold)
        return type(first)(f"{count} messages of {self._queue!r} could not be settled: {first.message}", first.hint)

    # -- requests --------------------------------------------------------------------------------------------------

    def _gather(
        self,
        op: str,
        delivery: Delivery,
        first: int,
        end: int,
        args: Mapping[str, Any],
        bodies: Sequence[bytes] | None,
    ) -> list[Settlement]:
        add, lease = self._acks.add, delivery.lease
        if bodies is None or sum(map(len, bodies)) < GATHER_BYTES:
            return [add(op, lease, args, delivery.offsets(first, end), bodies)]
        # Large results travel in several requests: one would be more than the daemon takes.
        return [
            add(op, lease, args, delivery.offsets(first + i, first + i + 1), [body]) for i, body in enumerate(bodies)
        ]

    def _send(self, settlement: Settlement) -> None:
        payload = None if settlement.bodies is None else wire.pack_payload(settlement.bodies)
        self._connection.ask(
            Request(
                settlement.op,
                settlement.request_args(),
                payload,
                counted=True,
                then=lambda request: self._answered(settlement, request.error),
            )
        )

    def _answered(self, settlement: Settlement, error: PenstockError | None) -> None:
        if not isinstance(error, LeaseLost) or settlement.op == "release":
            self._end(settlement, error)
        elif settlement.parent is None:
            self._probe(settlement, error)
        elif settlement.count > 1:
            # One message that was taken away (a job that was cancelled) fails them all: find the others' way through.
            self._halve(settlement)
        else:
            self._end(settlement, error)

    def _probe(self, settlement: Settlement, error: LeaseLost) -> None:
        # If the lease is gone, halving would only ask the same question a thousand times; and what else came under it
        # must not be handed out any more.
        def probed(request: Request) -> None:
            if request.error is None and request.body["lost"]:
                self._on_lost(settlement.lease)
            elif request.error is None and settlement.count > 1:
                self._halve(settlement)
                return
            self._end(settlement, error)

        args = {"leases": [settlement.lease], "lease_ms": self._lease_ms}
        self._connection.ask(Request("extend", args, counted=True, then=probed))

    def _halve(self, settlement: Settlement) -> None:
        self._acks.flying += 1  # one was under way, now there are two
        for half in settlement.halves():
            self._send(half)

    def _end(self, settlement: Settlement, error: PenstockError | None) -> None:
        self._acks.flying -= 1
        if error is not None and settlement.op != "release":
            self._refused.append(settlement)
            if isinstance(error, (LeaseLost, SessionExpired)):
                self.lost += settlement.count
            log.warning("%s of %d messages of %r failed: %s", settlement.op, settlement.count, self._queue, error)
        settlement.end(error)
        self.push_if_due()
