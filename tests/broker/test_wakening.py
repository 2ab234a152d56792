"""Who waits is woken when the next delayed message ripens, whatever ripened and was taken before."""

from __future__ import annotations

import pytest
from kit.world import Client, World

from penstock.broker import upkeep
from penstock.peers import wire

DELAY_MS = 10_000


@pytest.mark.parametrize("taken", [True, False])
def test_a_delay_that_began_while_an_older_one_was_in_hand_wakes_who_waits(taken: bool) -> None:
    world = World()
    one, two = Client(world, "one"), Client(world, "two")
    one.do("create", kind="queue", name="q", options={})
    one.do("append", wire.pack_payload([b"a"]), queue="q", count=1, delay_ms=DELAY_MS)
    world.advance(DELAY_MS)
    if not taken:
        one.do("append", wire.pack_payload([b"b"]), queue="q", count=1, delay_ms=DELAY_MS)
    lease = one.pull("q").ok["lease"]
    if taken:
        one.do("append", wire.pack_payload([b"b"]), queue="q", count=1, delay_ms=DELAY_MS)
    one.do("ack", lease=lease, ranges=[[0, 1]])
    two.ask("pull", queue="q", messages=1, wait_ms=60_000)
    world.advance(DELAY_MS - 1)
    assert two.heard() == []
    world.advance(1)
    assert [reply.bodies for reply in two.heard()] == [[b"b"]]


def test_a_message_outlives_its_time_though_one_before_it_was_taken_and_outlived_its_own() -> None:
    world = World()
    ana = Client(world, "ana")
    ana.do("create", name="work", kind="queue")
    for body, ttl_ms in ((b"taken", 1_000), (b"waits", 5_000)):
        ana.do("append", wire.pack_payload([body]), queue="work", count=1, ttl_ms=ttl_ms)
    lease = ana.pull("work", lease_ms=60_000)
    assert lease.bodies == [b"taken"]
    world.advance(2_000)
    ana.do("append", wire.pack_payload([b"plain"]), queue="work", count=1, ttl_ms=100_000)
    world.advance(4_000)
    assert ana.do("job_status", queue="work", offsets=[1]).ok["jobs"][0]["status"] == "expired"


def test_a_message_ripens_on_time_though_a_ripe_one_before_it_was_never_taken() -> None:
    world = World()
    one, two = Client(world, "one"), Client(world, "two")
    one.do("create", kind="queue", name="q", options={})
    one.do("append", wire.pack_payload([b"cancelled"]), queue="q", count=1, delay_ms=DELAY_MS)
    one.do("append", wire.pack_payload([b"waits"]), queue="q", count=1, delay_ms=2 * DELAY_MS)
    one.do("pause", name="q")
    world.advance(DELAY_MS + 1)
    one.do("job_cancel", queue="q", offset=0)
    one.do("resume", name="q")
    two.ask("pull", queue="q", messages=1, wait_ms=60_000)
    world.advance(DELAY_MS - 2)
    assert two.heard() == []
    world.advance(1)
    assert [reply.bodies for reply in two.heard()] == [[b"waits"]]


def test_due_times_that_come_ever_earlier_leave_no_timers_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "TIMERS_MAX", 100)
    world = World()
    ana = Client(world, "ana")
    world.node.upkeep = upkeep.Upkeep(world.node.desk.state, world.now_ms)
    ana.do("create", kind="queue", name="q", options={})
    for ahead_ms in range(1_000_000, 0, -1_000):
        ana.do("append", wire.pack_payload([b"x"]), queue="q", count=1, delay_ms=ahead_ms)
        assert len(world.node.upkeep._timers) <= 102
    turns = world.node.counters.turns
    world.advance(1_000_000)
    assert world.node.desk.state.queues["q"].groups[""].has_ready(1_000, world.now_ms)
    assert world.node.desk.state.queues["q"].groups[""].shelf.ripe(world.now_ms) == 1_000
    assert world.node.counters.turns - turns < 10_000


def test_a_message_that_is_far_away_has_one_timer_however_many_ripen_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "TIMERS_MAX", 100)
    world = World()
    ana = Client(world, "ana")
    world.node.upkeep = upkeep.Upkeep(world.node.desk.state, world.now_ms)
    ana.do("create", kind="queue", name="q", options={})
    ana.do("append", wire.pack_payload([b"far"]), queue="q", count=1, delay_ms=10_000_000)
    for _ in range(300):
        ana.do("append", wire.pack_payload([b"near"]), queue="q", count=1, delay_ms=5)
        world.advance(5)
        given = ana.pull("q").ok
        ana.do("ack", lease=given["lease"], ranges=[[first, count] for first, count, *_ in given["ranges"]])
        assert len(world.node.upkeep._timers) <= 102
