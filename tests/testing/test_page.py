"""docs/testing.md: its examples run, in a process of their own, as those of a user do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
BLOCK = re.compile(r"^```python\n# (\S+\.py)\b.*\n((?:.*\n)*?)```$", re.MULTILINE)
RUN_S = 120.0

WITHOUT_PYTEST = """
import sys
sys.modules["pytest"] = None
from penstock.testing import Broker
with Broker() as broker:
    broker.connect().create_queue("q")
    broker.advance("1d")
"""


def python(folder: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        timeout=RUN_S,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    files = dict(BLOCK.findall(PAGE.read_text()))
    assert sorted(files) == ["conftest.py", "plain.py", "shop.py", "test_cluster.py", "test_shop.py"]
    assert PAGE.read_text().count("```python") == len(files)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    out = python(tmp_path, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:xdist")
    tests = sum(text.count("\ndef test_") for text in files.values())
    assert f"{tests} passed" in out
    python(tmp_path, "plain.py")


def test_pytest_is_needed_for_the_fixtures_alone(tmp_path: Path) -> None:
    python(tmp_path, "-c", WITHOUT_PYTEST)


def test_nothing_is_loaded_into_suites_that_did_not_ask_for_it() -> None:
    assert [each.name for each in entry_points(group="pytest11") if each.value.startswith("penstock")] == []
