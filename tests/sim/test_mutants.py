"""A bug that is planted must be found. Here those that take a few seeds; `make mutants` hunts all of them."""

import pytest

from sim.mutants import hunt, plant
from sim.planted import MUTANTS, Mutant

QUICK = (
    "truncate on any mismatch",
    "an append is answered before its fsync",
    "entries of earlier terms are counted",
    "two votes in a term",
    "members change before",
    "votes are granted without comparing logs",
    "match falls",
    "a gap is never fetched",
    "a read counts a round",
    "a broadcast commit is taken",
    "a transfer waits",
    "a primary that hears no majority",
)


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.name.startswith(QUICK)], ids=lambda mutant: mutant.name)
def test_a_planted_bug_is_found(mutant: Mutant) -> None:
    assert hunt(mutant, seeds_max=20) is not None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_bug_still_fits_the_source(mutant: Mutant) -> None:
    plant(mutant)
