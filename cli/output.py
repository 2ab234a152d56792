"""How a command speaks: tables on a terminal, tab-separated lines in a pipe, JSON when asked."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from rich.progress import Progress

Row = Mapping[str, Any]
CELL_MAX: Final = 60  # characters of a cell on a terminal, at least


def jsonable(value: Any) -> Any:
    """`value` in JSON's types: arrays as lists, bytes as text or base64, and null for what is no finite number."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return text_of(bytes(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item) for item in value]
    if hasattr(value, "tolist"):  # numpy: an array or a scalar
        return jsonable(value.tolist())
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)


def text_of(body: bytes) -> str:
    """`body` as text, or as base64 where it is no UTF-8."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return base64.b64encode(body).decode()


def say_json(value: Any) -> None:
    click.echo(json.dumps(jsonable(value), ensure_ascii=False))


def say(line: str) -> None:
    click.echo(line)


def note(line: str) -> None:
    """For people: on stderr, so that stdout stays data."""
    click.echo(line, err=True)


def rows(
    items: Iterable[Row], columns: Sequence[str], as_json: bool, title: str = "", shown: Sequence[str] | None = None
) -> None:
    """Many things: a table of `columns`, or of those `shown`, where all are too many for a terminal; in a pipe
    tab-separated, without a header; as JSON an object a line."""
    if as_json:
        for item in items:
            say_json(item)
    elif sys.stdout.isatty():
        _table(items, shown or columns, title)
    else:
        for item in items:
            say("\t".join(cell(item.get(column)) for column in columns))


def section(title: str, items: Iterable[Row], columns: Sequence[str]) -> None:
    """Part of what is told of one thing: a table under its title; in a pipe lines that begin with it. Nothing of
    nothing."""
    found = list(items)
    if found and sys.stdout.isatty():
        _table(found, columns, title)
    else:
        for item in found:
            say("\t".join((title, *(cell(item.get(column)) for column in columns))))


def one(item: Row, as_json: bool) -> None:
    """One thing: a line for every key, those of a map inside with a dot."""
    if as_json:
        say_json(item)
        return
    pairs = list(_flat(item))
    width = max((len(key) for key, _ in pairs), default=0) if sys.stdout.isatty() else 0
    for key, value in pairs:
        say(f"{key:<{width}}  {cell(value)}" if width else f"{key}\t{cell(value)}")


def cell(value: Any) -> str:
    """A value as one field of a line."""
    value = jsonable(value)
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (dict, list)):
        value = json.dumps(value, ensure_ascii=False)
    return str(value).replace("\t", " ").replace("\n", " ")


def progress() -> Progress:
    """A progress bar on stderr; silent where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _flat(item: Row, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in item.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _table(items: Iterable[Row], columns: Sequence[str], title: str) -> None:
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(title=title or None, title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in columns:  # half an endpoint is none; half the body of a message is enough
        table.add_column(column, no_wrap=True, overflow="ellipsis", max_width=max(CELL_MAX, console.width // 2))
    for item in items:
        values = [item.get(column) for column in columns]
        table.add_row(*(Text(f"{value:.6g}" if isinstance(value, float) else cell(value)) for value in values))
    # Wider than the terminal if it must be, which then breaks the lines: nothing is cut off to make it fit.
    console.width = max(
        console.width, Measurement.get(console, console.options.update(max_width=1 << 16), table).maximum
    )
    console.print(table, crop=False)
