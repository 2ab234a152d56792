"""Whatever a client that waits can do, one to await can do under the same name: found by looking, not by a list."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

import penstock
from penstock.client.async_jobs import AsyncSchedules
from penstock.client.schedules import Schedules
from penstock.client.waiting import Waiting

TWINS: list[tuple[type, type]] = [
    (getattr(penstock, name.removeprefix("Async")), getattr(penstock, name))
    for name in penstock.__all__
    if name.startswith("Async")
]
TWINS.append((Schedules, AsyncSchedules))  # what `client.schedules` is
NAMES = {sync.__name__: twin.__name__ for sync, twin in TWINS} | {"Iterator": "AsyncIterator"}
# What `with` and `for` are to the one, `async with` and `async for` are to the other. (Arrays need not be awaited.)
ASYNC = {"__enter__": "__aenter__", "__exit__": "__aexit__", "__iter__": "__aiter__", "__next__": "__anext__"}


def names_of(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def function_of(kind: type, name: str) -> Any:
    """The function behind a method or a property; None of what is neither."""
    member = inspect.getattr_static(kind, name)
    member = member.fget if isinstance(member, property) else member
    return member if inspect.isfunction(member) else None


MEMBERS = [
    pytest.param(function_of(sync, name), function_of(twin, name), id=f"{twin.__name__}.{name}")
    for sync, twin in TWINS
    for name in sorted(names_of(sync))
    if function_of(sync, name) is not None
]
PAIRS = [pytest.param(sync, twin, id=twin.__name__) for sync, twin in TWINS]


def test_every_class_that_waits_has_a_twin() -> None:
    public = [getattr(penstock, name) for name in penstock.__all__]
    waiting = {kind for kind in public if isinstance(kind, type) and issubclass(kind, Waiting)}
    assert waiting <= {sync for sync, _ in TWINS}
    assert len(MEMBERS) > 100


@pytest.mark.parametrize(("sync", "twin"), PAIRS)
def test_twins_have_the_same_names(sync: type, twin: type) -> None:
    assert names_of(twin) == names_of(sync)
    if not issubclass(sync, penstock.JobArray):
        there = {name for name in dir(twin) if name in ASYNC.values()}
        assert there == {ASYNC[name] for name in dir(sync) if name in ASYNC}


@pytest.mark.parametrize(("sync", "twin"), MEMBERS)
def test_a_method_has_the_parameters_and_the_docstring_of_its_twin(sync: Any, twin: Any) -> None:
    assert parameters(twin) == [(*each[:-1], renamed(each[-1])) for each in parameters(sync)]
    assert inspect.getdoc(twin) == inspect.getdoc(sync)
    if "return" in sync.__annotations__:
        assert renamed(sync.__annotations__["return"]) == shown(twin.__annotations__["return"])


def parameters(function: Any) -> list[tuple[str, Any, Any, str]]:
    return [(p.name, p.kind, p.default, shown(p.annotation)) for p in inspect.signature(function).parameters.values()]


def renamed(annotation: str) -> str:
    """With the twins in place of the classes that wait."""
    return re.sub(r"\w+", lambda word: NAMES.get(word[0], word[0]), annotation)


def shown(annotation: Any) -> str:
    if isinstance(annotation, str):
        return annotation
    return annotation.__name__ if isinstance(annotation, type) else re.sub(r"(\w+\.)+", "", str(annotation))


def test_connecting_takes_the_same_arguments() -> None:
    assert parameters(penstock.connect_async) == parameters(penstock.connect)
    assert inspect.getdoc(penstock.connect_async) == inspect.getdoc(penstock.connect)


def test_a_coroutine_names_the_method_that_made_it() -> None:
    assert penstock.AsyncClient.create_queue.__qualname__ == "AsyncClient.create_queue"
    assert inspect.iscoroutinefunction(penstock.AsyncProducer.send)
