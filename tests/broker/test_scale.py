"""Many queues, groups and waiting consumers: what is not concerned is not looked at. Counted in steps, not in time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from kit.world import Client, World

from penstock.broker import upkeep
from penstock.broker.desk import Limits
from penstock.peers import wire

FEW, MANY = 20, 1_000


def steps(action: Callable[[], Any]) -> int:
    """How many lines of Python it takes; each round of a loop counts."""
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


def publish(client: Client, queue: str) -> Callable[[], Any]:
    """One message, in a turn of its own."""
    return lambda: client.append(queue, b"x")


def crowded(waiting: int) -> tuple[World, Client]:
    """So many consumers parked on one queue, over several sessions."""
    world = World(limits=Limits(parked=64, session_timeout_ms=3_600_000))
    ana = Client(world, "ana")
    ana.do("create", name="jobs", kind="queue")
    ana.append("jobs", b"x")  # whatever is made at the first message is there
    ana.do("purge", name="jobs")
    for number in range(0, waiting, 50):
        client = Client(world, f"c{number}")
        pull = {"queue": "jobs", "messages": 1, "wait_ms": 600_000}
        heard = [wire.request("pull", -1 - at, pull) for at in range(min(50, waiting - number))]
        world.turn([(client.route, frames) for frames in heard])
    assert len(world.node.waiting) == waiting
    return world, ana


def test_a_publish_wakes_one_of_a_thousand_and_looks_at_no_other() -> None:
    taken = {}
    for waiting in (FEW, MANY):
        world, ana = crowded(waiting)
        taken[waiting] = steps(publish(ana, "jobs"))
        assert len(world.node.waiting) == waiting - 1
        assert [len(world.replies.get(b"c0", []))] == [1], "first come, first served"
    assert taken[MANY] <= 1.1 * taken[FEW], taken


def test_a_wait_that_ends_costs_the_same_among_many() -> None:
    taken = {}
    for waiting in (FEW, MANY):
        world, ana = crowded(waiting)
        call_off = {"queue": "jobs", "messages": 1, "wait_ms": 0}
        frames = wire.request("pull", -7, call_off)  # in the middle of the line
        taken[waiting] = steps(lambda world=world, frames=frames: world.turn([(b"c0", frames)]))  # type: ignore[misc]
        assert len(world.node.waiting) == waiting - 1
        ana.append("jobs", *[b"x"] * waiting)
        assert len(world.node.waiting) == 0, "all others are served"
    assert taken[MANY] <= 1.1 * taken[FEW], taken


def test_a_publish_to_a_topic_looks_at_the_groups_where_somebody_waits() -> None:
    taken = {}
    for groups in (FEW, MANY):
        world = World()
        ana, bob = Client(world, "ana"), Client(world, "bob")
        ana.do("create", name="news", kind="topic")
        for number in range(groups):
            ana.do("group_create", topic="news", group=f"g{number}")
        ana.append("news", b"x")
        assert bob.pull("news", group="g7").offsets == [0]
        waits = bob.ask("pull", queue="news", group="g7", messages=1, wait_ms=60_000)
        taken[groups] = steps(publish(ana, "news"))
        assert [reply.sequence for reply in bob.heard()] == [waits]
    assert taken[MANY] <= 1.1 * taken[FEW], taken


def test_a_checkpoint_of_many_groups_with_leases_costs_in_proportion() -> None:
    taken = {}
    for groups in (100, MANY):
        world = World()
        ana = Client(world, "ana")
        ana.do("create", name="news", kind="topic")
        ana.append("news", b"x")
        for number in range(groups):
            ana.do("group_create", topic="news", group=f"g{number}")
            ana.pull("news", group=f"g{number}")
        taken[groups] = steps(world.digest)
    assert taken[MANY] <= 1.2 * taken[100] * MANY / 100, taken


def test_one_of_ten_thousand_queues_is_published_to_as_a_lone_one() -> None:
    taken = {}
    for number in (1, 10_000):
        world = World()
        ana = Client(world, "ana")
        many(world, ana, number)
        ana.append("q0", b"x")
        taken[number] = steps(publish(ana, "q0"))
    assert taken[10_000] <= 1.1 * taken[1], taken


def many(world: World, client: Client, number: int) -> None:
    heard = []
    for at in range(number):
        client.sequence += 1
        heard.append((client.route, wire.request("create", client.sequence, {"name": f"q{at}", "kind": "queue"})))
    world.turn(heard)
    assert all(reply.status == "ok" for reply in client.heard())


def test_thousands_of_queues_are_looked_over_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(limits=Limits(session_timeout_ms=3_600_000))
    ana = Client(world, "ana")
    many(world, ana, 3_000)
    looked: list[str] = []
    aged = upkeep._aged
    monkeypatch.setattr(upkeep, "_aged", lambda queue, now_ms: (looked.append(queue.name), aged(queue, now_ms))[1])
    most = 0
    for _ in range(120):
        before = len(looked)
        world.advance(50)
        most = max(most, len(looked) - before)
    assert most <= 2 * upkeep.AGED_MAX
    assert len(set(looked)) == 3_000, "and within seconds all of them"


def test_the_list_of_thousands_of_queues_comes_in_pages() -> None:
    world = World()
    ana = Client(world, "ana")
    many(world, ana, 2_500)
    found: list[str] = []
    pages = 0
    more = True
    while more:
        body = ana.do("list", kind="queue", after=found[-1] if found else "").ok
        found += [item["name"] for item in body["items"]]
        more, pages = body["more"], pages + 1
    assert found == sorted(f"q{at}" for at in range(2_500))
    assert pages == 3


def test_topics_with_many_groups_make_short_pages() -> None:
    world = World()
    ana = Client(world, "ana")
    for topic in ("a", "b", "c"):
        ana.do("create", name=topic, kind="topic")
        for number in range(600):
            ana.do("group_create", topic=topic, group=f"g{number}")
    assert [item["name"] for item in ana.do("list").ok["items"]] == ["a"]
    assert ana.do("list", after="b").ok["more"] is False
    (group,) = ana.do("describe", name="a", group="g599").ok["groups"]
    assert group["name"] == "g599"
