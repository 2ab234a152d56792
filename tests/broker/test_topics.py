"""What of a topic is past its retention, and where reading begins, against the plainest way to find out."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st
from kit.world import Client, World

from penstock.broker import topics
from penstock.broker.desk import Limits
from penstock.broker.extents import Known
from penstock.broker.options import TOPIC, Options
from penstock.broker.queues import Queue
from penstock.testing.memory import MemoryDisk

NOW_MS = 10_000


class Batch(NamedTuple):
    messages: int
    size: int
    stamp_ms: int


batches = st.lists(st.builds(Batch, st.integers(1, 5), st.integers(1, 100), st.integers(0, NOW_MS)), max_size=30).map(
    lambda some: sorted(some, key=lambda batch: batch.stamp_ms)
)


def topic_of(some: list[Batch], options: Options) -> Queue:
    disk = MemoryDisk()
    topic = Queue(1, "news", TOPIC, options, 0, disk, Known(disk))
    for home, batch in enumerate(some, 1):
        topic.append(home, 0, batch.messages, batch.messages, batch.size, batch.stamp_ms, True, None)
    return topic


def ends(some: list[Batch]) -> list[int]:
    """The offset behind each batch."""
    return [sum(batch.messages for batch in some[: at + 1]) for at in range(len(some))]


@given(batches, *[st.none() | st.integers(1, most) for most in (NOW_MS, 500, 40)])
def test_what_is_too_old_or_too_much_goes_and_nothing_else(
    some: list[Batch], age_ms: int | None, size: int | None, messages: int | None
) -> None:
    topic = topic_of(some, Options(retention_ms=age_ms, retention_bytes=size, retention_messages=messages))
    gone = 0
    for at, (batch, end) in enumerate(zip(some, ends(some), strict=True)):
        too_old = age_ms is not None and batch.stamp_ms + age_ms <= NOW_MS
        too_much = size is not None and sum(each.size for each in some[at:]) > size and at < len(some) - 1
        if not too_old and not too_much:
            break
        gone = end
    if messages is not None:
        gone = max(gone, topic.next - messages)
    assert topics.outlived(topic, NOW_MS) == (gone, False)


@given(batches, st.integers(0, NOW_MS + 1), st.integers(0, 60))
def test_reading_since_a_time_begins_with_the_first_message_of_then_or_later(
    some: list[Batch], at_ms: int, trimmed: int
) -> None:
    topic = topic_of(some, Options())
    topic.trimmed = min(trimmed, topic.next)
    stamps = [batch.stamp_ms for batch in some for _ in range(batch.messages)]
    expected = next((at for at, stamp_ms in enumerate(stamps) if stamp_ms >= at_ms and at >= topic.trimmed), topic.next)
    assert topics.first_since(topic, at_ms) == expected


def test_a_place_in_time_is_found_on_disk_as_in_memory() -> None:
    """Most of a topic lies on disk: the search must not depend on what a node still has in memory."""
    found = []
    for entries in (1, 10**6):
        world = World(limits=Limits(checkpoint_entries=entries))
        client = Client(world, "ana")
        client.do("create", name="news", kind="topic")
        for _ in range(50):
            client.append("news", b"a", b"b")
            world.advance(10)
        start_ms = client.do("ping").ok["now_ms"] - 250
        found.append(client.do("group_create", topic="news", group="g", start="time", at=start_ms).ok["floor"])
    assert found[0] == found[1] == 50


def test_too_much_for_one_command_is_trimmed_in_several() -> None:
    world = World()
    client = Client(world, "ana")
    client.do("create", name="news", kind="topic", options={"retention_bytes": 100})
    client.do("group_create", topic="news", group="g", start="earliest")
    for _ in range(2 * topics.TRIM_MAX + 10):
        client.append("news", b"x" * 90)
    world.advance(20_000)
    info = client.do("describe", name="news").ok
    assert (info["next"] - info["first"], info["groups"][0]["ready"]) == (1, 1)
    assert info["bytes"] <= 100


def test_a_trim_cuts_leases_and_wakes_who_had_no_room() -> None:
    world = World(limits=Limits(in_flight_max=2))
    ana, bob = Client(world, "ana"), Client(world, "bob")
    ana.do("create", name="news", kind="topic", options={"retention_messages": 2})
    ana.do("group_create", topic="news", group="g", start="earliest")
    ana.append("news", b"a", b"b")
    lease = ana.pull("news", 2, group="g", lease_ms=600_000).ok["lease"]
    ana.append("news", b"c", b"d")
    waits = bob.ask("pull", queue="news", group="g", messages=9, wait_ms=60_000)
    assert bob.heard() == []
    world.advance(10_000)
    (reply,) = bob.heard()
    assert (reply.sequence, reply.bodies) == (waits, [b"c", b"d"])
    assert ana.do("ack", lease=lease, ranges=[[0, 2]]).status == "LeaseLost"


def test_where_groups_are_survives_a_restart_from_a_checkpoint() -> None:
    world = World(limits=Limits(checkpoint_entries=1))
    client = Client(world, "ana")
    client.do("create", name="news", kind="topic")
    client.do("group_create", topic="news", group="g", start="earliest")
    client.append("news", b"a", b"b", b"c")
    client.pull("news", 2, group="g")
    client.do("group_seek", topic="news", group="g", start="offset", at=1)
    world.restart(clean=False)
    again = Client(world, "ana", client.session)
    assert again.pull("news", 9, group="g").bodies == [b"b", b"c"]


LEASED = {"group": "g", "lease_ms": 600_000}


def dead_in_a_group(world: World, bodies: tuple[bytes, ...] = (b"a", b"b", b"c", b"d")) -> Client:
    """A topic with the groups g, in which 1 and 2 have died and 0 and 3 are done, and h, which has all before it."""
    client = Client(world, "ana")
    client.do("create", name="news", kind="topic", options={"max_failures": 2})
    for group in "gh":
        client.do("group_create", topic="news", group=group, start="earliest")
    client.append("news", *bodies)
    client.do("release", lease=client.pull("news", 9, **LEASED).ok["lease"])
    lease = client.pull("news", 9, **LEASED).ok["lease"]
    client.do("ack", lease=lease, ranges=[[0, 1], [3, 1]])
    client.do("reject", lease=lease, ranges=[[1, 2]])
    return client


def retried(client: Client, **args: int) -> int:
    count: int = client.do("group_retry", topic="news", group="g", **args).ok["count"]
    return count


def test_dead_letters_of_a_group_are_its_messages_again_and_of_no_other_group() -> None:
    world = World()
    client = dead_in_a_group(world)
    assert client.do("group_retry", topic="news", group="h").ok["count"] == 0
    assert retried(client, limit=1) == 1
    assert retried(client) == 1
    assert retried(client) == 0
    given = client.pull("news", 9, **LEASED)
    assert given.bodies == [b"b", b"c"]
    assert [each[2:] for each in given.ok["ranges"]] == [(3, given.ok["ranges"][0][3], 0)]  # the attempt goes on
    assert client.do("describe", name="news.dead").ok["ready"] == 0
    assert client.pull("news", 9, group="h").bodies == [b"a", b"b", b"c", b"d"]
    client.do("ack", lease=given.ok["lease"], ranges=[[1, 2]])
    (group, _) = client.do("describe", name="news").ok["groups"]
    assert (group["floor"], group["lag"], group["done"], group["dead"]) == (4, 0, 4, 2)


def test_dead_letters_that_came_back_outlive_a_restart() -> None:
    for entries in (1, 10_000):  # from a checkpoint, and from the log
        world = World(limits=Limits(checkpoint_entries=entries))
        client = dead_in_a_group(world)
        assert retried(client, limit=1) == 1
        world.restart(clean=False)
        again = Client(world, "ana", client.session)
        assert again.pull("news", 9, **LEASED).bodies == [b"b"]
        assert retried(again) == 1
        assert again.pull("news", 9, **LEASED).bodies == [b"c"]


def test_what_died_again_can_be_retried_again() -> None:
    client = dead_in_a_group(World())
    for _ in range(3):
        assert retried(client) == 2
        lease = client.pull("news", 9, **LEASED).ok["lease"]
        assert client.do("nack", lease=lease, ranges=[[1, 2]], delay_ms=0).ok["dead"] == 0
        lease = client.pull("news", 9, **LEASED).ok["lease"]
        assert client.do("nack", lease=lease, ranges=[[1, 2]], delay_ms=0).ok["dead"] == 2


def test_a_letter_whose_message_is_past_its_retention_stays() -> None:
    world = World()
    client = dead_in_a_group(world)
    client.do("configure", name="news", options={"retention_messages": 2})
    world.advance(10_000)
    assert retried(client) == 1
    assert client.pull("news", 9, **LEASED).bodies == [b"c"]
    assert client.do("peek", name="news.dead").bodies == [b"b"]


def test_a_letter_of_a_topic_that_was_deleted_is_none_of_its_successor() -> None:
    world = World()
    client = dead_in_a_group(world)
    client.do("delete", name="news")
    again = dead_in_a_group(world, (b"A", b"B", b"C", b"D"))
    assert retried(again) == 2
    assert again.pull("news", 9, **LEASED).bodies == [b"B", b"C"]
    assert again.do("peek", name="news.dead").bodies == [b"b", b"c"]


def test_a_letter_that_somebody_has_leased_stays_his() -> None:
    client = dead_in_a_group(World())
    lease = client.pull("news.dead", 1, lease_ms=600_000).ok["lease"]
    assert retried(client) == 1
    assert client.do("ack", lease=lease, ranges=[[0, 1]]).status == "ok"


def test_what_a_group_has_before_it_anyway_comes_once() -> None:
    client = dead_in_a_group(World())
    client.do("group_seek", topic="news", group="g", start="earliest")
    assert retried(client) == 2
    assert client.pull("news", 9, **LEASED).bodies == [b"a", b"b", b"c", b"d"]
    assert client.do("describe", name="news.dead").ok["ready"] == 0


def test_a_retried_message_waits_until_its_key_is_free() -> None:
    client = Client(World(), "ana")
    client.do("create", name="news", kind="topic", options={"ordered_by": "key"})
    client.do("group_create", topic="news", group="g", start="earliest")
    client.append("news", b"a", b"b", headers=[{"penstock-key": "x"}] * 2)
    client.do("reject", lease=client.pull("news", 9, **LEASED).ok["lease"], ranges=[[0, 1]])
    later = client.pull("news", 9, **LEASED)
    assert later.bodies == [b"b"]
    assert retried(client) == 1
    assert client.pull("news", 9, **LEASED).bodies == []
    client.do("ack", lease=later.ok["lease"], ranges=[[1, 1]])
    assert client.pull("news", 9, **LEASED).bodies == [b"a"]


def test_a_queue_has_no_groups_to_retry() -> None:
    client = dead_in_a_group(World())
    assert client.do("group_retry", topic="news.dead", group="g").status == "InvalidArgument"
    assert client.do("group_retry", topic="news", group="none").status == "NotFound"
