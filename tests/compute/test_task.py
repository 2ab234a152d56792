"""Tasks: what may be sent for them, and what a module may hold."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.compute.check import check_of
from penstock.compute.task import Task, load_tasks, task, tasks_of_queue
from penstock.peers.errors import InvalidArgument


@task(queue="forecast", max_failures=3, time_limit="10m")
def forecast(assets: list[int], days: int = 10, note: str | None = None) -> dict[str, Any]:
    return {"assets": assets, "days": days, "note": note}


class FakeClient:
    """Notes what it is told to submit."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any, str | None]] = []
        self.options: list[dict[str, Any]] = []

    def submit(self, queue: str, args: Any, task: str | None = None, **options: Any) -> str:
        self.sent.append((queue, args, task))
        self.options.append(options)
        return f"{queue}/0"

    def submit_many(self, queue: str, many: list[Any], task: str | None = None, **options: Any) -> list[str]:
        self.sent.append((queue, many, task))
        self.options.append(options)
        return [f"{queue}/{place}" for place in range(len(many))]


@pytest.fixture
def module() -> Any:
    """module(name=value, ...): the name of a new module that holds these."""
    made: list[str] = []

    def make(**members: Any) -> str:
        name = f"penstock_test_tasks_{id(members)}"
        created = ModuleType(name)
        vars(created).update(members)
        sys.modules[name] = created
        made.append(name)
        return name

    yield make
    for name in made:
        del sys.modules[name]


def test_a_task_is_called_like_its_function() -> None:
    assert forecast([1], days=2) == {"assets": [1], "days": 2, "note": None}


def test_the_bare_decorator_takes_name_and_queue_from_the_function() -> None:
    @task
    def plain(n: int) -> int:
        return n

    assert (plain.name, plain.queue, plain(3)) == ("plain", "plain", 3)


