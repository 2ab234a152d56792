"""A short stretch of what `make sim` runs for long, always the same seeds."""

import pytest

from sim.plan import run

CHUNKS, SEEDS = 8, 4


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_rule_holds_whatever_the_world_does(chunk: int) -> None:
    for seed in range(chunk * SEEDS, (chunk + 1) * SEEDS):
        outcome = run(seed)
        assert outcome.fault is None, f"\n{outcome.story}\nseed {seed}: {outcome.fault}"
        assert outcome.acked > 0
        assert outcome.answered > 0


def test_the_same_seed_is_the_same_world() -> None:
    assert run(7) == run(7)
