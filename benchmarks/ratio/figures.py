"""From paired measurements to a ratio and how sure it is. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

SURE = 0.95  # the interval holds the true median with at least this probability, if there are rounds enough


class Pair(NamedTuple):
    """One round: both revisions measured twice, in the order before, now, now, before."""

    before: tuple[float, float]
    now: tuple[float, float]

    @property
    def ratio(self) -> float:
        """now / before. The geometric means cancel what changes steadily in the course of the round."""
        return math.sqrt(self.now[0] * self.now[1] / (self.before[0] * self.before[1]))


class Ratio(NamedTuple):
    """The median of the ratios of all rounds, and an interval that holds the true one with probability `sure`."""

    median: float
    low: float
    high: float
    sure: float


def ratio_of(ratios: Sequence[float]) -> Ratio:
    """The narrowest interval between two of the ratios, as far from the lowest as from the highest, that is `SURE`.

    It assumes nothing about how they are distributed: each is above the true median with probability 1/2, so the
    ranks of the interval are binomial (David & Nagaraja, Order Statistics, 7.1). Fewer than six rounds cannot be 95 %
    sure: then it is from the lowest to the highest, and `sure` says what that is worth.
    """
    if not ratios:
        raise ValueError("no rounds, no ratio")
    ordered = sorted(ratios)
    rank = 0
    while rank + 1 < (len(ordered) + 1) // 2 and _coverage(len(ordered), rank + 1) >= SURE:
        rank += 1
    return Ratio(median(ordered), ordered[rank], ordered[-1 - rank], _coverage(len(ordered), rank))


def _coverage(rounds: int, rank: int) -> float:
    """How probable it is that the true median is between the ordered ratios `rank` and `rounds - 1 - rank`."""
    return max(0.0, 1 - sum(math.comb(rounds, k) for k in range(rank + 1)) / float(2 ** (rounds - 1)))
