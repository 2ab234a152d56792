"""What a delete or a purge leaves behind goes in steps: neither a command nor a checkpoint of them is long."""

import pytest
from kit.world import Client, World

from penstock.broker import node
from penstock.broker.checkpoint import Checkpoint
from penstock.broker.desk import Limits
from penstock.broker.uniques import SWEPT_MAX
from penstock.peers import wire
from penstock.peers.messages import Delete, Sweep

IDS = 3 * SWEPT_MAX + 7
OFTEN, NEVER = 1, 10**6  # as `checkpoint_entries`


def with_ids(client: Client) -> None:
    """A queue of messages with ids."""
    client.do("create", name="jobs", kind="queue", options={"unique_ms": 1})
    for first in range(0, IDS, 100):
        some = min(100, IDS - first)
        ids = [f"id-{number}" for number in range(first, first + some)]
        payload = wire.pack_payload([b"x"] * some)
        assert client.do("append", payload, queue="jobs", count=some, ids=ids).status == "ok"


def taken_anew(world: World, client: Client) -> None:
    """Some ids belong to other messages than the disk says."""
    given = client.pull("jobs", 20).ok
    client.do("ack", lease=given["lease"], ranges=[[first, count] for first, count, *_ in given["ranges"]])
    world.now_ms += 10
    payload = wire.pack_payload([b"y"] * 10)
    assert client.do("append", payload, queue="jobs", count=10, ids=[f"id-{n}" for n in range(10)]).status == "ok"


def swept(world: World) -> list[str]:
    """The state after each of the turns that it takes to sweep everything."""
    states = [world.digest()]
    while world.node.desk.state.unswept:
        world.turn()
        states.append(world.digest())
    return states


def settled(world: World) -> None:
    """Everything that is to go has left the disk."""
    world.node.desk.limits.checkpoint_entries = OFTEN
    Client(world, "last").do("create", name="other", kind="queue")
    world.turn()


@pytest.mark.parametrize("checkpoints", [OFTEN, NEVER])
def test_the_ids_of_a_deleted_queue_go_in_steps_and_leave_nothing(checkpoints: int) -> None:
    world = World(limits=Limits(checkpoint_entries=checkpoints))
    ana = Client(world, "ana")
    with_ids(ana)
    taken_anew(world, ana)
    uniques = world.node.desk.state.queues["jobs"].uniques
    before = uniques.count
    assert before == IDS
    assert ana.do("delete", name="jobs").status == "ok"
    while uniques.count:
        assert before - uniques.count <= 2 * SWEPT_MAX, "a delete, and a sweep in the same turn"
        before = uniques.count
        world.turn()
    assert len(swept(world)) == 1
    settled(world)
    assert not [key for key in world.disk.cell_rows if key[:1] in (b"i", b"l")]


def test_how_a_deleted_queue_is_swept_does_not_depend_on_what_the_disk_of_a_node_has() -> None:
    told: list[list[str]] = []
    for checkpoints in (OFTEN, 7, NEVER):
        world = World(limits=Limits(checkpoint_entries=checkpoints))
        ana = Client(world, "ana")
        with_ids(ana)
        taken_anew(world, ana)
        ana.do("delete", name="jobs")
        told.append(swept(world))
    assert len(told[0]) > IDS // SWEPT_MAX - 1
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize("checkpoints", [OFTEN, 4, NEVER])
@pytest.mark.parametrize("clean", [True, False])
def test_a_restart_goes_on_sweeping_where_it_was(checkpoints: int, clean: bool) -> None:
    world = World(limits=Limits(checkpoint_entries=checkpoints))
    ana = Client(world, "ana")
    with_ids(ana)
    ana.do("delete", name="jobs")
    entries: list[object] = []
    while world.node.desk.state.unswept:
        world.restart(clean)
        turn = world.turn()
        entries += [entry.command for entry in turn.writes.entries]
    assert sum(isinstance(command, Sweep) for command in entries) <= IDS // SWEPT_MAX + 1
    assert not any(isinstance(command, Delete) for command in entries)
    settled(world)
    assert not [key for key in world.disk.cell_rows if key[:1] in (b"i", b"l")]


@pytest.mark.parametrize("verb", ["delete", "purge"])
def test_what_is_to_leave_the_disk_does_not_pile_up_for_one_long_checkpoint(
    monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr(node, "GONE_MAX", 600)
    world = World()
    ana = Client(world, "ana")
    ana.do("create", name="jobs", kind="queue")
    for _ in range(3_000):
        ana.append("jobs", b"x")
    world.advance(6_000)  # to disk
    made: list[Checkpoint] = []
    saved = world.disk.save
    monkeypatch.setattr(world.disk, "save", lambda checkpoint: (made.append(checkpoint), saved(checkpoint)))
    ana.do(verb, name="jobs")
    swept(world)
    settled(world)
    most = max(len(checkpoint.gone.extents) + len(checkpoint.gone.homes) for checkpoint in made)
    assert 600 <= most <= 600 + 2 * 2 * 256, "what one turn adds"
    assert not world.disk.extents
    assert len(world.disk.log) < 10
