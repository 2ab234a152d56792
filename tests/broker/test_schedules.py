"""Schedules: each due time makes one job, whatever becomes of the node; what was missed is made up for as was asked."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from kit.world import START_MS, Client, World

from penstock.broker import checkpoint, planning, schedules
from penstock.broker.checkpoint import Writes
from penstock.broker.cron import Calendar
from penstock.broker.desk import Limits
from penstock.broker.model import Model
from penstock.broker.schedules import Timing
from penstock.peers import messages as m
from penstock.peers import wire
from penstock.peers.errors import InvalidArgument
from penstock.peers.log import Entry
from penstock.testing.memory import MemoryDisk

MINUTE_MS = 60_000
JOB = wire.pack_payload([b"report"], [{"penstock-task": "nightly"}])


@pytest.fixture
def world() -> World:
    return World(limits=Limits(session_timeout_ms=10**10))


@pytest.fixture
def ana(world: World) -> Client:
    client = Client(world, "ana")
    client.do("create", name="jobs", kind="queue")
    return client


def add(client: Client, name: str = "tick", **args: Any) -> dict[str, Any]:
    if "cron" not in args:
        args.setdefault("every_ms", MINUTE_MS)
    return client.do("schedule_add", JOB, name=name, queue="jobs", **args).ok


def show(client: Client, name: str = "tick") -> dict[str, Any]:
    return client.do("schedule", name=name).ok


def dues(client: Client) -> list[int]:
    """Take all jobs; for which due times they are, counted from the start of the world."""
    found: list[int] = []
    while (delivery := client.pull("jobs", 1_000)).ok["lease"] is not None:
        found += [header["penstock-due"] - START_MS for header in delivery.headers or [] if header is not None]
        ranges = [list(each[:2]) for each in delivery.ok["ranges"]]
        assert client.do("ack", lease=delivery.ok["lease"], ranges=ranges).status == "ok"
    return found


def sleep(world: World, ms: int) -> None:
    """The node is off for a while."""
    world.now_ms += ms


# -- firing ------------------------------------------------------------------------------------------------------------


def test_a_schedule_makes_its_job_at_each_due_time(world: World, ana: Client) -> None:
    info = add(ana)
    assert (info["next_ms"], info["fired"]) == (START_MS + MINUTE_MS, 0)
    world.advance(3 * MINUTE_MS - 1)
    delivery = ana.pull("jobs", 10)
    assert delivery.bodies == [b"report"] * 2
    assert delivery.headers == [
        {"penstock-task": "nightly", "penstock-schedule": "tick", "penstock-due": START_MS + MINUTE_MS},
        {"penstock-task": "nightly", "penstock-schedule": "tick", "penstock-due": START_MS + 2 * MINUTE_MS},
    ]
    assert [each[3] for each in delivery.ok["ranges"]] == [START_MS + MINUTE_MS, START_MS + 2 * MINUTE_MS]
    info = show(ana)
    assert (info["fired"], info["last_offset"], info["next_ms"]) == (2, 1, START_MS + 3 * MINUTE_MS)


def test_a_consumer_that_waits_is_given_the_job_at_its_due_time(world: World, ana: Client) -> None:
    add(ana)
    ana.ask("pull", queue="jobs", messages=1, wait_ms=10 * MINUTE_MS)
    world.advance(MINUTE_MS)
    (reply,) = ana.heard()
    assert reply.bodies == [b"report"]


def test_a_cron_line_falls_due_in_its_time_zone(world: World, ana: Client) -> None:
    """The world begins at 00:16:40 on 1970-01-01, in UTC; Berlin is an hour ahead."""
    assert add(ana, cron="0 2 * * *", tz="Europe/Berlin")["next_ms"] == 3_600_000
    assert add(ana, "utc", cron="@daily")["next_ms"] == 86_400_000


def test_a_schedule_can_be_run_beside_its_due_times(world: World, ana: Client) -> None:
    add(ana)
    world.advance(1_000)
    assert ana.do("schedule_run", name="tick").ok == {"queue": "jobs", "offset": 0}
    assert show(ana)["next_ms"] == START_MS + MINUTE_MS
    world.advance(MINUTE_MS)
    assert dues(ana) == [1_000, MINUTE_MS]


def test_jobs_stay_when_their_schedule_goes(world: World, ana: Client) -> None:
    add(ana)
    world.advance(MINUTE_MS)
    assert ana.do("schedule_remove", name="tick").status == "ok"
    world.restart(clean=True)
    world.restart(clean=True)
    again = Client(world, "bob")
    assert dues(again) == [MINUTE_MS]
    world.restart(clean=True)
    home = 4  # of the schedule: behind the first entry of the term, the session, and the queue
    assert home not in world.disk.log, "nothing lives in the entry any more"


def test_the_job_of_a_schedule_outlives_the_log_around_it(world: World, ana: Client) -> None:
    add(ana)
    for _ in range(3):
        world.restart(clean=True)
    world.advance(MINUTE_MS)
    again = Client(world, "bob")
    assert again.pull("jobs").bodies == [b"report"]
    assert again.do("schedule", name="tick").bodies == [b"report"]


def test_a_replaced_schedule_begins_anew(world: World, ana: Client) -> None:
    add(ana)
    assert ana.do("schedule_add", JOB, name="tick", queue="jobs", every_ms=1_000).status == "AlreadyExists"
    world.advance(MINUTE_MS)
    info = add(ana, every_ms=1_000, replace=True)
    assert (info["fired"], info["next_ms"]) == (0, START_MS + MINUTE_MS + 1_000)


# -- what was missed ---------------------------------------------------------------------------------------------------


def test_once_makes_one_job_for_all_that_was_missed_and_it_is_for_the_latest(world: World, ana: Client) -> None:
    add(ana, missed="once")
    sleep(world, 10 * MINUTE_MS + 5)
    world.restart(clean=False)
    world.advance(MINUTE_MS)
    assert dues(Client(world, "bob")) == [10 * MINUTE_MS, 11 * MINUTE_MS]


def test_all_makes_one_for_each(world: World, ana: Client) -> None:
    add(ana, missed="all")
    sleep(world, 10 * MINUTE_MS + 5)
    world.restart(clean=False)
    world.advance(MINUTE_MS)
    assert dues(Client(world, "bob")) == [n * MINUTE_MS for n in range(1, 12)]


def test_all_has_a_bound(world: World, ana: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "ARREARS_MAX", 5)
    monkeypatch.setattr(planning, "FIRES_MAX", 2)
    add(ana, missed="all")
    sleep(world, 100 * MINUTE_MS + 5)
    world.restart(clean=False)
    world.advance(MINUTE_MS)
    assert dues(Client(world, "bob")) == [*(n * MINUTE_MS for n in range(1, 6)), 101 * MINUTE_MS]


def test_skip_makes_none_for_what_is_more_than_a_minute_late(world: World, ana: Client) -> None:
    add(ana, missed="skip", every_ms=10 * MINUTE_MS)
    sleep(world, 12 * MINUTE_MS)
    world.restart(clean=False)
    world.advance(9 * MINUTE_MS)
    bob = Client(world, "bob")
    assert dues(bob) == [20 * MINUTE_MS]
    assert show(bob)["skipped"] == 1


def test_skip_takes_a_fail_over_for_no_miss(world: World, ana: Client) -> None:
    add(ana, missed="skip")
    sleep(world, MINUTE_MS + 5_000)
    world.restart(clean=False)
    world.advance(1)
    assert dues(Client(world, "bob")) == [MINUTE_MS]


def test_a_paused_schedule_makes_nothing_and_has_missed_what_passed(world: World, ana: Client) -> None:
    add(ana)
    assert ana.do("schedule_pause", name="tick").ok["next_ms"] is None
    world.advance(5 * MINUTE_MS)
    assert dues(ana) == []
    assert ana.do("schedule_resume", name="tick").ok["paused"] is False
    world.advance(1)
    assert dues(ana) == [5 * MINUTE_MS]


# -- what its jobs are like -------------------------------------------------------------------------------------------


def test_its_jobs_have_the_properties_it_was_given(world: World, ana: Client) -> None:
    info = add(ana, priority=5, ttl_ms=30_000, max_failures=1)
    assert info["properties"] == {"priority": 5, "ttl_ms": 30_000, "max_failures": 1}
    world.restart(clean=True)
    bob = Client(world, "bob")
    world.advance(MINUTE_MS - 1)
    bob.append("jobs", b"plain")
    world.advance(1)
    assert bob.pull("jobs", 1).bodies == [b"report"], "its priority puts it ahead"
    world.advance(MINUTE_MS + 30_000)
    statuses = [it["status"] for it in bob.do("job_status", queue="jobs", offsets=[1, 2]).ok["jobs"]]
    assert statuses[1] == "expired"


def test_a_dead_job_and_its_second_life_still_tell_which_schedule_made_it(world: World, ana: Client) -> None:
    add(ana, max_failures=1)
    world.advance(MINUTE_MS)
    made = {"penstock-task": "nightly", "penstock-schedule": "tick", "penstock-due": START_MS + MINUTE_MS}
    lease = ana.pull("jobs").ok["lease"]
    assert ana.do("nack", lease=lease, ranges=[[0, 1]]).ok["dead"] == 1
    (dead,) = ana.do("peek", name="jobs.dead").headers or []
    assert dead is not None
    assert {name: dead[name] for name in made} == made
    ana.do("schedule_pause", name="tick")
    assert ana.do("job_retry", queue="jobs", offset=0).status == "ok"
    assert ana.pull("jobs").headers == [made]


def test_a_queue_in_the_order_of_keys_keeps_it(world: World, ana: Client) -> None:
    ana.do("create", name="keyed", kind="queue", options={"ordered_by": "key"})
    keyed = wire.pack_payload([b"report"], [{"penstock-key": "k"}])
    reply = ana.do("schedule_add", keyed, name="keyed", queue="keyed", every_ms=MINUTE_MS, priority=1)
    assert reply.status == "InvalidArgument"
    assert ana.do("schedule_add", keyed, name="keyed", queue="keyed", every_ms=MINUTE_MS).status == "ok"
    world.restart(clean=True)
    bob = Client(world, "bob")
    world.advance(2 * MINUTE_MS)
    assert len(bob.pull("keyed", 10).bodies) == 1, "one of a key at a time"


@pytest.mark.parametrize("wrong", [{"delay_ms": 5}, {"due_ms": 5}, {"ids": ["x"]}, {"after": [["jobs", 0, 1]]}])
def test_what_is_for_single_jobs_is_refused(world: World, ana: Client, wrong: dict[str, Any]) -> None:
    reply = ana.do("schedule_add", JOB, name="tick", queue="jobs", every_ms=1_000, **wrong)
    assert reply.status == "InvalidArgument"
    assert next(iter(wrong)) in reply.body["message"]


# -- what stands in the way --------------------------------------------------------------------------------------------


def test_without_overlap_a_due_time_passes_while_the_last_job_has_not_ended(world: World, ana: Client) -> None:
    add(ana, overlap=False)
    world.advance(3 * MINUTE_MS)
    assert (show(ana)["fired"], show(ana)["skipped"]) == (1, 2)
    assert ana.do("schedule_run", name="tick").status == "InvalidArgument"
    assert dues(ana) == [MINUTE_MS]
    world.advance(MINUTE_MS)
    assert dues(ana) == [4 * MINUTE_MS]


def test_a_full_queue_is_told_and_the_schedule_goes_on(world: World, ana: Client) -> None:
    ana.do("configure", name="jobs", options={"max_messages": 1})
    add(ana)
    world.advance(2 * MINUTE_MS)
    (event,) = ana.do("watch", patterns=["schedule.skipped"]).ok["events"]
    assert event["reason"] == "queue jobs holds 1 of at most 1 messages: no room for 1"
    assert ana.do("schedule_run", name="tick").status == "QueueFull"
    assert dues(ana) == [MINUTE_MS]


def test_a_schedule_whose_queue_is_deleted_pauses_itself_and_says_why(world: World, ana: Client) -> None:
    add(ana)
    ana.do("delete", name="jobs")
    info = show(ana)
    assert (info["paused"], info["reason"]) == (True, "its queue was deleted")
    assert ana.do("schedule_resume", name="tick").status == "NotFound"
    ana.do("create", name="jobs", kind="queue")
    world.advance(MINUTE_MS)
    assert dues(ana) == []
    assert ana.do("schedule_resume", name="tick").ok["reason"] == ""
    world.advance(MINUTE_MS)
    assert dues(ana) == [MINUTE_MS, 2 * MINUTE_MS]


@pytest.mark.parametrize("queue", ["nowhere", "news"])
def test_a_schedule_needs_a_queue(world: World, ana: Client, queue: str) -> None:
    ana.do("create", name="news", kind="topic")
    reply = ana.do("schedule_add", JOB, name="tick", queue=queue, every_ms=1_000)
    assert reply.status == ("NotFound" if queue == "nowhere" else "InvalidArgument")


class NoZones(Calendar):
    """That of a node without time zones."""

    def next_ms(self, timing: Timing, after_ms: int) -> int | None:
        raise InvalidArgument("tz is 'Europe/Berlin', which is no time zone that this node knows", "")


def test_a_primary_that_does_not_know_the_time_zone_pauses_the_schedule_and_says_so(world: World, ana: Client) -> None:
    add(ana, cron="* * * * *", tz="Europe/Berlin")
    world.node.planner.calendar = NoZones()
    world.advance(2 * MINUTE_MS)
    assert show(ana)["reason"] == "tz is 'Europe/Berlin', which is no time zone that this node knows"


# -- once --------------------------------------------------------------------------------------------------------------


def test_a_command_for_another_due_time_changes_nothing(world: World, ana: Client) -> None:
    """Two primaries may both have seen that it was time: what the second one says comes too late."""
    add(ana)
    world.advance(MINUTE_MS)
    assert show(ana)["fired"] == 1
    for due_ms in (START_MS + MINUTE_MS, START_MS + 5 * MINUTE_MS):
        world.node.desk.propose(0, 0, m.FireSchedule("tick", due_ms, due_ms, due_ms + MINUTE_MS))
    world.turn()
    assert show(ana)["fired"] == 1
    assert show(ana)["next_ms"] == START_MS + 2 * MINUTE_MS


class Recorder(MemoryDisk):
    """Remembers the whole log."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Entry] = []

    def commit(self, writes: Writes) -> None:
        self.all += writes.entries
        super().commit(writes)


