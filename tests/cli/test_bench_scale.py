"""The cases of `penstock bench` about many, with a few."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.cli import bench_scale
from penstock.cli.bench_cases import Setting
from penstock.cli.exits import Refused
from penstock.client import connect


@pytest.fixture
def setting(daemon: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    for constant, value in {"QUEUES": 20, "GROUPS": 5, "PARKED": 30, "SESSIONS": 3, "RUNS": 1}.items():
        monkeypatch.setattr(bench_scale, constant, value)
    with connect(daemon.endpoint) as client:
        yield Setting(client, [daemon.endpoint], 1, 100, "fsync", name, 2_000, 0.2, daemon)


@pytest.mark.parametrize(("case", "made"), [("queues", 20), ("groups", 5)])
def test_publishing_to_one_of_many_is_measured_against_a_lone_one(setting: Setting, case: str, made: int) -> None:
    row = bench_scale.SCALE_CASES[case](setting)
    assert row["made"] == made
    assert min(row["create_rate"], row["rate"], row["lone_rate"], row["ratio"]) > 0
    assert set(bench_scale.COLUMNS[case]) <= set(row)


def test_every_message_reaches_one_of_the_parked_consumers(setting: Setting) -> None:
    row = bench_scale.parked(setting)
    assert row["clients"] == 30
    assert row["p50_ms"] > 0


def test_memory_is_measured_of_a_daemon_of_ones_own(setting: Setting) -> None:
    named = Setting(setting.client, setting.endpoints, 1, 100, "fsync", f"{setting.prefix}-named")
    with pytest.raises(Refused, match="--endpoint"):
        bench_scale.queues(named)
