"""What one end, or the passing of time, does to very many messages goes in steps: no turn is long, and none forgets."""

import pytest
from kit.world import Client, World

from penstock.broker import expiry, parents, upkeep
from penstock.broker.desk import Limits
from penstock.peers import wire

CHILDREN, TOLD = 50, 7
OLD, OUTDATED = 23, 5
OFTEN, NEVER = 1, 10**6  # as `checkpoint_entries`


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parents, "TOLD_MAX", TOLD)
    monkeypatch.setattr(expiry, "OUTDATE_MAX", OUTDATED)


def put(client: Client, body: bytes, **asked: object) -> None:
    assert client.do("append", wire.pack_payload([body]), queue="jobs", count=1, **asked).status == "ok"


def family(world: World, on_failure: str = "cancel") -> Client:
    """Job 0 is in hand, the others wait for it."""
    ana = Client(world, "ana")
    ana.do("create", name="jobs", kind="queue", options={"max_failures": 1})
    put(ana, b"parent")
    assert ana.pull("jobs").offsets == [0]
    for number in range(CHILDREN):
        put(ana, b"%d" % number, after=[["jobs", 0, 1]], on_failure=on_failure)
    return ana


def end_parent(world: World, client: Client, verb: str) -> None:
    lease = next(iter(world.node.desk.state.leases))
    assert client.do(verb, lease=lease, ranges=[[0, 1]]).status == "ok"


def statuses(client: Client, first: int, count: int) -> list[str]:
    told = client.do("job_status", queue="jobs", offsets=[*range(first, first + count)]).ok["jobs"]
    return [job["status"] for job in told]


def waiting(world: World) -> int:
    return sum(len(queue.held.values) for queue in world.node.desk.state.by_id.values())


@pytest.mark.parametrize("checkpoints", [OFTEN, 4, NEVER])
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize(
    ("verb", "on_failure", "status"),
    [("ack", "cancel", "queued"), ("reject", "cancel", "cancelled"), ("reject", "release", "queued")],
)
def test_the_children_of_one_job_go_in_steps_and_a_restart_goes_on_where_it_was(
    checkpoints: int, clean: bool, verb: str, on_failure: str, status: str
) -> None:
    world = World(limits=Limits(checkpoint_entries=checkpoints))
    ana = family(world, on_failure)
    end_parent(world, ana, verb)
    left, turns = waiting(world), 0
    assert CHILDREN - 2 * TOLD <= left < CHILDREN
    while left:
        world.restart(clean)
        assert waiting(world) == left
        world.turn()
        assert 0 < left - waiting(world) <= TOLD
        left, turns = waiting(world), turns + 1
    assert turns >= (CHILDREN - 2 * TOLD) // TOLD
    assert set(statuses(Client(world, "ben"), 1, CHILDREN)) == {status}
    assert not world.node.desk.state.parent_ends


def test_who_waits_for_those_that_are_ended_so_is_ended_too() -> None:
    world = World()
    ana = family(world)
    put(ana, b"grandchild", after=[["jobs", 1, CHILDREN]])
    put(ana, b"of the next generation", after=[["jobs", CHILDREN + 1, 1]])
    end_parent(world, ana, "reject")
    while waiting(world):
        world.turn()
    assert set(statuses(ana, 1, CHILDREN + 2)) == {"cancelled"}


def test_meanwhile_others_work_and_no_command_takes_longer_for_it() -> None:
    world = World()
    ana = family(world)
    ben = Client(world, "ben")
    put(ben, b"another")
    last = CHILDREN + 1
    put(ben, b"child of it", after=[["jobs", last, 1]])
    lease = ben.pull("jobs").ok["lease"]
    end_parent(world, ana, "ack")
    left = waiting(world)
    assert ben.do("ack", lease=lease, ranges=[[last, 1]]).status == "ok"
    assert left - waiting(world) == TOLD, "what the turn tells, and nothing in the ack"
    while waiting(world):
        world.turn()
    assert ben.pull("jobs", messages=100).offsets == [*range(1, last), last + 1]