def test_options_are_in_the_units_they_say() -> None:
    assert (forecast.time_limit_s, forecast.max_failures, forecast.batch, forecast.ranks) == (600.0, 3, False, None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "needs the argument 'assets'"),
        ({"assets": [1], "dais": 3}, "has no argument 'dais'"),
        ({"assets": 3}, "assets is 3 (int)"),
        ({"assets": [1, "two"]}, "give list[int]"),
        ({"assets": [True]}, "give list[int]"),
        ({"assets": [1], "days": "3"}, "days is '3' (str)"),
        ({"assets": [1], "days": 1.5}, "give int"),
        ({"assets": [1], "note": 3}, "give str | None"),
    ],
)
def test_wrong_arguments_are_named_with_what_would_be_right(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        forecast.check(arguments)
    assert said in str(refusal.value)


def test_right_arguments_pass() -> None:
    forecast.check({"assets": [1, 2], "days": 3, "note": None})
    forecast.check({"assets": []})


def test_submit_sends_the_arguments_that_were_given() -> None:
    client = FakeClient()
    assert forecast.submit(client, assets=[1, 2]) == "forecast/0"  # type: ignore[arg-type]
    assert client.sent == [("forecast", {"assets": [1, 2]}, None)]


def test_jobs_carry_the_policy_of_their_task_and_the_options_of_their_submission() -> None:
    client = FakeClient()
    forecast.submit(client, assets=[1])  # type: ignore[arg-type]
    forecast.options(priority=5, max_failures=1).submit(client, assets=[1])  # type: ignore[arg-type]
    forecast.options(ids=["a"]).submit_many(client, [{"assets": [1]}], gather=("sum", {}))  # type: ignore[arg-type]
    assert client.options == [
        {"max_failures": 3},
        {"max_failures": 1, "priority": 5},
        {"max_failures": 3, "ids": ["a"], "gather": ("sum", {})},
    ]


def test_arguments_are_checked_with_options_as_without() -> None:
    client = FakeClient()
    with pytest.raises(InvalidArgument, match="assets is 'x'"):
        forecast.options(priority=5).submit(client, assets="x")  # type: ignore[arg-type]
    assert client.sent == []


def test_nothing_is_sent_if_one_of_many_is_wrong() -> None:
    client = FakeClient()
    with pytest.raises(InvalidArgument, match="job 1 of 2"):
        forecast.submit_many(client, [{"assets": [1]}, {"assets": "x"}])  # type: ignore[arg-type]
    assert client.sent == []


@pytest.mark.parametrize("wrong", ["text", {"assets": [1]}, 5, ["text"], [{"assets": [1]}, None]])
def test_what_are_no_maps_of_arguments_are_refused(wrong: Any) -> None:
    client = FakeClient()
    with pytest.raises(InvalidArgument, match=r"arguments.* (is|are) .*give a"):
        forecast.submit_many(client, wrong)
    assert client.sent == []


def test_a_named_task_sends_its_name() -> None:
    @task(queue="q", name="second")
    def other(n: int) -> int:
        return n

    client = FakeClient()
    other.submit(client, n=1)  # type: ignore[arg-type]
    assert client.sent == [("q", {"n": 1}, "second")]


def test_the_validator_speaks_before_anything_is_sent() -> None:
    def even(n: int) -> None:
        if n % 2:
            raise ValueError(f"{n} is odd")

    @task(queue="q", validate=even)
    def half(n: int) -> int:
        return n // 2

    half.check({"n": 2})
    with pytest.raises(InvalidArgument, match="3 is odd"):
        half.check({"n": 3})


def test_the_validator_of_a_batch_task_is_its_signature() -> None:
    def fields(n: int, m: int = 1) -> None:
        del n, m

    @task(queue="q", batch=True, validate=fields)
    def many(jobs: list[dict[str, Any]]) -> list[Any]:
        return jobs

    many.check({"n": 2})
    with pytest.raises(InvalidArgument, match="n is 'x'"):
        many.check({"n": "x"})


def test_the_communicator_of_a_collective_task_is_no_argument_of_a_job() -> None:
    @task(queue="heat", ranks="all")
    def heat(comm: Any, n: int) -> float:
        return float(n)

    heat.check({"n": 3})
    with pytest.raises(InvalidArgument, match="has no argument 'comm'"):
        heat.check({"comm": 1, "n": 3})


@pytest.mark.parametrize(
    "options",
    [
        {"batch": True, "ranks": "all"},
        {"ranks": 0},
        {"ranks": "some"},
        {"max_failures": 0},
        {"time_limit": 0},
        {"time_limit": "soon"},
    ],
)
def test_impossible_options_are_refused_where_they_are_written(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        task(queue="q", **options)(lambda: None)


def test_a_module_without_tasks_is_refused(module: Callable[..., str]) -> None:
    with pytest.raises(InvalidArgument, match="has no tasks"):
        load_tasks(module(x=1))


def test_a_module_that_cannot_be_imported_is_refused_with_the_cause() -> None:
    with pytest.raises(InvalidArgument, match="No module named 'penstock_nowhere'"):
        load_tasks("penstock_nowhere")


def test_two_nameless_tasks_of_one_queue_are_refused(module: Callable[..., str]) -> None:
    def one() -> None: ...
    def two() -> None: ...

    with pytest.raises(InvalidArgument, match="two tasks for queue 'q': 'one' and 'two'"):
        load_tasks(module(one=Task(one, queue="q"), two=Task(two, queue="q")))


def test_two_tasks_of_one_queue_pass_if_one_has_a_name(module: Callable[..., str]) -> None:
    def one() -> None: ...
    def two() -> None: ...

    name = module(
        one=Task(one, queue="q"), two=Task(two, queue="q", name="second"), also=Task(one, queue="other", name="x")
    )
    assert set(load_tasks(name)) == {"one", "second", "x"}
    assert set(tasks_of_queue(name, "q")) == {"one", "second"}


def test_two_tasks_of_one_name_are_refused(module: Callable[..., str]) -> None:
    def one() -> None: ...

    with pytest.raises(InvalidArgument, match="two tasks called 'one'"):
        load_tasks(module(a=Task(one, queue="q"), b=Task(one, queue="p")))


def test_a_queue_without_task_is_refused_and_the_others_are_named(module: Callable[..., str]) -> None:
    with pytest.raises(InvalidArgument, match=r"no task for queue 'x'.*'forecast'"):
        tasks_of_queue(module(forecast=forecast), "x")


@pytest.mark.parametrize(
    ("annotation", "fits", "fits_not"),
    [
        (float, [1, 1.5, np.float64(2)], ["1", None, True]),
        (int, [1, np.int64(3)], [1.0, True, "1"]),
        (bytes, [b"x"], ["x"]),
        (dict[str, int], [{"a": 1}, {}], [{"a": "b"}, {1: 1}, []]),
        (list[float], [[1, 2.5], []], [["x"], 1.0]),
        (list[list[int]], [[[1], []]], [[1]]),
        (tuple[int, ...], [(1, 2), [1]], ["ab"]),
        (Literal["a", "b"], ["a"], ["c"]),
        (int | str, [1, "x"], [1.5, None]),
        (None, [None], [0]),
    ],
)
def test_annotations_are_checks(annotation: Any, fits: list[Any], fits_not: list[Any]) -> None:
    check = check_of(annotation)
    assert check is not None
    assert all(check(value) for value in fits)
    assert not any(check(value) for value in fits_not)


@given(st.lists(st.one_of(st.integers(), st.text(), st.floats(), st.booleans(), st.none())))
def test_a_list_of_numbers_or_names_is_told_from_all_others(values: list[Any]) -> None:
    check = check_of(list[int | str])
    assert check is not None
    assert check(values) == all(type(value) in (int, str) for value in values)


def test_what_never_returns_a_result_is_no_task() -> None:
    async def coroutine() -> int:
        return 1

    def generator() -> Any:
        yield 1

    async def both() -> Any:
        yield 1

    for function in (coroutine, generator, both):
        with pytest.raises(InvalidArgument, match=f"task '{function.__name__}' is a coroutine or a generator"):
            task(function)


def test_an_import_that_fails_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_a_card.py").write_text("import os\nraise RuntimeError('no card')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InvalidArgument, match=r"RuntimeError: no card \(.*needs_a_card.py, line 2\)"):
        load_tasks("needs_a_card")
    with pytest.raises(InvalidArgument, match="No module named 'nowhere_to_be_seen'") as refusal:
        load_tasks("nowhere_to_be_seen")
    assert "line" not in refusal.value.message
    with pytest.raises(InvalidArgument, match="give the name of the module: needs_a_card"):
        load_tasks("needs_a_card.py")
