"""What users say of messages and queues, and how it travels."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.client.ids import array_id, parse_array_id, parse_id, spans_of
from penstock.client.options import pack_options
from penstock.client.properties import Properties, Shape, pack_after, pack_batch, pack_properties
from penstock.peers.errors import InvalidArgument


def job(name: str) -> Any:
    return SimpleNamespace(id=name)


# -- of one message ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "args"),
    [
        ({"priority": 9}, {"priority": 9}),
        ({"ttl": "1h"}, {"ttl_ms": 3_600_000}),
        ({"after": "work/7"}, {"after": [["work", 7, 1]]}),
        ({"after": [job("work/0-499"), "b/1"], "on_failure": "release"}, {
            "after": [["work", 0, 500], ["b", 1, 1]], "on_failure": "release",
        }),
        ({"max_failures": 2, "retry_delay": "5s", "retry_backoff": "exponential"}, {
            "max_failures": 2, "retry_delay_ms": 5000, "retry_backoff": "exponential",
        }),
        ({"retry_delay_max": 60, "retry_jitter": 10}, {"retry_delay_max_ms": 60_000, "retry_jitter": 10}),
    ],
)  # fmt: skip
def test_options_travel_under_their_names(options: dict[str, Any], args: dict[str, Any]) -> None:
    properties = pack_properties(options)
    assert properties is not None
    assert properties.shape == Shape(args)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"priority": 0},
        {"delay": 0, "due": None, "ttl": None, "id": None},
        {"after": None, "on_failure": "cancel"},
        {"after": [], "on_failure": "release"},
        {"max_failures": None, "retry_delay": None},
    ],
)
def test_what_every_message_has_need_not_be_said(options: dict[str, Any]) -> None:
    properties = pack_properties(options)
    assert properties is None or properties.shape.args == {"on_failure": "release"}


def test_a_time_is_of_each_message_not_of_the_shape() -> None:
    assert pack_properties({"delay": "10s"}) == Properties(Shape({}, "delay_ms"), 10_000, None)
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    assert pack_properties({"due": moment}) == pack_properties({"due": moment.timestamp()})
    assert pack_properties({"due": 1.5}) == Properties(Shape({}, "due_ms"), 1500, None)


def test_a_datetime_without_a_zone_is_local_time() -> None:
    moment = datetime(2030, 7, 1, 12)
    assert pack_properties({"due": moment}) == pack_properties({"due": moment.astimezone()})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prio": 1}, "no option 'prio'.*priority"),
        ({"ids": ["a"]}, "no option 'ids'"),
        ({"priority": 10}, "priority is 10.*from 0 to 9"),
        ({"priority": True}, "priority is True"),
        ({"priority": "high"}, "priority is 'high'"),
        ({"delay": "soon"}, "delay is 'soon'"),
        ({"delay": -1}, "delay is -1"),
        ({"delay": 1, "due": 1}, "delay and due"),
        ({"due": "tomorrow"}, "due is 'tomorrow'.*datetime"),
        ({"due": 1.7e12}, "no moment"),
        ({"due": float("nan")}, "no moment"),
        ({"ttl": 0}, "ttl is 0"),
        ({"id": ""}, "id is ''"),
        ({"id": "x" * 201}, "1 to 200"),
        ({"id": 7}, "id is 7"),
        ({"after": "work"}, "'work' is no id"),
        ({"after": 7}, "after is 7"),
        ({"after": [7]}, "after has 7"),
        ({"on_failure": "release"}, "after is not"),
        ({"after": "work/1", "on_failure": "ignore"}, "cancel, release"),
        ({"max_failures": 0}, "max_failures is 0"),
        ({"retry_backoff": "linear"}, "constant, exponential"),
        ({"retry_jitter": 101}, "retry_jitter is 101"),
    ],
)
def test_a_wrong_option_is_named_with_what_would_be_right(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        pack_properties(options)


# -- of a batch --------------------------------------------------------------------------------------------------------


def test_a_batch_has_an_id_and_a_time_for_each_message_or_one_time_for_all() -> None:
    assert pack_batch({"ids": ["a", "b"], "delays": [1, "2s"]}, 2) == {"ids": ["a", "b"], "delay_ms": [1000, 2000]}
    assert pack_batch({"dues": [1, 2]}, 2) == {"due_ms": [1000, 2000]}
    assert pack_batch({"delay": "1m", "priority": 3}, 5) == {"delay_ms": 60_000, "priority": 3}
    assert pack_batch({}, 5) == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ids": ["a"]}, "1 ids for 2"),
        ({"delays": [1, 2, 3]}, "3 delays for 2"),
        ({"delay": 1, "delays": [1, 2]}, "delay and delays"),
        ({"delays": [1, 2], "dues": [1, 2]}, "delays and dues"),
        ({"ids": ["a", ""]}, "id is ''"),
        ({"delays": [1, "x"]}, "delay is 'x'"),
        ({"id": "a"}, "no option 'id'"),
    ],
)
def test_a_wrong_batch_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        pack_batch(options, 2)


# -- ids ---------------------------------------------------------------------------------------------------------------


def test_neighbours_among_parents_are_one_range() -> None:
    assert pack_after([job("work/1"), job("work/2"), "work/3-9", "b/10"]) == [["work", 1, 9], ["b", 10, 1]]


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_the_id_of_an_array_says_which_jobs_it_has(offsets: list[int]) -> None:
    queue, spans = parse_array_id(array_id("a.b/c", spans_of(offsets)))
    assert queue == "a.b/c"
    assert [first + i for first, count in spans for i in range(count)] == offsets


@pytest.mark.parametrize("text", ["", "work", "work/", "/1", "work/2-1", "work/1-", "work/-1", "work/1,,2", "work/x"])
def test_what_is_no_id_of_jobs_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="no id of jobs"):
        parse_array_id(text)


def test_the_id_of_an_array_is_not_that_of_a_job() -> None:
    assert parse_id("work/7") == ("work", 7)
    with pytest.raises(InvalidArgument, match="job_array"):
        parse_id("work/0-9")


# -- queues and topics -------------------------------------------------------------------------------------------------


def test_options_of_queues_travel_in_their_units() -> None:
    given = pack_options(
        {"max_message": "1MiB", "rate": "10/m", "retry_delay_max": "1h", "unique": "1d", "max_leased": 4}
    )
    assert given == {
        "max_message": 2**20, "rate": [10, 60_000], "retry_delay_max_ms": 3_600_000, "unique_ms": 86_400_000,
        "max_leased": 4,
    }  # fmt: skip


def test_none_is_no_limit_and_what_is_not_given_is_not_sent() -> None:
    assert pack_options({"rate": None, "retention_bytes": None}) == {"rate": None, "retention_bytes": None}
    assert pack_options({}) == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_mesages": 1}, "no option 'max_mesages'.*max_messages"),
        ({"rate": 100}, "rate is 100"),
        ({"rate": "fast"}, "rate is 'fast'"),
        ({"max_message": "1Mo"}, "max_message is '1Mo'"),
        ({"unique": "always"}, "unique is 'always'"),
    ],
)
def test_a_wrong_option_of_a_queue_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        pack_options(options)
