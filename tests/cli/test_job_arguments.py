"""What stands behind the arguments of `job submit` and `push`, without a daemon."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import click
import pytest

from penstock.cli.job_submit import _array, indices
from penstock.cli.main import run
from penstock.cli.queues import rate_or_none
from penstock.cli.sending import due_time, given
from penstock.peers.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1-5", [1, 2, 3, 4, 5]),
        ("7", [7]),
        ("0-100:25", [0, 25, 50, 75, 100]),
        ("1, 5,7-9", [1, 5, 7, 8, 9]),
    ],
)
def test_an_array_is_a_set_of_numbers(text: str, numbers: list[int]) -> None:
    assert indices(text) == numbers


@pytest.mark.parametrize("text", ["", "a", "5-1", "1-", "-3", "1-5:0", "1,,2", "1-99999999999", "1-5:2:3"])
def test_what_is_no_array_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is no array|is more than"):
        indices(text)


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ({}, {"index": 7}),
        ({"days": 3}, {"days": 3, "index": 7}),
        ({"asset": "{index}"}, {"asset": 7}),
        ({"file": "part-{index}.csv", "deep": [{"n": "{index}"}]}, {"file": "part-7.csv", "deep": [{"n": 7}]}),
        ("{index}", 7),
        (["a", "{index}"], ["a", 7]),
        ({"k{index}": 1}, {"k7": 1}),
    ],
)
def test_each_job_of_an_array_finds_its_number(template: Any, filled: Any) -> None:
    assert _array(template, [7]) == [filled]


def test_arguments_without_a_place_for_the_number_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="no place"):
        _array([1, 2], [7])


def test_a_moment_is_a_date_a_time_of_day_or_seconds() -> None:
    assert due_time("2030-01-31T08:00") == datetime(2030, 1, 31, 8)
    assert due_time("2030-01-31T08:00+02:00").utcoffset() == timedelta(hours=2)
    assert due_time("1900000000").timestamp() == 1_900_000_000
    soon, now = due_time("23:59:59"), datetime.now()
    assert now < soon <= now + timedelta(days=1)


@pytest.mark.parametrize("text", ["", "soon", "25:00", "12:60", "2030-13-01", "10m"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no moment"):
        due_time(text)


def test_what_was_not_given_is_not_passed_on() -> None:
    assert given({"priority": 0, "after": (), "delay": None, "key": "k"}) == {"priority": 0, "key": "k"}


def test_a_rate_is_checked_before_anything_is_sent() -> None:
    assert (rate_or_none("10/m"), rate_or_none("none")) == ("10/m", "none")
    with pytest.raises(click.BadParameter, match="100/s"):
        rate_or_none("fast")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["job", "submit", "work", "[1]", "--array", "1-3"], "no place"),
        (["job", "submit", "work", "{", "--array", "1-3"], "no JSON"),
        (["job", "submit", "work"], "arguments are missing"),
        (["job", "submit", "work", "--array", "1-3", "--id", "a"], "--id is given for 3 jobs"),
        (["job", "submit", "work", "1", "--priority", "10"], "0<=x<=9"),
        (["job", "submit", "work", "1", "--at", "soon"], "no moment"),
        (["job", "submit", "forecast", "--array", "1-3"], "has no argument 'index'"),
        (["job", "retry"], "which jobs is not clear"),
        (["job", "retry", "--dead"], "which jobs is not clear"),
        (["job", "retry", "work/1", "--dead", "--queue", "work"], "which jobs is not clear"),
        (["push", "work", "-", "--id", "a"], "--id is given for the lines"),
        (["queue", "create", "work", "--rate", "fast"], "no rate"),
        (["queue", "create", "work", "--retry-jitter", "200"], "0<=x<=100"),
    ],
)
def test_wrong_words_are_told_before_a_daemon_is_asked(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--json", "--endpoint", "ipc:///nowhere/at/all"]) == 2
    error = json.loads(capsys.readouterr().err)["error"]
    assert said in error["message"] + error["hint"]
