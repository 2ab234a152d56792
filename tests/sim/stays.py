"""Where messages surely were between two places in the log: waiting to be given, or in somebody's hands.

Only what was told counts: a message of which an answer was lost is left out while that is so, and judged as soon as it
is seen again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .ledger import SETTLING, Delivery, Ledger

LEAVING = (*SETTLING, "nack", "release")  # what takes a message out of its lease


class Stay(NamedTuple):
    """A message was there behind entry `since`, up to entry `until`."""

    offset: int
    id: str
    since: int
    until: int


def leases(ledger: Ledger, queue: str, group: str = "") -> dict[int, list[Delivery]]:
    """What was given under each lease, in the order in which it came."""
    found: dict[int, list[Delivery]] = {}
    for delivery in ledger.deliveries:
        if delivery.queue == queue and delivery.group == group:
            found.setdefault(delivery.lease, []).append(delivery)
    return found


def credit(ledger: Ledger, lease: int) -> int:
    """How many messages the lease might have had."""
    return int(ledger.entries[lease - 1].command.messages)  # type: ignore[union-attr]


def appended(ledger: Ledger, queue: str) -> dict[int, int]:
    """By offset: the entry that brought the message."""
    return {
        asked.body["offset"] + at: asked.index
        for asked in ledger.done("append", "call", queue=queue)
        for at in range(len(asked.ids))
    }


def fresh(ledger: Ledger, queue: str, group: str = "") -> Iterator[Stay]:
    """From its publish until it was given for the first time."""
    since = appended(ledger, queue)
    for offset, some in ledger.given(queue, group).items():
        if some[0].attempt == 1 and offset in since:
            yield Stay(offset, some[0].id, since[offset], some[0].lease)


def given_back(ledger: Ledger, queue: str, group: str = "") -> Iterator[Stay]:
    """From where it was given back, to be had at once, until it was given again."""
    back = {
        (asked.args["lease"], offset): asked.index
        for asked in ledger.done("nack", "release", queue=queue)
        if asked.group == group and not asked.args.get("delay_ms")
        for offset in asked.offsets
    }
    for offset, some in ledger.given(queue, group).items():
        attempts = {delivery.attempt: delivery for delivery in some}
        for delivery in some:
            after = attempts.get(delivery.attempt + 1)
            if after is not None and (delivery.lease, offset) in back:
                yield Stay(offset, delivery.id, back[delivery.lease, offset], after.lease)


def in_hand(ledger: Ledger, queue: str, group: str = "") -> Iterator[Stay]:
    """From its lease until it left that, by whoever held it."""
    for asked in ledger.done(*LEAVING, queue=queue):
        if asked.group == group:
            for offset, id in zip(asked.offsets, asked.ids, strict=True):
                yield Stay(offset, id, asked.args["lease"], asked.index)


def left_behind(ledger: Ledger, queue: str, group: str, waits: Iterable[Stay]) -> Iterator[str]:
    """Who asks for more than he gets has taken everything that could be had."""
    waiting = list(waits)
    for lease, some in leases(ledger, queue, group).items():
        if len(some) < credit(ledger, lease):
            for stay in waiting:
                if stay.since < lease < stay.until:
                    what = (
                        f"{queue}/{stay.offset} ({stay.id}) could be had from {stay.since} on, and came at {stay.until}"
                    )
                    yield f"lease {lease} took {len(some)} of {credit(ledger, lease)}: {what}"
