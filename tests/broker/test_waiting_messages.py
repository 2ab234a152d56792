"""What a publish may ask for, through a whole node: each of it outlives a crash and a clean restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kit.world import Client, World

from penstock.broker.upkeep import GRACE_MS, PAUSE_MS
from penstock.peers.wire import pack_payload

Restart = Callable[[World], None]


@pytest.fixture(params=["no restart", "crash", "clean restart"])
def pause(request: pytest.FixtureRequest) -> Restart:
    """What happens between the publish and what comes of it."""
    if request.param == "no restart":
        return lambda world: None
    return lambda world: world.restart(clean=request.param == "clean restart")


def opened(**options: Any) -> tuple[World, Client]:
    world = World()
    ana = Client(world, "ana")
    ana.do("create", name="work", kind="queue", options=options)
    return world, ana


def resumed(world: World, client: Client) -> Client:
    again = Client(world, "again", client.session)
    again.other = client.other  # a pull is known by its sequence
    return again


def put(client: Client, *bodies: bytes, queue: str = "work", keys: list[str] | None = None, **asked: Any) -> Any:
    headers = None if keys is None else [{"penstock-key": key} for key in keys]
    return client.do("append", pack_payload(bodies, headers), queue=queue, count=len(bodies), **asked)


def take(client: Client, messages: int = 100, **args: Any) -> list[bytes]:
    return client.pull("work", messages, **args).bodies


def counts(client: Client) -> dict[str, int]:
    info = client.do("describe", name="work").ok
    return {name: info[name] for name in ("ready", "delayed", "waiting", "leased", "done", "dead") if info[name]}


# -- scheduling -------------------------------------------------------------------------------------------------------


def test_the_higher_priority_goes_first_and_within_one_the_older(pause: Restart) -> None:
    world, ana = opened()
    put(ana, b"plain 1", b"plain 2")
    put(ana, b"nine 1", priority=9)
    put(ana, b"five", priority=5)
    put(ana, b"nine 2", priority=9)
    pause(world)
    assert take(resumed(world, ana)) == [b"nine 1", b"nine 2", b"five", b"plain 1", b"plain 2"]


def test_a_delivery_that_is_asked_for_again_has_the_higher_priority_first_again(pause: Restart) -> None:
    world, ana = opened()
    put(ana, b"plain 1", b"plain 2")
    put(ana, b"nine", priority=9)
    put(ana, b"five 1", b"five 2", priority=5)
    put(ana, b"plain 3")
    first = ana.pull("work", 100)
    assert first.bodies == [b"nine", b"five 1", b"five 2", b"plain 1", b"plain 2", b"plain 3"]
    pause(world)
    again = resumed(world, ana).call("pull", first.sequence, {"queue": "work", "messages": 100})
    assert (again.body["lease"], again.bodies) == (first.body["lease"], first.bodies)


def test_a_time_to_live_is_no_way_to_the_front(pause: Restart) -> None:
    world, ana = opened()
    put(ana, b"1")
    put(ana, b"2", ttl_ms=20_000)
    put(ana, b"3")
    put(ana, b"4", ttl_ms=20_000)
    pause(world)
    ana = resumed(world, ana)
    assert take(ana, 3) == [b"1", b"2", b"3"]
    assert take(ana, 3) == [b"4"]


def test_a_delayed_message_is_given_when_it_is_due_to_who_waits_for_it(pause: Restart) -> None:
    world, ana = opened()
    put(ana, b"later", b"soon", delay_ms=[5_000, 1_000])
    put(ana, b"at", due_ms=world.now_ms + 3_000)
    pause(world)
    ana = resumed(world, ana)
    assert counts(ana) == {"delayed": 3}
    for expected, at_ms in ((b"soon", 1_000), (b"at", 3_000), (b"later", 5_000)):
        sequence = ana.ask("pull", queue="work", messages=10, wait_ms=10_000)
        before_ms = world.now_ms
        while not (heard := ana.heard()):
            world.advance(1)
            assert world.now_ms - before_ms <= at_ms
        assert [reply.sequence for reply in heard] == [sequence]
        assert heard[0].bodies == [expected]


def test_a_message_whose_time_to_live_is_over_is_given_to_nobody(pause: Restart) -> None:
    world, ana = opened()
    put(ana, b"short", ttl_ms=1_000)
    put(ana, b"held", ttl_ms=1_000, priority=1)
    put(ana, b"long", ttl_ms=60_000)
    pause(world)
    ana = resumed(world, ana)
    lease = ana.pull("work", 1, lease_ms=30_000)
    assert lease.bodies == [b"held"]
    world.advance(2_000)
    assert ana.do("job_status", queue="work", offsets=[0]).ok["jobs"][0]["status"] == "expired"
    ana.do("nack", lease=lease.body["lease"], ranges=[[1, 1]])
    assert ana.do("job_status", queue="work", offsets=[1]).ok["jobs"][0]["status"] == "expired", "not given again"
    assert take(ana) == [b"long"]


def test_a_message_whose_time_to_live_ends_as_somebody_asks_is_not_given() -> None:
    """Whoever asks in the very turn in which it ends, or when the daemon stood still and has yet to catch up."""
    world, ana = opened()
    put(ana, b"short", ttl_ms=1_000)
    put(ana, b"delayed", ttl_ms=1_000, delay_ms=500)
    put(ana, b"long", ttl_ms=60_000)
    world.now_ms += PAUSE_MS
    assert take(ana) == [b"long"]
    world.advance(2 * GRACE_MS)
    assert ana.do("job_status", queue="work", offsets=[0]).ok["jobs"][0]["status"] == "expired"


def test_a_job_waits_for_its_parents_and_for_its_own_time(pause: Restart) -> None:
    world, ana = opened()
    put(ana, b"a", b"b")
    put(ana, b"child", after=[["work", 0, 2]])
    put(ana, b"late child", after=[["work", 0, 1]], delay_ms=20_000)
    pause(world)
    ana = resumed(world, ana)
    assert counts(ana) == {"ready": 2, "waiting": 2}
    lease = ana.pull("work", 10).ok["lease"]
    ana.do("ack", lease=lease, ranges=[[0, 1]])
    assert counts(ana) == {"leased": 1, "delayed": 1, "waiting": 1, "done": 1}
    ana.do("ack", lease=lease, ranges=[[1, 1]])
    assert take(ana) == [b"child"]
    world.advance(20_000)
    assert take(ana) == [b"late child"]


@pytest.mark.parametrize("policy", ["cancel", "release"])
def test_a_failed_parent_cancels_or_releases_its_children_and_theirs(policy: str, pause: Restart) -> None:
    world, ana = opened()
    put(ana, b"parent")
    put(ana, b"child", after=[["work", 0, 1]], on_failure=policy)
    put(ana, b"grandchild", after=[["work", 1, 1]], on_failure=policy)
    pause(world)
    ana = resumed(world, ana)
    ana.do("job_cancel", queue="work", offset=0)
    statuses = [job["status"] for job in ana.do("job_status", queue="work", offsets=[0, 1, 2]).ok["jobs"]]
    assert statuses == ["cancelled", *(["cancelled"] * 2 if policy == "cancel" else ["queued", "waiting"])]


def test_who_waits_for_what_has_ended_already_waits_no_more() -> None:
    _world, ana = opened()
    put(ana, b"good", b"bad")
    lease = ana.pull("work", 2).ok["lease"]
    ana.do("ack", lease=lease, ranges=[[0, 1]])
    ana.do("reject", lease=lease, ranges=[[1, 1]])
    put(ana, b"after good", after=[["work", 0, 1]])
    put(ana, b"after bad", after=[["work", 1, 1]])
    put(ana, b"after bad all the same", after=[["work", 1, 1]], on_failure="release")
    assert take(ana) == [b"after good", b"after bad all the same"]
    assert ana.do("job_status", queue="work", offsets=[3]).ok["jobs"][0]["status"] == "cancelled"


def test_a_purge_and_a_delete_are_failures_to_who_waits() -> None:
    _world, ana = opened()
    ana.do("create", name="other", kind="queue")
    put(ana, b"a", queue="other")
    put(ana, b"b", queue="other")
    put(ana, b"child", after=[["other", 0, 1]])
    lease = ana.pull("other", 1).ok["lease"]
    ana.do("purge", name="other")
    assert counts(ana) == {"waiting": 1}, "its parent is in somebody's hands"
    ana.do("ack", lease=lease, ranges=[[0, 1]])
    put(ana, b"second", after=[["other", 1, 1]], on_failure="release")
    assert take(ana) == [b"child", b"second"]
    put(ana, b"c", queue="other")
    put(ana, b"third", after=[["other", 2, 1]])
    ana.do("delete", name="other")
    assert ana.do("job_status", queue="work", offsets=[2]).ok["jobs"][0]["status"] == "cancelled"


# -- retry ------------------------------------------------------------------------------------------------------------


def fail_until_dead(world: World, client: Client) -> list[int]:
    """The pauses between the tries of the one message."""
    pauses, since_ms = [], world.now_ms
    while not client.do("describe", name="work").ok["dead"]:
        if (lease := client.pull("work").ok["lease"]) is None:
            world.advance(50)
            assert world.now_ms - since_ms < 10**8
            continue
        pauses.append(world.now_ms - since_ms)
        client.do("nack", lease=lease, ranges=[[0, 1]])
        since_ms = world.now_ms
    return pauses[1:]


def test_back_off_doubles_up_to_its_limit(pause: Restart) -> None:
    options = {"retry_backoff": "exponential", "retry_delay_ms": 1_000, "retry_delay_max_ms": 3_500, "max_failures": 5}
    world, ana = opened(**options)
    put(ana, b"poison")
    pause(world)
    assert fail_until_dead(world, resumed(world, ana)) == [1_000, 2_000, 3_500, 3_500]


def test_what_a_message_says_of_its_retries_goes_before_what_the_queue_says(pause: Restart) -> None:
    world, ana = opened(retry_delay_ms=60_000, max_failures=9)
    put(ana, b"poison", max_failures=3, retry_delay_ms=200)
    pause(world)
    assert fail_until_dead(world, resumed(world, ana)) == [200, 200]


def test_jitter_takes_a_part_of_the_delay_and_is_the_same_in_every_replay() -> None:
    def tries() -> list[int]:
        world, ana = opened(retry_delay_ms=10_000, retry_jitter=50, max_failures=6)
        put(ana, b"poison")
        return fail_until_dead(world, ana)

    pauses = tries()
    assert all(5_000 <= pause_ms <= 10_050 for pause_ms in pauses)
    assert len(set(pauses)) > 1
    assert tries() == pauses


def test_a_priority_outlives_failure_death_and_retry() -> None:
    _world, ana = opened(max_failures=2)
    put(ana, b"urgent", priority=7)
    put(ana, b"plain", b"plain 2")
    for _ in range(2):
        reply = ana.pull("work")
        assert reply.bodies == [b"urgent"]
        ana.do("nack", lease=reply.body["lease"], ranges=[[0, 1]])
    ana.do("job_retry", queue="work", offset=0)
    assert take(ana) == [b"urgent", b"plain", b"plain 2"]


# -- uniqueness, order ------------------------------------------------------------------------------------------------


def test_an_id_is_taken_once_while_its_job_lives_and_for_a_while_after_its_publish(pause: Restart) -> None:
    world, ana = opened(unique_ms=20_000)
    put(ana, b"first", ids=["invoice-7"])
    pause(world)
    ana = resumed(world, ana)
    refused = put(ana, b"x", b"again", ids=["free", "invoice-7"])
    assert refused.status == "AlreadyExists"
    assert "work/0" in refused.body["message"]
    assert counts(ana) == {"ready": 1}, "of a refused batch nothing is taken"
    world.advance(21_000)
    assert put(ana, b"again", ids=["invoice-7"]).status == "AlreadyExists", "its job has not ended"
    ana.do("ack", lease=ana.pull("work", lease_ms=10**6).ok["lease"], ranges=[[0, 1]])
    assert put(ana, b"again", ids=["invoice-7"]).ok["offset"] == 1
    ana.do("ack", lease=ana.pull("work").ok["lease"], ranges=[[1, 1]])
    assert put(ana, b"third", ids=["invoice-7"]).status == "AlreadyExists", "the time since its publish is not over"


def test_ids_leave_the_disk_when_their_time_is_over() -> None:
    world, ana = opened(unique_ms=10_000)
    for number in range(20):
        put(ana, b"job", ids=[f"id-{number}"])
    ana.do("ack", lease=ana.pull("work", 100).ok["lease"], ranges=[[0, 20]])
    world.restart(clean=True)
    assert len(world.disk.cell_rows) == 40
    world.advance(60_000)
    world.restart(clean=True)
    assert not world.disk.cell_rows


def test_of_a_key_one_message_is_out_at_a_time_and_a_failed_one_blocks_its_key_alone(pause: Restart) -> None:
    world, ana = opened(ordered_by="key", retry_delay_ms=5_000)
    put(ana, b"a1", b"a2", b"b1", b"b2", keys=["a", "a", "b", "b"])
    pause(world)
    ana = resumed(world, ana)
    lease = ana.pull("work", 10)
    assert lease.bodies == [b"a1", b"b1"]
    ana.do("nack", lease=lease.body["lease"], ranges=[[0, 1]])
    ana.do("ack", lease=lease.body["lease"], ranges=[[2, 1]])
    second = ana.pull("work", 10)
    assert second.bodies == [b"b2"]
    pause(world)
    ana = resumed(world, ana)
    assert take(ana) == []
    world.advance(5_000)
    again = ana.pull("work", 10)
    assert again.bodies == [b"a1"]
    ana.do("ack", lease=again.body["lease"], ranges=[[0, 1]])
    assert take(ana) == [b"a2"]


def test_an_ordered_topic_orders_each_group_by_itself() -> None:
    world = World()
    ana = Client(world, "ana")
    ana.do("create", name="news", kind="topic", options={"ordered_by": "key"})
    for group in ("g", "h"):
        ana.do("group_create", topic="news", group=group)
    put(ana, b"1", b"2", queue="news", keys=["k", "k"])
    first = ana.pull("news", 10, group="g")
    assert first.bodies == [b"1"]
    assert ana.pull("news", 10, group="h").bodies == [b"1"]
    ana.do("ack", lease=first.body["lease"], ranges=[[0, 1]])
    assert ana.pull("news", 10, group="g").bodies == [b"2"]
    assert ana.pull("news", 10, group="h").bodies == []


# -- limits -----------------------------------------------------------------------------------------------------------


def test_a_full_queue_drops_what_waits_longest_if_it_is_told_to(pause: Restart) -> None:
    world, ana = opened(max_messages=3, overflow="drop_oldest")
    put(ana, b"1", b"2", b"3")
    lease = ana.pull("work").ok["lease"]
    pause(world)
    ana = resumed(world, ana)
    put(ana, b"4", b"5")
    assert ana.do("job_status", queue="work", offsets=[0, 1, 2]).ok["jobs"][1]["status"] == "expired"
    assert take(ana) == [b"3", b"4", b"5"]
    assert ana.do("ack", lease=lease, ranges=[[0, 1]]).status == "ok"


def test_of_a_batch_that_is_larger_than_its_queue_the_oldest_go_too(pause: Restart) -> None:
    world, ana = opened(max_messages=3, overflow="drop_oldest", max_bytes=1_000)
    put(ana, b"1", b"2")
    assert put(ana, b"a", b"b", b"c", b"d", ttl_ms=60_000).status == "ok"
    pause(world)
    ana = resumed(world, ana)
    jobs = ana.do("job_status", queue="work", offsets=[0, 1, 2, 3]).ok["jobs"]
    assert [job["status"] for job in jobs] == ["expired"] * 3 + ["queued"]
    assert take(ana) == [b"b", b"c", b"d"]
    assert put(ana, *[b"x" * 300] * 4).status == "QueueFull", "one of too many bytes is refused: nothing of it fits"


def test_no_more_are_out_at_a_time_than_max_leased_and_the_next_goes_to_who_waits() -> None:
    world, ana = opened(max_leased=2)
    put(ana, b"1", b"2", b"3")
    reply = ana.pull("work", 10)
    assert reply.bodies == [b"1", b"2"]
    bob = Client(world, "bob")
    bob.ask("pull", queue="work", messages=10, wait_ms=60_000)
    assert bob.heard() == []
    ana.do("ack", lease=reply.body["lease"], ranges=[[0, 1]])
    assert [some.bodies for some in bob.heard()] == [[b"3"]]


def test_a_rate_is_kept_and_those_who_wait_are_served_as_it_allows(pause: Restart) -> None:
    world, ana = opened(rate=[10, 1_000])
    put(ana, *[b"%d" % number for number in range(100)])
    pause(world)
    ana = resumed(world, ana)
    given, start_ms = 0, world.now_ms
    while world.now_ms < start_ms + 5_000:
        ana.ask("pull", queue="work", messages=100, wait_ms=2_000)
        while not (heard := ana.heard()):
            world.advance(10)
        given += sum(len(reply.bodies) for reply in heard)
    assert 49 <= given <= 52


def test_a_body_above_max_message_is_refused() -> None:
    _, ana = opened(max_message=10)
    assert put(ana, b"0123456789").status == "ok"
    refused = put(ana, b"small", b"0123456789a")
    assert refused.status == "TooLarge"
    assert "11 bytes" in refused.body["message"]


def test_what_ended_in_the_middle_of_a_queue_leaves_the_disk() -> None:
    """Else one job that is delayed for a month would keep every later message of its queue on disk."""
    world, ana = opened()
    put(ana, b"in a month", delay_ms=30 * 86_400_000)
    for number in range(500):
        put(ana, b"x" * 1_000)
        ana.do("ack", lease=ana.pull("work").ok["lease"], ranges=[[number + 1, 1]])
    world.restart(clean=True)
    assert sum(map(len, world.disk.log.values())) < 5_000
    assert len(world.disk.extents) == 1


@pytest.mark.parametrize("name", ["priority", "delay_ms", "due_ms", "ttl_ms", "ids", "after"])
def test_topics_refuse_what_is_for_queues(name: str) -> None:
    world = World()
    ana = Client(world, "ana")
    ana.do("create", name="news", kind="topic")
    value: Any = {"ids": ["a"], "after": [["news", 0, 1]]}.get(name, 1)
    refused = put(ana, b"x", queue="news", **{name: value})
    assert refused.status == "InvalidArgument"
    assert name in refused.body["message"]
