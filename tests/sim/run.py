"""Many seeds on all cores: `python -P -m sim.run --seeds 1000 --first-seed 0` with tests/ on the path."""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import click

from .plan import Outcome, run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep-going", action="store_true", help="count the failures, do not stop at the first")
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    began = time.monotonic()
    failed: list[Outcome] = []
    acked = answered = terms = worst_ms = 0
    # Unlike multiprocessing.Pool it says so if a worker dies, and does not wait for ever.
    with ProcessPoolExecutor(options.jobs) as pool:
        for done, outcome in enumerate(pool.map(run, seeds, chunksize=5), 1):
            acked, answered, terms = acked + outcome.acked, answered + outcome.answered, terms + outcome.terms
            worst_ms = max(worst_ms, outcome.recovery_ms)
            if outcome.fault is not None:
                failed.append(outcome)
                click.echo(f"seed {outcome.seed}: {outcome.fault}")
                if not options.keep_going:
                    pool.shutdown(wait=False, cancel_futures=True)
                    break
            if done % 50 == 0:
                click.echo(f"{done} of {len(seeds)} seeds, {time.monotonic() - began:.0f} s")
    if failed:
        first = min(failed)
        click.echo(
            f"\n{first.story}\n\nseed {first.seed}: {first.fault}\nagain: make sim SEEDS=1 FIRST_SEED={first.seed}"
        )
        return 1
    click.echo(
        f"{len(seeds)} seeds held in {time.monotonic() - began:.0f} s: {acked} writes acknowledged, "
        f"{answered} reads answered, {terms} terms; slowest recovery {worst_ms} ms"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
