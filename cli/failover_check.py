"""What the histories of `penstock demo failover` prove. Pure: histories in, a verdict out."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

Event = Sequence[Any]  # kind, at_s, ...; see failover_work


@dataclass(frozen=True, slots=True)
class Verdict:
    """`gaps_s`: for each kill, the longest time without a confirmed publish. `lost`: messages that were acknowledged
    and then neither completed nor delivered again. `duplicates`: messages that came again after their completion was
    acknowledged, or that are in the queue twice though they were published once."""

    gaps_s: list[float]
    acknowledged: int
    completed: int
    lost: int
    duplicates: int

    @property
    def good(self) -> bool:
        """Nothing was lost, nothing that was done came again."""
        return self.lost == 0 and self.duplicates == 0

    @property
    def median_s(self) -> float | None:
        return median(self.gaps_s) if self.gaps_s else None


def read_history(path: Path) -> list[Event]:
    """What a worker wrote. A last line that was cut is left out."""
    lines = path.read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def judge(produced: Iterable[Event], consumed: Iterable[Event], kills_s: Sequence[float]) -> Verdict:
    """The verdict on a run whose queue was empty at its end."""
    offsets, confirmed_s = _confirmed(produced)
    deliveries, asked, acked_s = _consumed(consumed)
    lost = sum(1 for number in offsets if number not in asked)
    return Verdict(
        gaps_s=gaps(confirmed_s, kills_s),
        acknowledged=len(offsets),
        completed=len(acked_s),
        lost=lost,
        duplicates=sum(
            1 for number, seen in deliveries.items() if _again(seen, offsets.get(number), acked_s.get(number))
        ),
    )


def gaps(confirmed_s: Sequence[float], kills_s: Sequence[float]) -> list[float]:
    """The longest pause between two confirmations after each kill, up to the next one."""
    found = []
    for kill_s, next_s in pairwise([*kills_s, float("inf")]):
        pauses = [b - a for a, b in pairwise(confirmed_s) if kill_s < b <= next_s]
        if not pauses:
            raise ValueError("no publish was confirmed after a kill")
        found.append(max(pauses))
    return found


def _confirmed(produced: Iterable[Event]) -> tuple[dict[int, int], list[float]]:
    """(offset of each message that was acknowledged, when there were confirmations)."""
    offsets: dict[int, int] = {}
    times_s: list[float] = []
    for kind, at_s, *rest in produced:
        if kind == "confirmed":
            first, count, offset = rest
            offsets |= {first + at: offset + at for at in range(count)}
            times_s.append(at_s)
    return offsets, times_s


def _consumed(
    consumed: Iterable[Event],
) -> tuple[dict[int, list[tuple[float, int]]], set[int], dict[int, float]]:
    """(when and from which offset each message came, which completions may have been done, when they surely were)."""
    deliveries: dict[int, list[tuple[float, int]]] = defaultdict(list)
    asked: set[int] = set()
    acked_s: dict[int, float] = {}
    for kind, at_s, *rest in consumed:
        if kind == "delivered":
            for number, offset, _ in rest[0]:
                deliveries[number].append((at_s, offset))
        elif kind == "asked":
            asked.update(rest[0])
        elif kind == "denied":
            asked.difference_update(rest[0])
        elif kind == "acked":
            acked_s |= dict.fromkeys(rest[0], at_s)
    return deliveries, asked, acked_s


def _again(seen: list[tuple[float, int]], offset: int | None, acked_s: float | None) -> bool:
    """Did it come after it was done, or from two places?"""
    places = {place for _, place in seen} | (set() if offset is None else {offset})
    return len(places) > 1 or (acked_s is not None and any(at_s > acked_s for at_s, _ in seen))
