"""Each text in scenarios/ is a play with its transcript. PENSTOCK_REWRITE=1 writes transcripts anew: read the diff."""

import os
from pathlib import Path

import pytest

from penstock.peers.raft import core
from raft.stage import Stage, blocks

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_goes_as_it_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "FETCH_BYTES", core.FETCH_BYTES)  # a scenario may limit it
    stage = Stage()
    played = []
    for commands, _ in blocks(path.read_text()):
        lines = [line for line in commands.splitlines() if not line.startswith("#")]
        if not lines:
            played.append(commands)
            continue
        told = [answer for line in lines if (answer := stage.play(line)) != "ok"]
        played.append(f"{commands}\n----\n" + ("\n".join(told) or "ok"))
    transcript = "\n\n".join(played) + "\n"
    if os.environ.get("PENSTOCK_REWRITE"):
        path.write_text(transcript)
    assert transcript == path.read_text()
