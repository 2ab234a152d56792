"""What falls due: nothing grows without end, and a node that was stopped for a while blames nobody for it."""

import pytest
from kit.world import Client, World

from penstock.broker.daemon import Clock
from penstock.broker.desk import Limits
from penstock.broker.parking import BLANKS_MAX, Parked, Parking
from penstock.peers import wire


def test_outcomes_are_forgotten_as_fast_as_jobs_end() -> None:
    """Also when far more jobs end than one command forgets."""
    world = World()
    client = Client(world, "ana")
    client.do("create", name="jobs", kind="queue", options={"result_ttl_ms": 1_000})
    for _ in range(1_500):
        client.append("jobs", b"x")
        offset = client.pull("jobs").ok
        client.do("job_cancel", queue="jobs", offset=offset["ranges"][0][0])
    world.advance(20_000)
    queue = world.node.desk.state.queues["jobs"]
    assert list(queue.outcomes.after(0)) == []
    world.node.desk.limits.checkpoint_entries = 1
    client.do("pause", name="jobs")
    assert len(world.disk.log) < 10
    assert not world.disk.steps
    assert not world.disk.outcomes


def test_a_topic_is_trimmed_as_fast_as_it_is_written() -> None:
    world = World()
    client = Client(world, "ana")
    client.do("create", name="news", kind="topic", options={"retention_ms": 1_000})
    for _ in range(3_000):
        client.append("news", b"x")
    world.advance(20_000)
    info = client.do("describe", name="news").ok
    assert (info["first"], info["next"], info["bytes"]) == (3_000, 3_000, 0)


def test_a_session_that_falls_silent_ends_and_its_leases_return_as_failures() -> None:
    world = World(limits=Limits(session_timeout_ms=10_000))
    ana, bob = Client(world, "ana"), Client(world, "bob")
    ana.do("create", name="jobs", kind="queue")
    ana.append("jobs", b"x")
    assert ana.pull("jobs", lease_ms=600_000).offsets == [0]
    for _ in range(12):
        world.advance(1_000)
        bob.do("ping")
    assert bob.pull("jobs").ok["ranges"][0][4] == 1
    assert ana.do("ping").status == "SessionExpired"


def test_a_stopped_node_hears_first_what_was_said_meanwhile() -> None:
    """SIGSTOP, or a disk that hung: leases and sessions whose renewal waits in the socket must not end."""
    world = World(limits=Limits(session_timeout_ms=10_000))
    ana = Client(world, "ana")
    ana.do("create", name="jobs", kind="queue")
    ana.append("jobs", b"x")
    lease = ana.pull("jobs", lease_ms=5_000).ok["lease"]
    world.now_ms += 30_000  # no turn in between
    world.turn()
    assert ana.do("extend", leases=[lease], lease_ms=5_000).ok["lost"] == ()
    world.advance(3_000)
    assert ana.do("ack", lease=lease, ranges=[[0, 1]]).ok == {}


def test_a_node_that_was_stopped_still_ends_leases_that_nobody_renews() -> None:
    world = World()
    ana = Client(world, "ana")
    ana.do("create", name="jobs", kind="queue")
    ana.append("jobs", b"x")
    lease = ana.pull("jobs", lease_ms=5_000).ok["lease"]
    world.now_ms += 30_000
    world.turn()
    world.advance(2_000)
    assert ana.do("ack", lease=lease, ranges=[[0, 1]]).status == "LeaseLost"


@pytest.mark.parametrize("checkpointed", [False, True])
def test_rule_10_a_lease_goes_on_with_what_was_left_of_it_when_nobody_could_renew_it(checkpointed: bool) -> None:
    world = World()
    ana = Client(world, "ana")
    ana.do("create", name="jobs", kind="queue")
    ana.append("jobs", b"x")
    lease = ana.pull("jobs", lease_ms=5_000).ok["lease"]
    world.restart(clean=checkpointed)
    world.now_ms += 60_000
    world.restart(clean=False)
    world.advance(4_000)
    back = Client(world, "ana", ana.session)
    assert back.do("ack", lease=lease, ranges=[[0, 1]]).ok == {}


