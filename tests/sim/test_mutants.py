"""A bug that is planted must be found. Here those that take a few seeds; `make mutants` hunts all of them."""

import pytest

from sim.mutant import Mutant
from sim.mutants import MUTANTS, hunt, plant

QUICK = (
    "truncate on any mismatch",
    "an append is answered before its fsync",
    "an answer leaves before",
    "a deposed primary keeps the model",
    "a new primary ends leases",
    "leases do not get back",
    "what was asked again is done again",
    "a checkpoint is taken of what is not committed",
    "a checkpoint forgets the answers",
    "a torn or damaged entry",
    "a message that dies is no dead letter",
    "the dead letters of one group come back",
    "a full queue takes one batch more",
    "a local read shows what is not committed",
)


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.name.startswith(QUICK)], ids=lambda mutant: mutant.name)
def test_a_planted_bug_is_found(mutant: Mutant) -> None:
    assert hunt(mutant, seeds_max=20) is not None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_bug_still_fits_the_source(mutant: Mutant) -> None:
    plant(mutant)
