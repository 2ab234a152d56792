"""What the documents promise is shown by tests that are there; and each feature is shown at each of the four places."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("docs/features.md", "docs/guarantees.md")
STORIES = "tests/faults/test_features.py"
PLACES = ("model", "client", "command line", "daemons killed")
# What a user looks for: each has to be found in the name of a row.
FEATURES = (
    "priority", "delay", "time to live", "arrays", "parents", "gather", "retries", "dead letters", "ids", "order by",
    "max_messages", "max_message", "pause", "rate", "max_leased", "window", "can_send", "retention", "groups",
    "history", "progress", "cancel", "time limits", "results", "result queue", "drain", "explain", "call", "events",
    "schedules",
)  # fmt: skip


def names_of(page: str) -> list[str]:
    """What stands there as a test: the name of a function or class (or how several begin), or the path of a file."""
    return re.findall(r"`((?:test_|Test|tests/)[\w./]*)`", (ROOT / page).read_text())


@cache
def known() -> frozenset[str]:
    """Every test function and class."""
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name):
                found.add(target.id)  # of a machine of hypothesis
    return frozenset(name for name in found if name.startswith(("test_", "Test")))


def exists(name: str) -> bool:
    if "/" in name:
        return (ROOT / name).exists()
    if name.endswith("..."):
        return any(test.startswith(name.rstrip(".")) for test in known())
    return name in known()


@cache
def stories() -> frozenset[str]:
    """Every story of daemons that are killed."""
    module = ast.parse((ROOT / STORIES).read_text())
    return frozenset(node.name for node in module.body if isinstance(node, ast.FunctionDef) and is_story(node))


def is_story(node: ast.FunctionDef) -> bool:
    return any(isinstance(it, ast.Name) and it.id.startswith("story") for it in node.decorator_list)


def rows() -> list[list[str]]:
    """The table: the feature, and a cell for each place."""
    lines = [line for line in (ROOT / "docs/features.md").read_text().splitlines() if line.startswith("| ")]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert tuple(table[0][1:]) == PLACES
    return table[1:]


@pytest.mark.parametrize("page", PAGES)
def test_tests_that_a_page_names_exist(page: str) -> None:
    names = names_of(page)
    assert len(names) > 30
    assert [name for name in names if not exists(name)] == []


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_feature_is_shown_at_each_place_or_it_is_said_why_not(row: list[str]) -> None:
    feature, *cells = row
    assert len(cells) == len(PLACES)
    for place, cell in zip(PLACES, cells, strict=True):
        named = re.findall(r"`([\w./]+)`", cell)
        assert named or cell.startswith("("), f"{feature}: nothing shows it in: {place}"
        for name in named:
            assert exists(name) or (place == PLACES[-1] and name in stories()), name


def test_every_story_stands_in_the_table_and_every_feature_has_its_row() -> None:
    told = {name for row in rows() for name in re.findall(r"`(\w+)`", row[-1])}
    assert stories() <= told
    features = " ".join(row[0] for row in rows())
    assert [name for name in FEATURES if name not in features] == []