def test_a_replay_of_the_log_gives_the_same_state() -> None:
    disk = Recorder()
    world = World(disk)
    ana = Client(world, "ana")
    ana.do("create", name="jobs", kind="queue")
    add(ana, missed="all")
    add(ana, "alone", overlap=False, every_ms=30_000)
    sleep(world, 30_500)
    world.advance(20_000)
    ana.do("schedule_pause", name="alone")
    dues(ana)
    model = Model(disk)
    for entry in disk.all:
        model.apply(entry)
    assert checkpoint.digest(model) == world.digest()


def test_events_tell_what_becomes_of_a_schedule(world: World, ana: Client) -> None:
    add(ana)
    world.advance(MINUTE_MS)
    ana.do("schedule_pause", name="tick")
    ana.do("schedule_resume", name="tick")
    ana.do("schedule_remove", name="tick")
    found = ana.do("watch", patterns=["schedule.*"]).ok["events"]
    assert [it["type"].split(".")[1] for it in found] == ["added", "fired", "paused", "resumed", "removed"]
    assert {it["schedule"] for it in found} == {"tick"}
    assert (found[1]["first"], found[1]["count"], found[1]["due_ms"]) == (0, 1, START_MS + MINUTE_MS)


def test_lists_come_in_pages(world: World, ana: Client) -> None:
    for number in range(5):
        add(ana, f"s{number}")
    page = ana.do("schedules", limit=3).ok
    assert ([it["name"] for it in page["items"]], page["more"]) == (["s0", "s1", "s2"], True)
    page = ana.do("schedules", limit=3, after="s2").ok
    assert ([it["name"] for it in page["items"]], page["more"]) == (["s3", "s4"], False)