def test_a_deleted_queue_and_a_cancelled_child_are_no_longer_told() -> None:
    world = World()
    ana = family(world)
    ana.do("create", name="others", kind="queue")
    ana.do("append", wire.pack_payload([b"x"]), queue="others", count=1, after=[["jobs", 0, 1]])
    end_parent(world, ana, "ack")
    assert ana.do("job_cancel", queue="jobs", offset=CHILDREN, count=1).ok["cancelled"] == 1
    ana.do("delete", name="others")
    while world.node.desk.state.parent_ends:
        world.turn()
    assert not waiting(world)
    assert statuses(ana, CHILDREN, 1) == ["cancelled"]
    assert ana.pull("jobs", messages=100).offsets == [*range(1, CHILDREN)]


@pytest.mark.parametrize("asked", [{}, {"priority": 3}, {"delay_ms": 50}, {"delay_ms": 50, "priority": 3}])
@pytest.mark.parametrize("clean", [True, False])
def test_what_outlived_its_time_ends_in_steps_and_none_of_it_is_given_any_more(
    asked: dict[str, int], clean: bool
) -> None:
    world = World()
    ana = Client(world, "ana")
    ana.do("create", name="jobs", kind="queue")
    for number in range(OLD):
        put(ana, b"%d" % number, ttl_ms=100, **asked)
    put(ana, b"lasts", ttl_ms=10_000, **asked)
    put(ana, b"for ever")
    world.now_ms += 200
    world.turn()
    assert statuses(ana, 0, OLD).count("expired") == OUTDATED
    given = [ana.pull("jobs").offsets for _ in range(2)]
    assert sorted(given) == [[OLD], [OLD + 1]]
    world.restart(clean)
    late = Client(world, "ben")
    assert late.pull("jobs", messages=100).ok["lease"] is None
    for _ in range(OLD // OUTDATED + 1):
        world.advance(1)
    assert set(statuses(late, 0, OLD)) == {"expired"}


def test_a_parked_pull_is_woken_by_what_comes_behind_the_expired() -> None:
    world = World()
    ana = Client(world, "ana")
    ana.do("create", name="jobs", kind="queue")
    for number in range(OLD):
        put(ana, b"%d" % number, ttl_ms=100, delay_ms=90)
    parked = ana.ask("pull", queue="jobs", messages=1, wait_ms=60_000)
    world.now_ms += 200
    world.turn()
    assert not [reply for reply in ana.heard() if reply.sequence == parked and reply.body.get("lease")]
    ben = Client(world, "ben")
    put(ben, b"fresh")
    assert [reply.offsets for reply in ana.heard() if reply.sequence == parked] == [[OLD]]


def test_leases_and_sessions_that_end_together_do_so_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network may take thousands of them away at once."""
    monkeypatch.setattr(upkeep, "EXPIRED_MAX", 3)
    monkeypatch.setattr(upkeep, "SILENT_MAX", 2)
    world = World(limits=Limits(session_timeout_ms=2_000))
    state = world.node.desk.state
    lost = [Client(world, f"lost{number}") for number in range(5)]
    lost[0].do("create", name="jobs", kind="queue")
    for number in range(10):
        put(lost[0], b"%d" % number)
        lost[0].pull("jobs", lease_ms=1_000)
    while len(state.leases) == 10:
        world.advance(100)
    left = [len(state.leases)]
    while state.leases:
        assert world.node.wait_ms(world.now_ms) == 0, "the next turn follows at once"
        world.turn()
        left.append(len(state.leases))
    assert left == [7, 4, 1, 0]
    while len(state.sessions) == 5:
        world.advance(100)
    left = [len(state.sessions)]
    while state.sessions:
        assert world.node.wait_ms(world.now_ms) == 0
        world.turn()
        left.append(len(state.sessions))
    assert left == [3, 1, 0]
