"""The forecast job: a least-squares line through the last steps of some assets, read some steps ahead."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np

from ...peers.errors import InvalidArgument
from ..task import task
from .line import Floats, Ints
from .store import Series, series

WINDOW = 10
HORIZON = 1
KNOWN = {"assets", "window", "horizon"}
HORIZON_MAX = 1_000_000  # far beyond any use; it keeps the arithmetic exact

Arguments = dict[str, Any]


def validate(assets: list[int | str], window: int = WINDOW, horizon: int = HORIZON) -> None:
    """Raises InvalidArgument if these cannot be forecast from the series of this process."""
    known = series()
    if not assets:
        raise InvalidArgument("forecast: assets is empty", "give at least one index or column name")
    if not all(isinstance(each, int) and 0 <= each < len(known.names) for each in assets):
        for each in assets:
            known.asset(each)
    if not 2 <= window <= known.steps:
        raise InvalidArgument(f"forecast: window is {window}", f"give 2 to {known.steps} steps")
    if not 1 <= horizon <= HORIZON_MAX:
        raise InvalidArgument(f"forecast: horizon is {horizon}", f"give 1 to {HORIZON_MAX} steps")


@task(queue="forecast", batch=True, validate=validate)
def forecast(jobs: list[Arguments]) -> list[Any]:
    """For each job {"assets", "window", "horizon"} the values of its assets' lines: a list of floats, or an error.

    A job's `assets` are indices or column names; `window` (default 10) is how many last steps the line goes through,
    `horizon` (default 1) how many steps after the last it is read.
    """
    known = series()
    faults = [_fault(job) for job in jobs] if _doubtful(jobs, known) else [None] * len(jobs)
    good = [job for job, fault in zip(jobs, faults, strict=True) if fault is None]
    values = iter(forecast_all(good, known))
    return [next(values) if fault is None else fault for fault in faults]


def forecast_all(jobs: list[Arguments], known: Series) -> list[list[float]]:
    """The same for jobs that are known to be valid: one expression for all assets of all jobs."""
    if not jobs:
        return []
    sizes = [len(job["assets"]) for job in jobs]
    windows = np.repeat(np.array([job.get("window", WINDOW) for job in jobs], dtype=np.int64), sizes)
    horizons = np.repeat(np.array([job.get("horizon", HORIZON) for job in jobs], dtype=np.int64), sizes)
    values = known.lines.read(_assets(jobs, known), windows, horizons)
    return _cut(values, sizes)


def _doubtful(jobs: list[Arguments], known: Series) -> bool:
    """Must the jobs be looked at one by one? Not if all of them are plain at once, as jobs checked at submit are."""
    try:
        assets = list(chain.from_iterable(job["assets"] for job in jobs))
        windows = [job.get("window", WINDOW) for job in jobs]
        horizons = [job.get("horizon", HORIZON) for job in jobs]
        plain = (
            set(map(type, assets)) == set(map(type, windows)) == set(map(type, horizons)) == {int}
            and min(assets) >= 0
            and max(assets) < len(known.names)
            and min(windows) >= 2
            and max(windows) <= known.steps
            and min(horizons) >= 1
            and max(horizons) <= HORIZON_MAX
        )
    except (KeyError, TypeError):
        return True
    return not plain or not all(job["assets"] and job.keys() <= KNOWN for job in jobs)


def _fault(job: Arguments) -> InvalidArgument | None:
    try:
        forecast.check(job)
    except InvalidArgument as fault:
        return fault
    return None


def _assets(jobs: list[Arguments], known: Series) -> Ints:
    flat = list(chain.from_iterable(job["assets"] for job in jobs))
    if set(map(type, flat)) != {int}:
        flat = [known.asset(each) for each in flat]
    return np.array(flat, dtype=np.int64)


def _cut(values: Floats, sizes: list[int]) -> list[list[float]]:
    flat = values.tolist()
    found = []
    first = 0
    for size in sizes:
        found.append(flat[first : first + size])
        first += size
    return found


series()  # a file that cannot be read stops a pool at its start, not every job in it
