"""Jobs on a node: what is told of them, ranges, calls and outputs; each world ends as a restart knows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kit.world import Client, World

from penstock.broker import checkpoint, explain, jobs
from penstock.broker.desk import Limits
from penstock.broker.extents import Extents
from penstock.broker.model import Model
from penstock.broker.sessions import WINDOW
from penstock.peers import wire
from penstock.testing.memory import MemoryDisk


@pytest.fixture(params=["now and then", "in every turn"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(MemoryDisk(), Limits(checkpoint_entries=1 if "every" in request.param else 8192))
    yield world
    again = Model(world.disk.copy())
    checkpoint.restore(again, *world.disk.rows())
    for entry in world.disk.replay():
        if entry.index > again.state.applied:
            again.apply(entry)
    assert checkpoint.digest(again) == world.digest(), "a restart comes to another state"


@pytest.fixture
def ana(world: World) -> Client:
    ana = Client(world, "ana")
    ana.do("create", name="jobs", kind="queue", options={"max_failures": 2})
    return ana


def pulled(client: Client, count: int = 1, queue: str = "jobs") -> dict[str, Any]:
    return client.pull(queue, count, lease_ms=10_000).ok


def restarted(world: World, client: Client, clean: bool) -> Client:
    """The client at the node of after a restart, with its session."""
    world.restart(clean)
    return Client(world, client.route.decode(), client.session)


def info(client: Client, offset: int, queue: str = "jobs") -> dict[str, Any]:
    return client.do("job_info", queue=queue, offset=offset).ok


def codes(client: Client, offset: int) -> list[str]:
    return [reason["code"] for reason in client.do("job_explain", queue="jobs", offset=offset).ok["reasons"]]


def test_progress_and_log_lines_need_the_live_lease(world: World, ana: Client) -> None:
    bob = Client(world, "bob")
    ana.append("jobs", b"a", b"b")
    lease = pulled(ana)["lease"]
    assert ana.do("job_progress", lease=lease, offset=0, progress=0.4, text="warm").ok == {}
    assert ana.do("job_log", lease=lease, offset=0, lines=["one", "two"]).ok == {}
    for client, offset in ((ana, 1), (bob, 0)):
        assert client.do("job_progress", lease=lease, offset=offset, progress=1).status == "LeaseLost"
        assert client.do("job_log", lease=lease, offset=offset, lines=["x"]).status == "LeaseLost"
    seen = info(bob, 0)
    assert (seen["status"], seen["progress"], seen["text"], seen["lines"]) == ("running", 0.4, "warm", ("one", "two"))
    assert (seen["owner"], seen["started_ms"]) == ("ana", world.now_ms)
    assert info(bob, 1)["lines"] == ()
    world.advance(10_000)
    assert ana.do("job_progress", lease=lease, offset=0, progress=1).status == "LeaseLost"
    assert info(bob, 0)["lines"] == ("one", "two"), "they stay for the next try"


def test_the_history_of_a_job_tells_who_had_it_and_why_it_failed(world: World, ana: Client) -> None:
    ana.append("jobs", b"a")
    start_ms = world.now_ms
    pulled(ana)
    world.advance(10_000)
    assert info(ana, 0)["reason"] == "its lease ended"
    lease = pulled(ana)["lease"]
    world.advance(500)
    ana.do("nack", lease=lease, ranges=[[0, 1]], error=b"boom", reason="OSError: no disk")
    seen = info(ana, 0)
    assert (seen["status"], seen["failures"], seen["error"]) == ("dead", 2, b"boom")
    assert [(step["what"], step["at_ms"] - start_ms) for step in seen["history"]] == [
        ("submitted", 0), ("leased", 0), ("expired", 10_000), ("leased", 10_000), ("nacked", 10_500), ("dead", 10_500),
    ]  # fmt: skip
    assert seen["history"][4]["reason"] == "OSError: no disk"
    letter = ana.pull("jobs.dead")
    assert letter.headers is not None
    assert letter.headers[0] is not None
    assert letter.headers[0]["penstock-reason"] == "it failed too often"
    assert letter.headers[0]["penstock-error"] == "OSError: no disk"


def test_notes_go_with_a_plain_ack_a_purge_and_the_outcome(world: World, ana: Client) -> None:
    def rows() -> int:
        return world.node.desk.state.queues["jobs"].notes.rows

    ana.append("jobs", b"a", b"b", b"c", b"d")
    for _ in range(2):
        lease = pulled(ana, 3)["lease"]
        ana.do("nack", lease=lease, ranges=[[0, 1]], reason="no")
        ana.do("release", lease=lease)
    assert (rows(), info(ana, 0)["status"]) == (1, "dead")
    lease = pulled(ana, 2)["lease"]
    ana.do("nack", lease=lease, ranges=[[1, 2]])
    assert rows() == 2
    lease = pulled(ana)["lease"]
    ana.do("ack", lease=lease, ranges=[[1, 1]])
    assert (rows(), info(ana, 1)["status"]) == (2, "expired")
    ana.do("purge", name="jobs")
    assert rows() == 1
    assert ana.do("job_forget", queue="jobs", offset=0).ok == {}
    assert (rows(), info(ana, 0)["status"]) == (0, "expired")


def test_an_array_is_cancelled_as_a_range_and_its_holder_is_told(world: World, ana: Client) -> None:
    bob = Client(world, "bob")
    ana.append("jobs", *[b"x"] * 10)
    one, two = pulled(bob, 3)["lease"], pulled(bob, 3)["lease"]
    bob.do("ack", lease=one, ranges=[[0, 1]])
    assert ana.do("job_cancel", queue="jobs", offset=0, count=5).ok == {"status": "cancelled", "cancelled": 4}
    reply = bob.do("extend", leases=[one, two], lease_ms=10_000).ok
    assert reply == {"lost": (one,), "cancelled": ((one, 1, 2), (two, 3, 2))}
    assert bob.do("extend", leases=[two], lease_ms=10_000).ok == {"lost": (), "cancelled": ()}
    assert bob.do("complete", wire.pack_payload([b"r"]), lease=two, ranges=[[3, 1]]).status == "LeaseLost"
    assert bob.do("complete", wire.pack_payload([b"r"]), lease=two, ranges=[[5, 1]]).ok == {}
    assert ana.do("job_cancel", queue="jobs", offset=0, count=10).ok["cancelled"] == 4
    assert ana.do("job_cancel", queue="jobs", offset=0, count=10).ok["cancelled"] == 0
    assert ana.do("job_cancel", queue="jobs", offset=3, count=9).status == "NotFound"
    assert ana.do("job_cancel", queue="jobs", offset=3).status == "InvalidArgument"


def test_only_what_is_dead_of_a_range_is_tried_again(world: World, ana: Client) -> None:
    ana.append("jobs", *[b"%d" % at for at in range(8)])
    lease = pulled(ana, 8)["lease"]
    ana.do("complete", wire.pack_payload([b"r"] * 3), lease=lease, ranges=[[0, 3]])
    ana.do("reject", lease=lease, ranges=[[3, 2], [6, 1]])
    reply = ana.do("job_retry", queue="jobs", offset=0, count=8).ok
    assert reply == {"offset": 8, "count": 3, "retried": ((3, 2, 8), (6, 1, 10))}
    assert ana.do("describe", name="jobs.dead").ok["ready"] == 0
    ana.do("release", lease=lease)
    assert ana.pull("jobs", 9).bodies == [b"5", b"7", b"3", b"4", b"6"]
    assert ana.do("job_retry", queue="jobs", offset=0, count=8).ok["count"] == 0


@pytest.mark.parametrize("clean", [True, False])
def test_a_dead_job_says_as_which_one_it_is_tried_again(world: World, ana: Client, clean: bool) -> None:
    def retried(*offsets: int) -> list[str | None]:
        reply = ana.do("job_status", queue="jobs", offsets=offsets).ok
        return [job.get("retried_as") for job in reply["jobs"]]

    ana.append("jobs", *[b"%d" % at for at in range(4)])
    ana.do("reject", lease=pulled(ana, 3)["lease"], ranges=[[0, 3]])
    ana.do("job_retry", queue="jobs", offset=1)
    ana.do("job_retry_dead", queue="jobs")
    assert retried(0, 1, 2, 3) == ["jobs/5", "jobs/4", "jobs/6", None]
    ana.do("reject", lease=pulled(ana, 3)["lease"], ranges=[[4, 1]], reason="again")
    ana.do("move", queue="jobs.dead", target="jobs")
    ana = restarted(world, ana, clean)
    assert retried(0, 1, 2, 4) == ["jobs/5", "jobs/4", "jobs/6", "jobs/7"]
    assert (info(ana, 4)["retried_as"], info(ana, 7)["retried_as"]) == ("jobs/7", None)
    (reason,) = ana.do("job_explain", queue="jobs", offset=4).ok["reasons"]
    assert reason["text"] == "it has ended: dead: again; it is tried again as jobs/7"
    assert [job.get("retried_as") for job in ana.do("jobs", queue="jobs", status="dead").ok["jobs"]] == [
        "jobs/5", "jobs/4", "jobs/6", "jobs/7",
    ]  # fmt: skip
    body = ana.do("job_retry", queue="jobs", offset=4).body
    assert (body["message"], body["hint"]) == ("job jobs/4 was retried already", "it is jobs/7 now")


def test_a_dead_letter_of_a_queue_that_is_gone_is_of_no_job_of_one_with_its_name(world: World, ana: Client) -> None:
    ana.append("jobs", b"old")
    ana.do("reject", lease=pulled(ana)["lease"], ranges=[[0, 1]])
    ana.do("delete", name="jobs")
    ana.do("create", name="jobs", kind="queue")
    ana.append("jobs", b"new")
    ana.do("reject", lease=pulled(ana)["lease"], ranges=[[0, 1]])
    ana.do("job_retry_dead", queue="jobs", limit=1)
    assert (info(ana, 0)["status"], info(ana, 0)["retried_as"]) == ("dead", None)
    ana.do("job_retry_dead", queue="jobs", limit=1)
    assert info(ana, 0)["retried_as"] == "jobs/2"


def test_a_dead_job_that_is_forgotten_leaves_no_note_when_it_is_tried_again(world: World, ana: Client) -> None:
    ana.append("jobs", b"a")
    ana.do("reject", lease=pulled(ana)["lease"], ranges=[[0, 1]])
    ana.do("job_forget", queue="jobs", offset=0)
    ana.do("job_retry_dead", queue="jobs")
    world.turn()
    assert info(ana, 0)["status"] == "expired"
    assert world.node.desk.state.queues["jobs"].notes.rows == 0


def test_all_dead_letters_of_a_queue_come_back_in_steps(world: World, ana: Client) -> None:
    ana.append("jobs", *[b"%d" % at for at in range(5)])
    lease = pulled(ana, 5)["lease"]
    ana.do("reject", lease=lease, ranges=[[0, 5]])
    assert ana.do("job_retry_dead", queue="jobs", limit=3).ok["count"] == 3
    assert ana.do("job_retry_dead", queue="jobs", limit=3).ok["retried"] == ((3, 2, 8),)
    assert ana.do("job_retry_dead", queue="jobs", limit=3).ok == {"offset": None, "count": 0, "retried": ()}
    assert ana.pull("jobs", 9).bodies == [b"0", b"1", b"2", b"3", b"4"]


def test_ready_messages_move_and_those_that_wait_stay(world: World, ana: Client) -> None:
    ana.do("create", name="b", kind="queue", options={"max_messages": 3})
    payload = wire.pack_payload([b"later"])
    ana.append("jobs", b"0", b"1")
    ana.do("append", payload, queue="jobs", count=1, delay_ms=60_000)
    ana.append("jobs", b"3", b"4")
    assert ana.do("move", queue="jobs", target="b", limit=9).status == "QueueFull"
    assert ana.do("describe", name="jobs").ok["ready"] == 4
    assert ana.do("move", queue="jobs", target="b", limit=3).ok == {"moved": 3}
    assert ana.pull("b", 9).bodies == [b"0", b"1", b"3"]
    assert ana.do("job_result", queue="jobs", offset=3).ok == {"status": "cancelled", "reason": "it was moved to b/2"}
    assert ana.do("describe", name="jobs").ok["delayed"] == 1
    assert ana.do("move", queue="jobs", target="jobs").status == "InvalidArgument"


def test_dead_letters_that_are_moved_home_are_jobs_like_others(world: World, ana: Client) -> None:
    ana.append("jobs", b"a")
    ana.do("reject", lease=pulled(ana)["lease"], ranges=[[0, 1]], reason="why not")
    assert ana.do("move", queue="jobs.dead", target="jobs").ok == {"moved": 1}
    delivery = ana.pull("jobs")
    assert (delivery.bodies, delivery.headers) == ([b"a"], None)


def test_a_completion_with_outputs_is_done_whole_or_not_at_all(world: World, ana: Client) -> None:
    ana.do("create", name="next", kind="queue", options={"max_messages": 2})
    ana.do("create", name="news", kind="topic")
    ana.append("jobs", b"a", b"b")
    lease = pulled(ana, 2)["lease"]

    def complete(outputs: list[Any], *bodies: bytes) -> Any:
        payload = wire.pack_payload([b"result", *bodies])
        return ana.do("complete", payload, lease=lease, ranges=[[0, 1]], outputs=outputs)

    assert complete([["next", 3]], b"1", b"2", b"3").status == "QueueFull"
    assert complete([["next", 1], ["next", 2]], b"1", b"2", b"3").status == "QueueFull"
    assert complete([["next", 1], ["nowhere", 1]], b"1", b"2").status == "NotFound"
    assert complete([["next", 1]]).status == "InvalidArgument", "a body is missing"
    assert ana.do("describe", name="next").ok["next"] == 0
    assert complete([["next", 2], ["news", 1]], b"1", b"2", b"3").ok == {}
    assert ana.do("job_result", queue="jobs", offset=0).bodies == [b"result"]
    assert ana.pull("next", 9).bodies == [b"1", b"2"]
    assert ana.do("read", topic="news", start="earliest").bodies == [b"3"]
    ana.do("job_forget", queue="jobs", offset=0)
    ana = restarted(world, ana, False)
    assert ana.do("read", topic="news", start="earliest").bodies == [b"3"], "it lives in the entry of the result"


def test_results_go_to_the_result_queue_and_live_as_long_as_one_of_both(world: World, ana: Client) -> None:
    ana.do("configure", name="jobs", options={"result_queue": "results", "result_ttl_ms": 1_000})
    ana.append("jobs", b"a", b"b")
    lease = pulled(ana, 2)["lease"]
    ana.do("complete", wire.pack_payload([b"ra", b"rb"]), lease=lease, ranges=[[0, 2]])
    world.advance(30_000)
    assert info(ana, 1)["status"] == "expired"
    ana = restarted(world, ana, True)
    delivery = ana.pull("results", 2)
    assert delivery.bodies == [b"ra", b"rb"]
    assert [header and header["penstock-job"] for header in delivery.headers or ()] == ["jobs/0", "jobs/1"]
    ana.do("ack", lease=delivery.ok["lease"], ranges=[[0, 2]])
    world.restart(True)
    assert len(world.disk.log) < 40


def test_who_asks_for_the_result_of_a_job_that_waits_for_its_parents_waits_too(world: World, ana: Client) -> None:
    ana.append("jobs", b"parent")
    ana.do("append", wire.pack_payload([b"child"]), queue="jobs", count=1, after=[["jobs", 0, 1]])
    sequence = ana.ask("job_result", queue="jobs", offset=1, wait_ms=60_000)
    assert ana.heard() == []
    Client(world, "bob").do("job_cancel", queue="jobs", offset=1)
    assert [(it.sequence, it.ok["status"]) for it in ana.heard()] == [(sequence, "cancelled")]


def test_a_call_waits_for_its_job_and_is_never_appended_twice(world: World, ana: Client) -> None:
    sequence = ana.number("call")
    args = {"queue": "jobs", "wait_ms": 600_000}
    payload = wire.pack_payload([b"question"])
    assert ana.say("call", sequence, args, payload) == []
    for _ in range(150):  # more than a session remembers
        ana.do("pause", name="jobs")
    ana.do("resume", name="jobs")
    ana = restarted(world, ana, False)
    bob = Client(world, "bob")
    assert ana.say("call", sequence, args, payload) == [], "asked again, it waits again"
    assert ana.do("describe", name="jobs").ok["next"] == 1
    lease = pulled(bob)["lease"]
    bob.do("complete", wire.pack_payload([b"answer"]), lease=lease, ranges=[[0, 1]])
    (reply,) = ana.heard()
    assert (reply.sequence, reply.ok["status"], reply.ok["offset"], reply.bodies) == (sequence, "done", 0, [b"answer"])
    (again,) = ana.say("call", sequence, args, payload)
    assert again.bodies == [b"answer"]
    ana.do("job_forget", queue="jobs", offset=0)
    (again,) = ana.say("call", sequence, args, payload)
    assert (again.ok["offset"], again.bodies) == (0, []), "it was appended; there is no more to say"
    assert not list(world.node.desk.state.queues["jobs"].outcomes.after(0))


def test_calls_do_not_push_out_the_answers_to_other_requests(world: World, ana: Client) -> None:
    """A client may have as many as the window of them without a reply, and any number of calls between them."""
    sequence = ana.number("append")
    append = {"queue": "jobs", "count": 1}, wire.pack_payload([b"one"])
    (first,) = ana.say("append", sequence, *append)
    for _ in range(2 * WINDOW):
        ana.do("call", wire.pack_payload([b"question"]), queue="jobs", wait_ms=0)
    for _ in range(WINDOW - 1):
        ana.do("resume", name="jobs")
    ana = restarted(world, ana, False)
    (again,) = ana.say("append", sequence, *append)
    assert again.ok == first.ok
    ana.do("resume", name="jobs")
    (late,) = ana.say("append", sequence, *append)
    assert late.status == "ProtocolError"
    assert "used long ago" in late.body["message"]


def test_nor_do_calls_whose_jobs_are_forgotten(world: World, ana: Client) -> None:
    """As many as the window are forgotten at once, and the connection breaks before anything was heard of it."""
    for _ in range(WINDOW):
        ana.do("call", wire.pack_payload([b"question"]), queue="jobs", wait_ms=0)
    while (given := pulled(ana, 50))["lease"]:
        ana.do("ack", lease=given["lease"], ranges=[[first, count] for first, count, *_ in given["ranges"]])
    sequence = ana.sequence
    for offset in range(WINDOW):
        assert ana.do("job_forget", queue="jobs", offset=offset).status == "ok"
    ana = restarted(world, ana, False)
    for offset in range(WINDOW):
        (again,) = ana.say("job_forget", sequence + 1 + offset, {"queue": "jobs", "offset": offset})
        assert again.status == "ok"


def test_a_call_that_is_refused_or_waits_too_long_is_answered(world: World, ana: Client) -> None:
    payload = wire.pack_payload([b"question"])
    assert ana.do("call", payload, queue="nowhere").status == "NotFound"
    ana.do("create", name="news", kind="topic")
    assert ana.do("call", payload, queue="news").status == "InvalidArgument"
    assert ana.do("call", payload, queue="jobs").ok == {"offset": 0, "status": "queued", "reason": ""}
    sequence = ana.number("call")
    assert ana.say("call", sequence, {"queue": "jobs", "wait_ms": 500}, payload) == []
    world.advance(500)
    assert [reply.body["offset"] for reply in ana.heard()] == [1]
    assert ana.do("job_forget", queue="jobs", offset=1).status == "InvalidArgument", "it has not ended"
    assert ana.do("job_forget", queue="jobs", offset=2).status == "NotFound"
    assert ana.say("call", sequence, {"wait_ms": -1}, None)[0].status == "InvalidArgument"
    assert ana.say("call", sequence, {}, None)[0].ok["status"] == "queued"


def test_it_is_explained_why_a_job_does_not_run(world: World, ana: Client) -> None:
    ana.append("jobs", b"a", b"b", b"c")
    assert codes(ana, 9) == ["unknown"]
    assert codes(ana, 0) == ["no_consumer"]
    assert codes(ana, 2) == ["no_consumer", "behind"]
    ana.do("pause", name="jobs")
    assert codes(ana, 0) == ["paused", "no_consumer"]
    ana.do("resume", name="jobs")
    lease = pulled(ana)["lease"]
    assert codes(ana, 0) == ["running"]
    assert codes(ana, 1) == ["next"]
    ana.do("nack", lease=lease, ranges=[[0, 1]], delay_ms=60_000, reason="OSError: no disk")
    (delayed, *_) = ana.do("job_explain", queue="jobs", offset=0).ok["reasons"]
    assert delayed["code"] == "delayed"
    assert "OSError: no disk" in delayed["text"]
    ana.do("job_cancel", queue="jobs", offset=1)
    assert codes(ana, 1) == ["ended"]
    ana.do("append", wire.pack_payload([b"d"]), queue="jobs", count=1, after=[["jobs", 2, 1]])
    assert "parents" in codes(ana, 3)
    world.advance(50_000)
    ana.do("configure", name="jobs", options={"max_leased": 1})
    pulled(ana)
    assert "max_leased" in codes(ana, 0)


def test_an_entry_lives_as_long_as_the_last_queue_that_needs_it(world: World, ana: Client) -> None:
    """One command may end jobs of several queues, and add messages: each of them holds its log entry."""
    ana.do("create", name="short", kind="queue", options={"result_ttl_ms": 1_000})
    ana.append("jobs", b"parent")
    ana.do("append", wire.pack_payload([b"child"]), queue="short", count=1, after=[["jobs", 0, 1]])
    ana.do("reject", lease=pulled(ana)["lease"], ranges=[[0, 1]], error=b"boom")
    options = {"max_messages": 1, "overflow": "drop_oldest", "result_ttl_ms": 1_000}
    ana.do("create", name="ring", kind="queue", options=options)
    ana.append("ring", b"first")
    ana.append("ring", b"second")
    assert info(ana, 0, "ring")["status"] == "expired"
    for _ in range(3):
        world.advance(20_000)
        ana.do("ping")
    ana = restarted(world, ana, True)
    assert info(ana, 0, "short")["reason"] == "", "the outcome of the child is past its time"
    assert ana.do("job_result", queue="jobs", offset=0).bodies == [b"boom"]
    assert ana.pull("ring").bodies == [b"second"]


def test_dead_letters_are_looked_for_in_dead_letter_queues_alone(
    world: World, ana: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backlog of the queue itself, or of one whose name begins like that, is not looked through."""
    for name in ("jobs.deadline", "jobs.dead.letters"):
        ana.do("create", name=name, kind="queue")
        ana.append(name, b"other")
    ana.append("jobs", b"dies", b"waits")
    ana.do("reject", lease=pulled(ana)["lease"], ranges=[[0, 1]])
    looked: set[int] = set()
    between = Extents.between

    def watched(extents: Extents, *args: int) -> object:
        looked.add(extents.queue_id)
        return between(extents, *args)

    monkeypatch.setattr(Extents, "between", watched)
    assert ana.do("job_retry_dead", queue="jobs").ok["retried"] == ((0, 1, 2),)
    assert looked == {world.node.desk.state.queues["jobs.dead"].id}


def test_an_explanation_looks_at_no_more_than_it_can_in_a_moment(
    world: World, ana: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "AHEAD_MAX", 3)
    for number in range(6):
        ana.do("append", wire.pack_payload([b"%d" % number]), queue="jobs", count=1, priority=5)

    def told(offset: int, code: str) -> str:
        reasons = ana.do("job_explain", queue="jobs", offset=offset).ok["reasons"]
        return next(reason["text"] for reason in reasons if reason["code"] == code)

    assert told(5, "behind") == "at least 3 others are before it"
    assert told(2, "behind") == "at least 2 others are before it"
    assert codes(ana, 0) == ["no_consumer"]
    parents = [["jobs", offset, 1] for offset in range(0, 6, 2)]
    ana.do("append", wire.pack_payload([b"child"]), queue="jobs", count=1, after=parents)
    assert told(6, "parents") == "it waits for jobs/0, jobs/2, jobs/4"
    monkeypatch.setattr(explain, "NAMED_MAX", 2)
    assert told(6, "parents") == "it waits for jobs/0, jobs/2 and others"
