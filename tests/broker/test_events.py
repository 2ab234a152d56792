"""What happens is told once, in order, and with the same places on every node; what is gone is said to be gone."""

from typing import Any

import pytest
from kit.world import Client, World

from penstock.broker import events
from penstock.broker.events import TYPES, Ring, Told, types_of
from penstock.peers import wire

EVERYTHING = frozenset(TYPES)


def event(index: int, number: int = 0) -> Told:
    return (index, number), "job.queued", 0, "jobs", 0, 1, {}


def watch(client: Client, *patterns: str, **args: Any) -> list[dict[str, Any]]:
    """The events that there are, beginning with the oldest one."""
    return list(client.do("watch", patterns=list(patterns or ["*"]), limit=1000, **args).ok["events"])


def types(found: list[dict[str, Any]]) -> list[str]:
    return [it["type"] for it in found]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def ana(world: World) -> Client:
    client = Client(world, "ana")
    client.do("create", name="jobs", kind="queue", options={"max_failures": 2})
    return client


def test_the_life_of_a_job_is_told_in_order(world: World, ana: Client) -> None:
    begin = ana.do("watch", patterns=["*"], after="now").ok["next"]
    ana.append("jobs", b"a", b"b", b"c")
    lease = ana.pull("jobs", 3).ok["lease"]
    ana.do("complete", wire.pack_payload([b"r"]), lease=lease, ranges=[[0, 1]])
    ana.do("ack", lease=lease, ranges=[[1, 1]])
    ana.do("nack", lease=lease, ranges=[[2, 1]])
    lease = ana.pull("jobs").ok["lease"]
    ana.do("nack", lease=lease, ranges=[[2, 1]])
    found = [(it["type"], it["queue"], it.get("first"), it.get("count")) for it in watch(ana, after=begin)]
    assert found == [
        ("job.queued", "jobs", 0, 3),
        ("job.running", "jobs", 0, 3),
        ("job.done", "jobs", 0, 1),
        ("message.acked", "jobs", 1, 1),
        ("job.failed", "jobs", 2, 1),
        ("job.running", "jobs", 2, 1),
        ("queue.created", "jobs.dead", None, None),
        ("job.dead", "jobs", 2, 1),
    ]


def test_a_batch_is_one_event_however_large_it_is(world: World, ana: Client) -> None:
    ana.append("jobs", *[b"x"] * 5_000)
    lease = ana.pull("jobs", 5_000).ok["lease"]
    ana.do("ack", lease=lease, ranges=[[0, 5_000]])
    assert [it["count"] for it in watch(ana, "job.*", "message.*")] == [5_000, 5_000, 5_000]


def test_queues_groups_and_sessions_tell_what_becomes_of_them(world: World, ana: Client) -> None:
    begin = ana.do("watch", patterns=["*"], after="now").ok["next"]
    ana.do("configure", name="jobs", options={"max_failures": 3})
    ana.do("pause", name="jobs")
    ana.do("resume", name="jobs")
    ana.do("purge", name="jobs")
    ana.do("delete", name="jobs")
    ana.do("create", name="news", kind="topic")
    ana.do("group_create", topic="news", group="g")
    ana.do("group_delete", topic="news", group="g")
    bob = Client(world, "bob")
    bob.do("bye")
    assert types(watch(ana, after=begin)) == [
        "queue.configured", "queue.paused", "queue.resumed", "queue.purged", "queue.deleted", "topic.created",
        "group.created", "group.deleted", "session.opened", "session.ended",
    ]  # fmt: skip


def test_what_was_refused_is_no_event(world: World, ana: Client) -> None:
    begin = ana.do("watch", patterns=["*"], after="now").ok["next"]
    assert ana.do("create", name="jobs", kind="queue").status == "AlreadyExists"
    assert ana.append("nowhere", b"x").status == "NotFound"
    assert ana.do("ack", lease=9, ranges=[[0, 1]]).status == "LeaseLost"
    assert watch(ana, after=begin) == []


