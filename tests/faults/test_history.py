"""The checker itself: a good history passes, and every kind of broken promise is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from faults.history import Event, Recorder, check, figures, for_groups, read

Made = list[tuple[str, str, dict[str, Any]]]  # (actor, kind, fields)


def made(*steps: tuple[str, str, dict[str, Any]], queue: str = "q") -> list[Event]:
    """A history, one millisecond between its events."""
    return [
        Event(actor, float(at), kind, queue, fields.pop("ids", ["a"]), **fields)
        for at, (actor, kind, fields) in enumerate((actor, kind, dict(fields)) for actor, kind, fields in steps)
    ]


SENT = ("p", "sent", {})
ACCEPTED = ("p", "accepted", {"offset": 0})
CAME = ("c", "delivered", {"offset": 0, "attempt": 1, "held_ms": 1000.0})
ASKED = ("c", "asked", {"op": "ack", "attempt": 1})
ACKED = ("c", "settled", {"op": "ack", "attempt": 1})
DENIED = ("c", "denied", {"op": "ack", "attempt": 1, "value": "LeaseLost"})
NACK_ASKED = ("c", "asked", {"op": "nack", "attempt": 1})
NACKED = ("c", "settled", {"op": "nack", "attempt": 1})
CAME_AGAIN = ("d", "delivered", {"offset": 0, "attempt": 2, "held_ms": 1000.0})
ASKED_AGAIN = ("d", "asked", {"op": "ack", "attempt": 2})
ACKED_AGAIN = ("d", "settled", {"op": "ack", "attempt": 2})
COMPLETE = ("c", "asked", {"op": "complete", "attempt": 1, "value": 7})
COMPLETED = ("c", "settled", {"op": "complete", "attempt": 1})
RESULT = ("p", "result", {"value": 7})

GOOD: dict[str, list[Event]] = {
    "sent, delivered, acked": made(SENT, ACCEPTED, CAME, ASKED, ACKED),
    "the receipt may come after the message": made(SENT, CAME, ACCEPTED, ASKED, ACKED),
    "an unanswered send may be lost": made(SENT),
    "an unanswered send may be done": made(SENT, CAME, ASKED, ACKED),
    "nacked and given again": made(SENT, ACCEPTED, CAME, NACK_ASKED, NACKED, CAME_AGAIN, ASKED_AGAIN, ACKED_AGAIN),
    "an unanswered ack may have been done": made(SENT, ACCEPTED, CAME, ASKED),
    "an unanswered nack may have been done": made(SENT, ACCEPTED, CAME, NACK_ASKED, CAME_AGAIN, ASKED_AGAIN),
    "a late ack is denied": made(
        SENT, ACCEPTED, ("c", "delivered", {"offset": 0, "attempt": 1}), CAME_AGAIN, ASKED, DENIED, ASKED_AGAIN,
        ACKED_AGAIN,
    ),
    "a refused send": made(SENT, ("p", "refused", {})),
    "a job with its result": made(SENT, ACCEPTED, CAME, COMPLETE, COMPLETED, RESULT, RESULT),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_has_no_violation(name: str) -> None:
    assert check(GOOD[name], jobs=["q"] if "job" in name else []) == []


BROKEN: dict[str, tuple[list[Event], str]] = {
    "acknowledged and never delivered": (made(SENT, ACCEPTED), "never came: lost"),
    "the middle of a batch is lost": (
        made(
            ("p", "sent", {"ids": ["a", "b", "c"]}),
            ("p", "accepted", {"ids": ["a", "b", "c"], "offset": 0}),
            CAME, ASKED, ACKED,
            ("c", "delivered", {"ids": ["c"], "offset": 2, "attempt": 1}),
            ("c", "asked", {"ids": ["c"], "op": "ack", "attempt": 1}),
        ),
        "q b: it was acknowledged (offset 1) and never came: lost",
    ),
    "nacked and never given again": (made(SENT, ACCEPTED, CAME, NACK_ASKED, NACKED), "did not come again: lost"),
    "its ack was denied, and it never came again": (made(SENT, ACCEPTED, CAME, ASKED, DENIED), "lost"),
    "delivered after its ack": (made(SENT, ACCEPTED, CAME, ASKED, ACKED, CAME_AGAIN), "got it again"),
    "delivered to the same consumer after its ack": (
        made(SENT, ACCEPTED, CAME, ASKED, ACKED, ("c", "delivered", {"offset": 0, "attempt": 2})), "got it again",
    ),
    "acked twice": (
        made(SENT, ACCEPTED, CAME, ASKED, ACKED, CAME_AGAIN, ASKED_AGAIN, ACKED_AGAIN), "finished 2 times",
    ),
    "one attempt for two consumers": (
        made(SENT, ACCEPTED, CAME, ("d", "delivered", {"offset": 0, "attempt": 1}), ASKED, ACKED),
        "attempt 1 came to c and to d",
    ),
    "two leases at a time": (
        made(SENT, ACCEPTED, CAME, CAME_AGAIN, ASKED_AGAIN, ACKED_AGAIN), "while c held it",
    ),
    "the ack of a lease that had ended was accepted": (
        made(SENT, ACCEPTED, ("c", "delivered", {"offset": 0, "attempt": 1}), CAME_AGAIN, ASKED, ACKED),
        "accepted after attempt 2 had begun",
    ),
    "published twice": (
        made(SENT, ACCEPTED, CAME, ASKED, ACKED, ("c", "delivered", {"offset": 5, "attempt": 1})), "published twice",
    ),
    "at another place than was told": (
        made(SENT, ("p", "accepted", {"offset": 3}), CAME, ASKED, ACKED), "published twice",
    ),
    "never sent": (made(CAME, ASKED, ACKED), "nobody sent it"),
    "refused and delivered": (made(SENT, ("p", "refused", {}), CAME, ASKED, ACKED), "it was refused, and came"),
    "settled twice": (made(SENT, ACCEPTED, CAME, ASKED, ACKED, ACKED), "settled twice"),
    "offsets against the order of sending": (
        made(
            ("p", "sent", {"ids": ["a", "b"]}),
            ("c", "delivered", {"ids": ["b"], "offset": 0, "attempt": 1}),
            ("d", "delivered", {"ids": ["a"], "offset": 1, "attempt": 1}),
        ),
        "its offset is lower",
    ),
    "first deliveries to one consumer out of order": (
        made(
            ("p", "sent", {"ids": ["a", "b"]}),
            ("c", "delivered", {"ids": ["b"], "offset": 1, "attempt": 1}),
            ("c", "delivered", {"ids": ["a"], "offset": 0, "attempt": 1}),
        ),
        "it came to c after b",
    ),
    "a job without a result": (made(SENT, ACCEPTED, CAME, COMPLETE, COMPLETED), "has no result"),
    "a job with two results": (
        made(SENT, ACCEPTED, CAME, COMPLETE, COMPLETED, RESULT, ("p", "result", {"value": 8})), "has 2 results",
    ),
    "a job with another result than the accepted one": (
        made(SENT, ACCEPTED, CAME, COMPLETE, COMPLETED, ("p", "result", {"value": 8})), "was accepted as its result",
    ),
    "a job with a result that nobody gave": (
        made(SENT, ACCEPTED, CAME, COMPLETE, ("p", "result", {"value": 8})), "nobody gave the result",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_found(name: str) -> None:
    events, what = BROKEN[name]
    found = check(events, jobs=["q"] if "job" in name else [])
    assert any(what in violation for violation in found), found


def test_what_is_still_in_the_queues_is_not_lost() -> None:
    assert check(made(SENT, ACCEPTED), drained=False) == []


def test_each_group_of_a_topic_has_to_see_each_message() -> None:
    sent = made(SENT, ACCEPTED)
    one, two = (made(CAME, ASKED, ACKED, queue=f"q:{group}") for group in ("one", "two"))
    assert check(for_groups([*sent, *one, *two], "q")) == []
    other = made(("p", "sent", {"ids": ["b"]}), ("p", "accepted", {"ids": ["b"], "offset": 1}))
    seen_by_one = made(
        ("c", "delivered", {"ids": ["b"], "offset": 1, "attempt": 1}),
        ("c", "asked", {"ids": ["b"], "op": "ack", "attempt": 1}),
        queue="q:one",
    )
    [violation] = check(for_groups([*sent, *one, *two, *other, *seen_by_one], "q"))
    assert violation == "q:two b: it was acknowledged (offset 1) and never came: lost"


def test_a_history_survives_its_writer_but_for_a_line_that_was_cut(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "p")
    recorder.note("sent", "q", ["a", "b"])
    recorder.note("accepted", "q", ["a", "b"], offset=4)
    with (tmp_path / "p.jsonl").open("ab") as file:
        file.write(b'{"at_ms": 1.0, "kind": "se')
    events = read(tmp_path)
    assert [(event.actor, event.kind, event.ids, event.offset) for event in events] == [
        ("p", "sent", ["a", "b"], -1),
        ("p", "accepted", ["a", "b"], 4),
    ]
    assert figures(events).acknowledged == 2
