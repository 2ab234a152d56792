"""Bugs planted into the product, one at a time: each has to be found, since a check that finds nothing proves nothing.

Each is an edit of the source. If the source changes so that an edit does not fit any more, `plant` says so.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

import click

import penstock.peers

from .mutant import Mutant
from .plan import Outcome
from .planted import MUTANTS as OF_CONSENSUS
from .planted_features import MUTANTS as OF_FEATURES

MUTANTS = [*OF_CONSENSUS, *OF_FEATURES]
ROOT = Path(next(iter(penstock.peers.__path__))).parent
ROOMS = ("peers", "peers/raft", "broker")
RELOADED = ("penstock", "sim", "kit", "faults")


def plant(mutant: Mutant) -> dict[str, str]:
    """The sources with the bug in, by the names of their modules."""
    sources = _sources()
    before = dict(sources)
    for old, new in mutant.edits:
        homes = [name for name, source in sources.items() if old in source]
        if len(homes) != 1 or sources[homes[0]].count(old) != 1:
            raise LookupError(f"mutant {mutant.name!r}: its place is not found exactly once ({homes}): {old!r}")
        sources[homes[0]] = sources[homes[0]].replace(old, new)
    return {name: source for name, source in sources.items() if source != before[name]}


def _sources() -> dict[str, str]:
    return {
        f"penstock.{room.replace('/', '.')}.{path.stem}": path.read_text()
        for room in ROOMS
        for path in sorted((ROOT / room).glob("*.py"))
    }


class _Loader(SourceFileLoader):
    """Loads a module from another source than its file's."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, f"<mutant of {fullname}>", "exec", dont_inherit=True)


class _Finder:
    """Stands before all others, for the modules with a bug."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._sources:
            return None
        file = str(ROOT.joinpath(*name.split(".")[1:]).with_suffix(".py"))
        return importlib.util.spec_from_file_location(name, file, loader=_Loader(name, file, self._sources[name]))


@contextmanager
def world_with(mutant: Mutant) -> Iterator[Callable[[int], Outcome]]:
    """`run`, of a world whose nodes have the bug: everything is imported anew for it."""
    finder = _Finder(plant(mutant))
    ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in RELOADED}
    for name in ours:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)  # type: ignore[arg-type]
    try:
        run = importlib.import_module("sim.plan").run
        yield lambda seed: Outcome(*run(seed))
    finally:
        sys.meta_path.remove(finder)  # type: ignore[arg-type]
        for name in [name for name in sys.modules if name.partition(".")[0] in RELOADED]:
            del sys.modules[name]
        sys.modules.update(ours)


def hunt(mutant: Mutant, seeds_max: int = 0) -> Outcome | None:
    """The first seed that finds the bug."""
    with world_with(mutant) as run:
        for seed in range(seeds_max or mutant.seeds_max):
            outcome = run(seed)
            if outcome.fault is not None:
                return outcome
    return None


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
                tried = options.seeds or mutant.seeds_max
                click.echo(f"| {mutant.name} | {mutant.rule} | **nothing** | - | {tried} |")
            else:
                click.echo(f"| {mutant.name} | {mutant.rule} | {outcome.check} | {outcome.seed} | {outcome.seed + 1} |")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
