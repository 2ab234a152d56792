"""Which figure of which case of `penstock bench` is compared, and how short one measurement of it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class Wrong(Exception):
    """What was asked for cannot be measured; the text says why, and what would be right."""


@dataclass(frozen=True, slots=True)
class Case:
    """`figure`: a key of the row that `penstock bench` prints. `lower`: less of it is better."""

    arguments: tuple[str, ...]
    figure: str = "rate"
    lower: bool = False

    def speed(self, row: Mapping[str, Any]) -> float:
        """The figure, turned so that more is better: a ratio above 1 is always an improvement."""
        figure = float(row[self.figure])
        return 1 / figure if self.lower else figure


CASES: dict[str, Case] = {
    "publish": Case(("--messages", "400000")),
    "publish_batches": Case(("--messages", "1500000")),
    "consume": Case(("--messages", "1000000")),
    "pipeline": Case(("--messages", "1000000")),
    "senders": Case(("--seconds", "2")),
    "latency": Case(("--seconds", "1.5"), "p50_ms", lower=True),
    "delivery": Case(("--seconds", "3"), "p50_ms", lower=True),
}
DEFAULT = ("publish", "publish_batches", "consume", "pipeline", "latency", "senders")


def chosen(text: str) -> list[str]:
    """The names in `text`, separated by commas; none: the usual ones. Raises Wrong."""
    names = [name.strip() for name in text.split(",") if name.strip()] or list(DEFAULT)
    for name in names:
        if name not in CASES:
            raise Wrong(f"there is no case {name!r}; cases are {', '.join(CASES)}")
    return list(dict.fromkeys(names))
