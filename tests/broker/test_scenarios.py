"""The texts in tests/scenarios, told on a disk in memory and on a real one. SCENARIOS_REWRITE=1 writes them anew."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from kit.scenario import Scenario, blocks, written
from kit.world import World

from penstock.broker.desk import Limits
from penstock.broker.store import Store
from penstock.testing.memory import MemoryDisk

FOLDER = Path(__file__).parents[1] / "scenarios"
MAP_BYTES = 64 << 20


class Folder:
    """A store that can be closed and opened again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Store(path, MAP_BYTES)

    def reopen(self) -> Store:
        self.store.close()
        self.store = Store(self.path, MAP_BYTES)
        return self.store


def scenarios() -> list[Path]:
    return sorted(FOLDER.glob("*.txt"))


def tell(path: Path, world: World) -> list[tuple[str, str]]:
    scenario = Scenario(world)
    return [
        (commands, "" if commands.startswith("#") else scenario.run(commands))
        for commands, _ in blocks(path.read_text())
    ]


@pytest.mark.parametrize("disk", ["memory", "store", "store, a checkpoint in every turn"])
@pytest.mark.parametrize("path", scenarios(), ids=lambda path: path.stem)
def test_it_goes_as_the_scenario_says(path: Path, disk: str, tmp_path: Path) -> None:
    limits = Limits(checkpoint_entries=1, cache_bytes=0) if "checkpoint" in disk else Limits()
    if disk == "memory":
        told = tell(path, World(MemoryDisk(), limits))
    else:
        folder = Folder(tmp_path)
        told = tell(path, World(folder.store, limits, folder.reopen))
        folder.store.close()
    if os.environ.get("SCENARIOS_REWRITE"):
        path.write_text(written(told))
    expected: list[Any] = [said for _, said in blocks(path.read_text())]
    assert written(told) == path.read_text(), "see the transcript above; SCENARIOS_REWRITE=1 takes it over"
    assert [said for _, said in told] == expected


def test_there_are_scenarios_and_each_tells_something() -> None:
    assert len(scenarios()) >= 14
    for path in scenarios():
        assert path.read_text().startswith("#"), f"{path.name} does not say what it is about"
