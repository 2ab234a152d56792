"""The series that are forecast: a hundred made-up ones, or the columns of a CSV file."""

from __future__ import annotations

import csv
import math
import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...peers.errors import InvalidArgument, NotFound
from .line import Floats, Lines

VARIABLE = "PENSTOCK_FORECAST_SERIES"  # a CSV file; so ranks and helpers find what the pool was started with
SEED = 20_260_101
ASSETS = 100
STEPS = 300
STEPS_MIN = 2  # a line needs two points


class Series:
    """Time series of equal length: `names`, `values` (assets x steps), and the lines through their ends."""

    def __init__(self, names: list[str], values: Floats) -> None:
        self.names = names
        self.values = values
        self.lines = Lines(values)
        self.index = {name: place for place, name in enumerate(names)}

    @property
    def steps(self) -> int:
        return int(self.values.shape[1])

    def asset(self, given: int | str) -> int:
        """The index of an asset, given by index or name. Raises InvalidArgument."""
        if isinstance(given, str):
            if given not in self.index:
                raise InvalidArgument(f"no asset is called {given!r}", f"there are {_list(self.names)}")
            return self.index[given]
        if not isinstance(given, int) or isinstance(given, bool):
            raise InvalidArgument(f"asset {given!r} is neither an index nor a name", "give numbers or column names")
        if not 0 <= given < len(self.names):
            raise InvalidArgument(f"there is no asset {given}", f"assets are 0 to {len(self.names) - 1}")
        return given


def made_up(seed: int = SEED, assets: int = ASSETS, steps: int = STEPS) -> Series:
    """Random series between 0 and 1, the same ones for the same seed."""
    return Series([f"asset{place}" for place in range(assets)], np.random.default_rng(seed).random((assets, steps)))


def read_csv(path: Path) -> Series:
    """A CSV file with a header line and one column of numbers for each asset.

    Raises NotFound without such a file, InvalidArgument, with line and column, for anything that is no finite number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            names = _names(path, next(rows, []))
            lines = [_numbers(path, rows.line_num, names, row) for row in rows if row]
    except (FileNotFoundError, IsADirectoryError) as fault:
        raise NotFound(f"there is no file {path}", "give a CSV file with one column for each asset") from fault
    except (UnicodeDecodeError, csv.Error) as fault:
        raise InvalidArgument(
            f"{path} is no CSV file: {fault}", "give UTF-8 text with one column for each asset"
        ) from fault
    if len(lines) < STEPS_MIN:
        raise InvalidArgument(
            f"{path}, line {len(lines) + 2}: the file ends after {len(lines)} lines of values",
            f"a series needs at least {STEPS_MIN}",
        )
    return Series(names, np.ascontiguousarray(np.array(lines, dtype=np.float64).T))


def load_series(path: Path | str | None) -> Series:
    """The series of a file; None: the made-up ones. Read once for each process."""
    return made_up() if path is None else _read_once(Path(path).resolve())


def series() -> Series:
    """The series that this process was told to forecast, by the variable PENSTOCK_FORECAST_SERIES."""
    return _for_variable(os.environ.get(VARIABLE) or None)


@lru_cache(maxsize=4)
def _for_variable(path: str | None) -> Series:
    return load_series(path)


@lru_cache(maxsize=4)
def _read_once(path: Path) -> Series:
    return read_csv(path)


def _names(path: Path, header: list[str]) -> list[str]:
    names = [name.strip() for name in header]
    if not names:
        raise InvalidArgument(f"{path}, line 1: there is no header", "the first line names the columns")
    for place, name in enumerate(names):
        if not name:
            raise InvalidArgument(f"{path}, line 1: column {place + 1} has no name", "name each column")
        if name in names[:place]:
            raise InvalidArgument(f"{path}, line 1: two columns are called {name!r}", "give each a name of its own")
    return names


def _numbers(path: Path, line: int, names: list[str], row: list[str]) -> list[float]:
    if len(row) != len(names):
        raise InvalidArgument(
            f"{path}, line {line}: {len(row)} values", f"there are {len(names)} columns: {_list(names)}"
        )
    return [_number(path, line, name, text) for name, text in zip(names, row, strict=True)]


def _number(path: Path, line: int, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        what = "is empty" if not text.strip() else f"is {text!r}"
        raise InvalidArgument(
            f"{path}, line {line}, column {name!r}: the value {what}", "each value must be a finite number"
        )
    return value


def _list(names: list[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
