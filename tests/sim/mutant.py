"""A planted bug."""

from __future__ import annotations

from typing import NamedTuple

SEEDS_MAX = 200


class Mutant(NamedTuple):
    """`edits`: (what stands in one place of peers/ or broker/, what is put there)."""

    name: str
    rule: int
    edits: tuple[tuple[str, str], ...]
    seeds_max: int = SEEDS_MAX  # more for one that needs a rare meeting