class Machine(RuleBasedStateMachine):
    """Schedules on a node that stops, crashes, forgets its log and is late: each due time makes one job, and no other
    time does."""

    @initialize(missed=st.sampled_from(["once", "all", "skip"]), every_s=st.integers(1, 90))
    def begin(self, missed: str, every_s: int) -> None:
        self.world = World(limits=Limits(session_timeout_ms=10**12, checkpoint_entries=20))
        self.client = Client(self.world, "ana")
        self.client.do("create", name="jobs", kind="queue")
        self.missed, self.every_ms = missed, every_s * 1000
        info = add(self.client, every_ms=self.every_ms, missed=missed)
        self.first_ms = info["next_ms"]
        self.seen: Counter[int] = Counter()
        self.was_late = False

    @rule(ms=st.integers(1, 200_000))
    def time_passes(self, ms: int) -> None:
        self.world.advance(ms)

    @rule(clean=st.booleans(), away_ms=st.sampled_from([0, 1, 5_000, 300_000]))
    def the_node_is_away(self, clean: bool, away_ms: int) -> None:
        known = self.world.node.desk.state.schedules.pack()
        self.world.restart(clean)
        assert self.world.node.desk.state.schedules.pack() == known
        sleep(self.world, away_ms)
        self.was_late |= away_ms > 0
        self.client = Client(self.world, "ana", self.client.session)
        self.world.advance(10)  # as many turns as it takes to make up for what was missed

    @rule()
    def jobs_are_done(self) -> None:
        self.seen.update(dues(self.client))

    @precondition(lambda self: not self.was_late)
    @rule(ms=st.integers(0, 100_000))
    def it_is_paused_for_a_while(self, ms: int) -> None:
        self.client.do("schedule_pause", name="tick")
        self.world.advance(ms + 1)
        self.client.do("schedule_resume", name="tick")
        self.world.advance(10)
        self.was_late = True

    @invariant()
    def each_due_time_has_made_one_job(self) -> None:
        self.seen.update(dues(self.client))
        expected = set(range(self.first_ms - START_MS, self.world.now_ms - START_MS + 1, self.every_ms))
        assert set(self.seen) <= expected
        assert set(self.seen.values()) <= {1}
        if self.missed == "all" or not self.was_late:
            assert set(self.seen) == expected
        info = show(self.client)
        assert info["fired"] == len(self.seen)
        assert info["next_ms"] > self.world.now_ms


TestSchedulesOnANodeThatFails = Machine.TestCase
TestSchedulesOnANodeThatFails.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)


def test_the_order_of_due_times_survives_any_changes() -> None:
    book = schedules.Schedules()
    for number in range(3_000):
        timing = Timing(None, "UTC", 1_000, number)
        book.put(schedules.Schedule(f"s{number % 7}", m.Append("jobs", 1, 9, True), timing, "once", True, number + 1))
    first = book.first()
    assert first is not None
    assert first.next_ms == min(it.next_ms for it in book.by_name.values())
    assert len(book._due) <= 2 * len(book.by_name) + schedules.BLANKS_MAX + 1
