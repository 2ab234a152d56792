"""What the methods of a client ask, answered by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import pytest

from penstock.client import calls
from penstock.client.calling import call
from penstock.client.requests import Request
from penstock.client.steps import Steps
from penstock.peers.errors import AlreadyExists, InvalidArgument, NotFound
from penstock.peers.units import Duration

GROUP = {
    "name": "billing",
    "ready": 3,
    "delayed": 0,
    "waiting": 0,
    "leased": 0,
    "done": 0,
    "dead": 0,
    "floor": 0,
    "lag": 3,
    "oldest_ms": 5,
}
QUEUE = {
    "name": "jobs", "kind": "queue", "options": {}, "paused": False, "created_ms": 0, "ready": 0, "delayed": 0,
    "waiting": 0, "leased": 0, "done": 0, "dead": 0, "bytes": 0, "oldest_ms": None, "next": 0, "first": 0, "groups": [],
}  # fmt: skip
TOPIC = {**QUEUE, "name": "events", "kind": "topic", "groups": [GROUP]}

T = TypeVar("T")


def play(steps: Steps[T], *answers: dict[str, object] | Exception) -> tuple[T, list[Request]]:
    """Take the steps with these answers: what came of it, and what was asked."""
    asked: list[Request] = []
    try:
        asked.append(next(steps))
        for answer in answers:
            if isinstance(answer, Exception):
                asked.append(steps.throw(answer))
            else:
                asked[-1].body = answer
                asked.append(steps.send(asked[-1]))
    except StopIteration as end:
        return end.value, asked
    raise AssertionError(f"{asked[-1].op!r} has no answer")


def test_what_exists_is_described_where_that_is_fine() -> None:
    info, asked = play(calls.create("jobs", "queue", {}, exist_ok=True), AlreadyExists("jobs"), QUEUE)
    assert (info.name, [each.op for each in asked]) == ("jobs", ["create", "describe"])


def test_what_exists_is_an_error_otherwise() -> None:
    with pytest.raises(AlreadyExists):
        play(calls.create("jobs", "queue", {}, exist_ok=False), AlreadyExists("jobs"))


def test_a_queue_is_no_topic_even_where_existing_is_fine() -> None:
    with pytest.raises(AlreadyExists, match="'jobs' is a queue"):
        play(calls.create("jobs", "topic", {}, exist_ok=True), AlreadyExists("jobs"), QUEUE)


LATEST = {"start": "latest"}


def test_a_group_that_exists_is_described_where_that_is_fine() -> None:
    steps = calls.create_group("events", "billing", LATEST, exist_ok=True)
    info, asked = play(steps, AlreadyExists("billing"), TOPIC)
    assert (info.ready, [each.op for each in asked]) == (3, ["group_create", "describe"])


def test_a_group_that_was_there_and_is_gone_is_told() -> None:
    with pytest.raises(NotFound, match="no group"):
        play(
            calls.create_group("events", "other", LATEST, exist_ok=True),
            AlreadyExists("other"),
            NotFound("no group 'other'"),
        )


def test_changes_are_counted_and_questions_are_not() -> None:
    _, changes = play(calls.purge("jobs"), {"purged": 2})
    _, questions = play(calls.describe("jobs"), QUEUE)
    assert (changes[0].counted, questions[0].counted) == (True, False)


def test_jobs_are_asked_for_until_there_are_no_more_or_enough() -> None:
    job = {"status": "done", "attempt": 1, "failures": 0}
    pages = [{"jobs": [{**job, "offset": n}], "more": True, "next": n} for n in range(3)]
    found, asked = play(calls.list_jobs("jobs", None, 3, None), *pages)
    assert [each.offset for each in found] == [0, 1, 2]
    assert [(each.args.get("after"), each.args["limit"]) for each in asked] == [(None, 3), (0, 2), (1, 1)]


# -- many jobs ---------------------------------------------------------------------------------------------------------


def test_many_jobs_are_cancelled_some_thousands_at_a_time() -> None:
    cancelled, asked = play(calls.cancel_jobs("jobs", [(0, 5_000), (30_000, 1)]), *[{"cancelled": 5}] * 4)
    assert cancelled == 20
    assert [(each.args["offset"], each.args["count"]) for each in asked] == [
        (0, 2_000),
        (2_000, 2_000),
        (4_000, 1_000),
        (30_000, 1),
    ]


def test_one_job_of_an_array_that_has_ended_is_no_error() -> None:
    gone = InvalidArgument("job jobs/7 has ended already (done)")
    assert play(calls.cancel_jobs("jobs", [(7, 1), (9, 1)]), gone, {"cancelled": 1})[0] == 1
    assert play(calls.retry_jobs("jobs", [(7, 1)]), gone)[0] == []


def test_dead_jobs_are_retried_until_there_are_no_more_or_enough() -> None:
    pages = [{"offset": 0, "count": n, "retried": [[0, n, 50_000]]} for n in (2_000, 4)]
    again, asked = play(calls.retry_dead("jobs", None), *pages)
    assert again == [(50_000, 2_000), (50_000, 4)]
    assert [each.args["limit"] for each in asked] == [2_000, 2_000]
    nothing = {"offset": None, "count": 0, "retried": []}
    assert play(calls.retry_dead("jobs", 3), nothing)[1][0].args["limit"] == 3


def test_messages_are_moved_until_there_are_no_more_or_enough() -> None:
    moved, asked = play(calls.move("jobs", "others", 3_000), {"moved": 2_000}, {"moved": 1_000})
    assert (moved, [each.args["limit"] for each in asked]) == (3_000, [2_000, 1_000])
    assert play(calls.move("jobs", "others", None), {"moved": 3})[0] == 3


# -- calls -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout", "keep", "options", "ttl_ms"),
    [
        ("5s", False, {}, range(1, 5_001)),
        (0, False, {}, [1]),
        ("9999999d", False, {}, [10 * 365 * 86_400_000]),
        (None, False, {}, [None]),
        ("5s", True, {}, [None]),  # it shall go on
        ("5s", False, {"ttl": "1m"}, [60_000]),
    ],
)
def test_a_call_lives_as_long_as_its_caller_waits(
    timeout: Duration | None, keep: bool, options: dict[str, str], ttl_ms: Sequence[int | None]
) -> None:
    _, asked = play(call("jobs", 1, None, timeout, keep, options), {"offset": 0, "status": "done"}, {})
    assert [each.op for each in asked] == ["call", "job_forget"]
    assert asked[0].args.get("ttl_ms") in ttl_ms
