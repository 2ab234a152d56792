"""What a person at a terminal is shown."""

import io
import sys
from typing import Any

import pytest

from penstock.cli import output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def show(monkeypatch: pytest.MonkeyPatch, **row: Any) -> list[str]:
    """The lines of a table of one row, on a terminal of 40 columns."""
    terminal = Terminal()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", terminal)
        patched.setenv("COLUMNS", "40")
        patched.setenv("TERM", "dumb")
        output.rows([row], list(row), as_json=False)
    return terminal.getvalue().splitlines()


def test_nothing_of_a_table_is_cut_off_because_the_terminal_is_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"node": 1, "endpoint": "tcp://127.0.0.1:23400", "publish": "tcp://127.0.0.1:23401", "lag": 0}
    header, line = show(monkeypatch, **row)
    assert header.split() == list(row)
    assert line.split() == [str(value) for value in row.values()]


def test_of_a_long_body_a_table_shows_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    _, line = show(monkeypatch, offset=7, body="x" * 5000)
    offset, body = line.split()
    assert (offset, body[:10], body[-1]) == ("7", "x" * 10, "…")
    assert len(body) == output.CELL_MAX
