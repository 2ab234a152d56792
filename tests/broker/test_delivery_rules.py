"""The rules of delivery, one by one; all of them together are in test_model_property.py and in tests/sim."""

from __future__ import annotations

from kit.world import Client, World

from penstock.broker.desk import Limits
from penstock.peers.messages import Append, Expire, Pull


def start(**options: object) -> tuple[World, Client]:
    world = World(limits=Limits(in_flight_max=5))
    client = Client(world, "ana")
    client.do("create", name="jobs", kind="queue", options=options)
    return world, client


def test_rule_28_a_grant_is_in_the_log_before_it_is_delivered_and_the_attempt_never_falls() -> None:
    world, client = start()
    client.append("jobs", b"x")
    attempts = []
    for _ in range(3):
        delivery = client.pull("jobs").ok
        grants = [entry.index for entry in world.disk.replay() if type(entry.command) is Pull]
        assert grants[-1] == delivery["lease"]
        attempts.append(delivery["ranges"][0][2])
        client.do("release", lease=delivery["lease"])
    assert attempts == [1, 2, 3]


def test_rule_28_settling_without_the_live_lease_changes_nothing() -> None:
    _, client = start()
    client.append("jobs", b"x")
    lease = client.pull("jobs").ok["lease"]
    client.do("release", lease=lease)
    fresh = client.pull("jobs").ok["lease"]
    before = client.do("describe", name="jobs").ok
    for op in ("ack", "nack", "reject", "release"):
        assert client.do(op, lease=lease, ranges=[[0, 1]]).status == "LeaseLost"
    assert client.do("extend", leases=[lease], lease_ms=1000).ok["lost"] == (lease,)
    assert client.do("describe", name="jobs").ok == before
    assert client.do("ack", lease=fresh, ranges=[[0, 1]]).ok == {}


def test_rule_29_a_lease_ends_by_a_command_and_a_dead_letter_is_there_in_the_step_in_which_it_leaves() -> None:
    world, client = start(max_failures=1)
    client.append("jobs", b"x")
    client.pull("jobs", lease_ms=1000)
    world.advance(2000)
    commands = [entry.command for entry in world.disk.replay()]
    assert [type(command) for command in commands].count(Expire) == 1
    # No entry of its own put it there: the end of the lease and the dead letter are one.
    assert [type(command) for command in commands].count(Append) == 1
    assert client.do("describe", name="jobs").ok["dead"] == 1
    assert client.pull("jobs.dead").bodies == [b"x"]


def test_rule_30_acked_ranges_are_kept_whole_and_what_is_bounded_is_the_window_in_flight() -> None:
    _, client = start()
    for number in range(40):
        client.append("jobs", b"%d" % number)
    held = client.pull("jobs", 1).ok["lease"]  # the first one stays open: everything behind it is kept as ranges
    for _ in range(39):
        delivery = client.pull("jobs", 1)
        client.do("ack", lease=delivery.ok["lease"], ranges=[[delivery.offsets[0], 1]])
    group = client.do("describe", name="jobs").ok["groups"][0]
    assert (group["floor"], group["done"], group["leased"]) == (0, 39, 1)
    client.do("release", lease=held)
    assert client.pull("jobs", 100).offsets == [0]
    for number in range(10):
        client.append("jobs", b"%d" % number)
    assert len(client.pull("jobs", 100).offsets) == 4  # one is in flight, five may be


def test_rule_31_a_producer_gets_the_remembered_answer_and_a_gap_is_an_error() -> None:
    _, client = start()
    first = client.append("jobs", b"x")
    again = client.call("append", first.sequence, {"queue": "jobs", "count": 1}, b"\x92\x91\xc4\x01x\xc0")
    assert again == first
    gap = client.call("append", client.sequence + 2, {"queue": "jobs", "count": 1}, b"\x92\x91\xc4\x01x\xc0")
    assert gap.status == "ProtocolError"
    assert client.do("describe", name="jobs").ok["next"] == 1