def test_an_idle_node_sleeps() -> None:
    world = World()
    client = Client(world, "ana")
    client.do("create", name="jobs", kind="queue")
    turns = world.node.counters.turns
    world.advance(30_000)
    assert world.node.counters.turns - turns <= 40


def test_time_goes_on_although_the_wall_was_once_ahead() -> None:
    clock = Clock()
    ahead_ms = clock.now_ms() + 86_400_000
    clock.not_before(ahead_ms)
    assert 0 <= clock.now_ms() - ahead_ms < 60_000
    clock.not_before(0)
    assert clock.now_ms() >= ahead_ms


def test_answered_pulls_leave_nothing_behind_one_that_waits_long() -> None:
    """A consumer that asks again and again behind a patient one, and one whose pulls could wait an hour but do not."""
    parking = Parking()

    def parked(sequence: int, wait_ms: int) -> Parked:
        return Parked(("jobs", ""), "pull", b"r", 1, sequence, {}, wait_ms)

    parking.add(parked(0, 3_600_000))
    for sequence in range(1, 20_000):
        parking.add(parked(sequence, 3_600_000))
        parking.remove(1, sequence)
    assert sum(map(len, parking._lines.values())) <= BLANKS_MAX + 3
    assert len(parking._deadlines) <= BLANKS_MAX + 3
    first = parking.first(("jobs", ""))
    assert first is not None
    assert first.sequence == 0
    assert [it.sequence for it in parking.due(3_600_000)] == [0]


def test_room_in_the_window_wakes_whoever_waits_for_it() -> None:
    """Also when it comes by a cancel or a reject, not by an ack."""
    for verb in ("ack", "reject", "job_cancel", "release", "nack"):
        world = World(limits=Limits(in_flight_max=1))
        ana, bob = Client(world, "ana"), Client(world, "bob")
        ana.do("create", name="jobs", kind="queue")
        ana.append("jobs", b"one", b"two")
        lease = ana.pull("jobs").ok["lease"]
        waiting = bob.ask("pull", queue="jobs", messages=1, wait_ms=60_000)
        assert bob.heard() == []
        if verb == "job_cancel":
            ana.do(verb, queue="jobs", offset=0)
        else:
            ana.do(verb, lease=lease, ranges=[[0, 1]])
        (reply,) = bob.heard()
        assert reply.sequence == waiting
        assert len(reply.offsets) == 1, verb


def test_who_waits_for_a_job_is_answered_when_it_ends_without_an_outcome() -> None:
    for verb in ("ack", "purge", "delete"):
        world = World()
        ana, bob = Client(world, "ana"), Client(world, "bob")
        ana.do("create", name="jobs", kind="queue")
        ana.append("jobs", b"one")
        if verb == "ack":
            lease = ana.pull("jobs").ok["lease"]
        bob.ask("job_result", queue="jobs", offset=0, wait_ms=60_000)
        assert bob.heard() == []
        if verb == "ack":
            ana.do("ack", lease=lease, ranges=[[0, 1]])
        else:
            ana.do(verb, name="jobs")
        (reply,) = bob.heard()
        assert (reply.status if verb == "delete" else reply.ok["status"]) == (
            "NotFound" if verb == "delete" else "expired"
        )


def test_the_longest_name_has_reachable_dead_letters() -> None:
    world = World()
    client = Client(world, "ana")
    name = "x" * 200
    assert client.do("create", name=name, kind="queue").status == "ok"
    client.append(name, b"poison")
    delivery = client.pull(name).ok
    client.do("reject", lease=delivery["lease"], ranges=[[0, 1]])
    assert client.pull(name + ".dead").bodies == [b"poison"]
    assert client.do("create", name="x" * 201, kind="queue").status == "InvalidArgument"


def test_a_pull_that_waits_on_a_deleted_queue_is_told_even_if_the_name_is_taken_anew_at_once() -> None:
    world = World()
    ana, bob = Client(world, "ana"), Client(world, "bob")
    ana.do("create", name="jobs", kind="queue")
    bob.ask("pull", queue="jobs", messages=1, wait_ms=60_000)
    requests = [("delete", {"name": "jobs"}), ("create", {"name": "jobs", "kind": "queue"})]
    world.turn([(ana.route, wire.request(op, ana.number(op), args)) for op, args in requests])
    (reply,) = bob.heard()
    assert reply.status == "NotFound"
