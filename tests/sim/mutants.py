"""Bugs planted into the core, one at a time: each has to be found, since a check that finds nothing proves nothing.

Each is an edit of the source. If the core changes so that an edit does not fit any more, `plant` says so.
"""

from __future__ import annotations

import argparse
import os
import sys
import types
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType

import click

from penstock.peers.raft import core as real_core
from penstock.peers.raft import tail as real_tail

from .plan import Outcome, run
from .planted import MUTANTS, Mutant


def plant(mutant: Mutant) -> tuple[ModuleType, ModuleType]:
    """The core and the tail with the bug in."""
    sources = {real_core: _source(real_core), real_tail: _source(real_tail)}
    for old, new in mutant.edits:
        homes = [module for module, source in sources.items() if source.count(old) == 1]
        if len(homes) != 1:
            raise LookupError(
                f"mutant {mutant.name!r}: its place is not found exactly once, did the core change? {old!r}"
            )
        sources[homes[0]] = sources[homes[0]].replace(old, new)
    tails = _module(real_tail, sources[real_tail]) if sources[real_tail] != _source(real_tail) else real_tail
    return _module(real_core, sources[real_core]), tails


def hunt(mutant: Mutant, seeds_max: int = 0) -> Outcome | None:
    """The first seed that finds the bug."""
    core, tails = plant(mutant)
    for seed in range(seeds_max or mutant.seeds_max):
        outcome = run(seed, core, tails)
        if outcome.fault is not None:
            return outcome
    return None


def _source(module: ModuleType) -> str:
    assert module.__file__ is not None
    return Path(module.__file__).read_text()


def _module(real: ModuleType, source: str) -> ModuleType:
    module = types.ModuleType(real.__name__)
    module.__package__ = real.__package__
    before = sys.modules[real.__name__]
    sys.modules[real.__name__] = module  # dataclasses look their module up by name
    try:
        exec(compile(source, f"<mutant of {real.__name__}>", "exec"), module.__dict__)
    finally:
        sys.modules[real.__name__] = before
    return module


def main() -> int:
    """Hunt all of them and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=0, help="at most, instead of what the list says")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="those whose name has this in it")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if options.only in mutant.name]
    survivors = 0
    click.echo("| planted bug | rule | found by | seed | seeds tried |\n|---|--:|---|--:|--:|")
    with ProcessPoolExecutor(options.jobs) as pool:
        for mutant, outcome in zip(chosen, pool.map(partial(hunt, seeds_max=options.seeds), chosen), strict=True):
            if outcome is None:
                survivors += 1
                click.echo(
                    f"| {mutant.name} | {mutant.rule} | **nothing** | - | {options.seeds or mutant.seeds_max} |",
                )
            else:
                click.echo(
                    f"| {mutant.name} | {mutant.rule} | {outcome.check} | {outcome.seed} | {outcome.seed + 1} |",
                )
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
