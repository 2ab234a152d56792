"""The slots that tell whom to suspect."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.compute.slots import Slots, helper_slot, member_slot


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "slots"


def test_what_one_process_marks_another_one_reads(path: Path) -> None:
    ours, theirs = Slots.create(path, 3), Slots(path, 3)
    theirs.mark(helper_slot(2), 7, 40, 10)
    (running,) = ours.read_all()
    assert running[:3] == (7, 40, 10)
    assert running.started_ns > 0


def test_a_helper_that_ends_late_wipes_out_nothing_of_its_rank(path: Path) -> None:
    slots = Slots.create(path, 2)
    slots.mark(helper_slot(1), 1, 0, 1)
    slots.mark(member_slot(1), 2, 0, 1)
    slots.clear(helper_slot(1))
    assert [running.batch for running in slots.read_all()] == [2]


def test_an_idle_rank_is_not_suspected(path: Path) -> None:
    slots = Slots.create(path, 2)
    assert slots.read_all() == []
    assert slots.read(helper_slot(0)) is None
