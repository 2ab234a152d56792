"""Throttles: so many messages in a while, or in all hands together, and no more."""

from __future__ import annotations

from collections.abc import Iterator

from ..ledger import Ledger, none_lost, one_at_a_time
from ..stays import in_hand, leases
from ..takers import Sender, Taker
from .feature import Feature, queue

DRIP, HANDS = "drip", "hands"
MESSAGES, PERIOD_MS, BURST_MS = 10, 250, 100
LEASED_MAX = 3


class Dripper(Sender):
    queue = DRIP


class Hander(Sender):
    queue = HANDS


class Catcher(Taker):
    queues = (DRIP, HANDS)


def judge(ledger: Ledger) -> Iterator[str]:
    for name in (DRIP, HANDS):
        yield from one_at_a_time(ledger, name)
        yield from none_lost(ledger, name)
    yield from _rate(ledger)
    held = list(in_hand(ledger, HANDS))
    for lease in sorted(leases(ledger, HANDS)):
        hands = [stay.offset for stay in held if stay.since <= lease < stay.until]
        if len(hands) > LEASED_MAX:
            yield f"when lease {lease} was granted, {hands} of {HANDS} were in hand: {LEASED_MAX} may be"


def _rate(ledger: Ledger) -> Iterator[str]:
    """A bucket with a hole: each message fills it by what it takes to run out, and it never holds more than a burst."""
    level_ms, last_ms = 0.0, 0
    for lease, some in sorted(leases(ledger, DRIP).items()):
        now_ms = ledger.entries[lease - 1].stamp_ms
        level_ms = max(0.0, level_ms - (now_ms - last_ms)) + len(some) * PERIOD_MS / MESSAGES
        last_ms = now_ms
        if level_ms > BURST_MS:
            yield f"lease {lease} of {DRIP} was {len(some)} more at {now_ms}: {level_ms:g} ms' worth, not {BURST_MS}"


THROTTLES = Feature(
    "throttles",
    (
        queue(DRIP, max_failures=None, rate=[MESSAGES, PERIOD_MS]),
        queue(HANDS, max_failures=None, max_leased=LEASED_MAX),
    ),
    (Dripper, Dripper, Hander, Catcher, Catcher),
    judge,
)
