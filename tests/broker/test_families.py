"""Who waits for whom, against a plain list of pairs; and what of it a checkpoint writes."""

from __future__ import annotations

from random import Random

import pytest
from kit.world import Client, World

from penstock.broker.cells import AWAITED, HELD
from penstock.broker.dependents import Child, Dependents, ParentEnd
from penstock.broker.desk import Limits
from penstock.peers import wire

OFFSETS = 5_000
WIDTHS = (1, 1, 1, 2, 700, 3_000)


class Plain:
    """For each child, and each time it named a stretch: the offsets that have not ended."""

    def __init__(self) -> None:
        self.waits: list[tuple[Child, set[int]]] = []

    def ended(self, first: int, end: int) -> dict[Child, int]:
        told: dict[Child, int] = {}
        for child, left in self.waits:
            gone = {offset for offset in left if first <= offset < end}
            left -= gone
            if gone:
                told[child] = told.get(child, 0) + len(gone)
        self.waits = [(child, left) for child, left in self.waits if left]
        return told


def restored(dependents: Dependents, disk: dict[bytes, bytes]) -> Dependents:
    """What a restart knows of it, after a checkpoint."""
    for key, value in dependents.awaited.take_changes(b"").items():
        if value is None:
            disk.pop(key, None)
        else:
            disk[key] = value
    again = Dependents()
    again.awaited.restore(sorted(disk.items()))
    again.restored()
    assert again.awaited.pack() == dependents.awaited.pack()
    return again


def counted(told: list[ParentEnd]) -> dict[Child, int]:
    counts: dict[Child, int] = {}
    for end in told:
        counts[end.queue_id, end.first] = counts.get((end.queue_id, end.first), 0) + end.ended
    return counts


@pytest.mark.parametrize("seed", range(20))
def test_each_child_is_told_of_each_of_its_parents_once_however_they_end_and_who_restarts(seed: int) -> None:
    dice = Random(seed)
    dependents, plain, disk = Dependents(), Plain(), dict[bytes, bytes]()
    at = 0
    while at < OFFSETS:
        for _ in range(dice.randrange(6)):
            first = dice.randrange(at, OFFSETS)
            end = min(OFFSETS, first + dice.choice(WIDTHS))
            child = dice.randrange(1, 3), dice.randrange(40)
            for _ in range(dice.choice((1, 1, 1, 2))):  # who names one twice is told twice
                dependents.add(first, end, child, end - first)
                plain.waits.append((child, set(range(first, end))))
        stop = min(OFFSETS, at + dice.choice((1, 1, 30, 2_000)))
        assert bool(dependents) == bool(plain.waits)
        assert counted(dependents.ended(at, stop, "done")) == plain.ended(at, stop)
        at = stop
        if dice.randrange(3) == 0:
            dependents = restored(dependents, disk)
    assert not dependents
    restored(dependents, disk)
    assert not disk


def test_who_restarted_tells_in_the_same_order_as_who_did_not() -> None:
    dependents = Dependents()
    for child in ((2, 7), (1, 9), (2, 3), (1, 1)):
        dependents.add(0, 10, child, 10)
        dependents.add(4, 5, child, 1)
    again = restored(dependents, {})
    assert dependents.ended(0, 10, "dead") == again.ended(0, 10, "dead") != []


def test_of_those_who_wait_a_checkpoint_writes_what_changed_alone() -> None:
    world = World(limits=Limits(checkpoint_entries=10**6))
    ana = Client(world, "ana")
    ana.do("create", name="jobs", kind="queue")
    ana.append("jobs", *[b"parent"] * 200)
    lease = ana.pull("jobs", messages=200).ok["lease"]
    for offset in range(200):
        ana.do("append", wire.pack_payload([b"child"]), queue="jobs", count=1, after=[["jobs", offset, 1]])

    def written() -> list[tuple[int, int]]:
        """(cells that are written, cells that go), of those who wait and of what they wait for."""
        world.node.desk.limits.checkpoint_entries = 1
        made = world.turn().writes.checkpoint
        world.node.desk.limits.checkpoint_entries = 10**6
        assert made is not None
        kinds = [[value for key, value in made.cells.items() if key[:1] == kind] for kind in (HELD, AWAITED)]
        return [(len(values) - values.count(None), values.count(None)) for values in kinds]

    assert written() == [(200, 0), (200, 0)]
    ana.do("ack", lease=lease, ranges=[[0, 3]])
    assert written() == [(0, 3), (0, 3)]
    ana.do("purge", name="jobs")
    assert written() == [(0, 197), (0, 0)]
    ana.do("delete", name="jobs")
    world.advance(100)
    written()
    assert not [key for key in world.disk.cell_rows if key[:1] in (HELD, AWAITED)]