def test_a_watch_is_answered_when_something_comes_that_it_waits_for(world: World, ana: Client) -> None:
    bob = Client(world, "bob")
    begin = bob.do("watch", patterns=["*"], after="now").ok["next"]
    bob.ask("watch", patterns=["queue.*"], after=begin, wait_ms=60_000)
    ana.append("jobs", b"x")
    assert bob.heard() == []
    ana.do("pause", name="jobs")
    (reply,) = bob.heard()
    assert types(reply.ok["events"]) == ["queue.paused"]
    assert watch(bob, after=reply.ok["next"]) == []


def test_a_watch_whose_wait_is_over_says_up_to_where_it_looked(world: World, ana: Client) -> None:
    bob = Client(world, "bob")
    bob.ask("watch", patterns=["group.*"], after="now", wait_ms=1_000)
    ana.append("jobs", b"x")
    world.advance(1_000)
    (reply,) = bob.heard()
    assert (reply.ok["events"], reply.ok["dropped"]) == ((), False)
    assert reply.ok["next"] == watch(bob, "job.queued")[-1]["cursor"]


def test_pages_of_events_fit_together(world: World, ana: Client) -> None:
    for _ in range(10):
        ana.append("jobs", b"x")
    paged, after = [], None
    while page := ana.do("watch", patterns=["*"], after=after, limit=3).ok:
        if not page["events"]:
            break
        paged += page["events"]
        after = page["next"]
    assert paged == watch(ana)


def test_a_restart_that_replays_the_log_tells_the_same_again(world: World, ana: Client) -> None:
    ana.append("jobs", b"x")
    before = watch(ana)
    world.restart(clean=False)
    again = Client(world, "ana")
    assert watch(again)[: len(before)] == before


def test_after_a_clean_stop_a_watch_goes_on_and_lost_nothing(world: World, ana: Client) -> None:
    ana.append("jobs", b"x")
    before = watch(ana)
    world.restart(clean=True)
    again = Client(world, "ana")
    answer = again.do("watch", patterns=["*"], after=before[-1]["cursor"]).ok
    assert not answer["dropped"]
    assert types(answer["events"]) == ["node.primary", "session.opened"]


def test_events_that_went_with_a_restart_are_said_to_be_gone(world: World, ana: Client) -> None:
    cursor = watch(ana)[-1]["cursor"]
    ana.append("jobs", b"x")
    world.restart(clean=True)  # the ring is not kept, and the log behind it is gone
    answer = Client(world, "ana").do("watch", patterns=["queue.*"], after=cursor, wait_ms=60_000).ok
    assert (answer["events"], answer["dropped"]) == ((), True)


def test_a_cursor_of_a_log_that_was_lost_is_told_so(world: World, ana: Client) -> None:
    answer = ana.do("watch", patterns=["*"], after="1000000.0", wait_ms=60_000).ok
    assert answer["dropped"]
    assert answer["next"] == watch(ana)[-1]["cursor"]


def test_the_ring_keeps_the_latest_and_knows_what_it_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEPT", 10)
    monkeypatch.setattr(events, "SLACK", 5)
    ring = Ring((0, -1))
    for index in range(1, 41):
        ring.take([event(index)])
        assert len(ring) == min(index, len(ring))
        assert len(ring) <= 15
        kept, last = ring.after(ring.floor, EVERYTHING, 1000)
        assert [it.place[0] for it in kept] == list(range(ring.floor[0] + 1, index + 1))
        assert last == (index, 0)
        assert ring.holds(ring.floor)
        assert not ring.holds((ring.floor[0] - 1, 0))


def test_a_ring_whose_model_begins_anew_keeps_what_both_know() -> None:
    ring = Ring((0, -1))
    ring.take([event(1), event(2, 0), event(2, 1), event(5)])
    ring.reset((2, 0))
    assert [it.place for it in ring.after((0, -1), EVERYTHING, 10)[0]] == [(1, 0), (2, 0)]
    ring.reset((9, 0))  # a snapshot: what came between is not known here
    assert (len(ring), ring.floor, ring.last) == (0, (9, 0), (9, 0))


def test_a_pattern_means_types_and_one_that_means_none_is_refused() -> None:
    assert types_of(("job.d*", "queue.deleted")) == {"job.done", "job.dead", "queue.deleted"}
    assert types_of(("*",)) == TYPES
