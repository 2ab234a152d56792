"""The whole way on one machine: jobs into the queue, through a pool, and each result checked against numpy.polyfit."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...client import Client, Job, connect
from ...peers.errors import InvalidArgument, PenstockError
from ..pool import PoolConfig, PoolProcess, spawn_pool
from ..registry import PoolState, wait_until
from .store import VARIABLE, Series, load_series

QUEUE = "forecast"
SEED = 7
ASSETS_EACH = 10
WINDOWS = (20, 100)  # from, below
HORIZONS = (1, 6)
ROWS = 10
LOOK_S = 0.05
STUCK_S = 60.0  # without a single job ending

Progress = Callable[[int, int, int], None]


@dataclass(frozen=True)
class SampleRow:
    """One value of one job."""

    job: str
    asset: str
    window: int
    horizon: int
    forecast: float


@dataclass(frozen=True)
class DemoReport:
    """`seconds` counts from the first lease, when the pool got it, to the last result, when the pool heard the daemon's
    confirmation; both by the pool's clock. `max_error` is the largest difference from numpy.polyfit, of all jobs."""

    jobs: int
    done: int
    failed: int
    seconds: float
    jobs_per_second: float
    max_error: float
    rows: list[SampleRow] = field(repr=False)
    series: Series = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        names = ("jobs", "done", "failed", "seconds", "jobs_per_second", "max_error")
        return {name: getattr(self, name) for name in names}


def run_demo(
    endpoint: str, jobs: int = 1000, ranks: int = 2, series: Path | None = None, progress: Progress | None = None
) -> DemoReport:
    """Submit `jobs` random jobs to the daemon at `endpoint`, have a pool of its own work them off, compare all results.

    `progress` is called with (done, failed, jobs). Raises NotFound or InvalidArgument for a series file that cannot be
    read, PenstockError if the pool ends before the jobs do, Timeout if nothing moves for a minute.
    """
    known = load_series(series)
    env = {VARIABLE: str(series.resolve()) if series is not None else ""}
    arguments = random_jobs(known, jobs)
    with tempfile.TemporaryDirectory(prefix="penstock-demo-") as folder:
        log = Path(folder, "pool.log")
        config = PoolConfig(endpoint, QUEUE, __package__ or "", ranks, state_dir=Path(folder, "pools"), env=env)
        with connect(endpoint) as client:
            client.create_queue(QUEUE, exist_ok=True)
            pool = spawn_pool(config, log=log)
            try:
                submitted = client.submit_many(QUEUE, arguments)
                results = _results(client, pool, log, submitted, progress)
                state = _last_state(pool, sum(result is not None for result in results.values()))
            finally:
                pool.stop()
    return _report(known, submitted, arguments, results, state)


def random_jobs(known: Series, count: int) -> list[dict[str, Any]]:
    """Jobs of ten assets each, the same ones every time."""
    random = np.random.default_rng(SEED)
    each = min(ASSETS_EACH, len(known.names))
    low, high = min(WINDOWS[0], known.steps), min(WINDOWS[1], known.steps + 1)
    assets = random.permuted(np.tile(np.arange(len(known.names)), (count, 1)), axis=1)[:, :each].tolist()
    windows = random.integers(low, high, count).tolist()
    horizons = random.integers(*HORIZONS, count).tolist()
    return [
        {"assets": some, "window": window, "horizon": horizon}
        for some, window, horizon in zip(assets, windows, horizons, strict=True)
    ]


def largest_error(known: Series, arguments: list[dict[str, Any]], results: list[list[float]]) -> float:
    """The largest difference of these results from numpy.polyfit, which fits all series of one window in one call."""
    by_window: defaultdict[int, list[int]] = defaultdict(list)
    for place, job in enumerate(arguments):
        by_window[job["window"]].append(place)
    worst = 0.0
    for window, places in by_window.items():
        slope, start = np.polyfit(np.arange(window), known.values[:, -window:].T, 1)
        assets = np.array([arguments[place]["assets"] for place in places])
        ahead = np.array([arguments[place]["horizon"] for place in places])[:, None]
        expected = start[assets] + slope[assets] * (window - 1 + ahead)
        worst = max(worst, float(np.abs(expected - np.array([results[place] for place in places])).max()))
    return worst


def _results(
    client: Client, pool: PoolProcess, log: Path, submitted: Sequence[Job], progress: Progress | None
) -> dict[int, list[float] | None]:
    """What became of the jobs, by offset; None: it failed. Asked when all have ended: the pool needs the machine."""
    before = client.describe(QUEUE)
    done = failed = 0
    moved_s = time.monotonic()
    while done + failed < len(submitted):
        if pool.poll() is not None:
            raise PenstockError("the pool ended before the jobs did", _tail(log))
        info = client.describe(QUEUE)
        now = (info.done - before.done, info.dead - before.dead)
        moved_s = time.monotonic() if now != (done, failed) else moved_s
        done, failed = now
        if progress is not None:
            progress(done, failed, len(submitted))
        if time.monotonic() - moved_s > STUCK_S:
            raise PenstockError(f"no job ended for {STUCK_S:g} s", _tail(log))
        time.sleep(LOOK_S)
    outcomes = {outcome.offset: outcome for outcome in client.drain(QUEUE, timeout=STUCK_S)}
    return {job.offset: outcomes[job.offset].value for job in submitted}


def _last_state(pool: PoolProcess, done: int) -> PoolState:
    """What the pool says when it has written down the last of `done` results."""
    found: list[PoolState] = []

    def written() -> bool:
        state = pool.state()
        if state is not None and state.in_hand == 0 and state.done >= done:
            found.append(state)
        return bool(found)

    wait_until(written, 10.0, "the pool to count its last job")
    return found[0]


def _report(
    known: Series,
    submitted: Sequence[Job],
    arguments: list[dict[str, Any]],
    results: dict[int, list[float] | None],
    state: PoolState,
) -> DemoReport:
    ended = [results[job.offset] for job in submitted]
    good = [(job, given, result) for job, given, result in zip(submitted, arguments, ended, strict=True) if result]
    seconds = ((state.last_result_ms or 0) - (state.first_lease_ms or 0)) / 1000
    rows = [
        SampleRow(job.id, known.names[given["assets"][0]], given["window"], given["horizon"], result[0])
        for job, given, result in good[:ROWS]
    ]
    return DemoReport(
        jobs=len(submitted),
        done=len(good),
        failed=len(submitted) - len(good),
        seconds=seconds,
        jobs_per_second=len(good) / seconds if seconds > 0 else 0.0,
        max_error=largest_error(known, [each[1] for each in good], [each[2] for each in good]) if good else 0.0,
        rows=rows,
        series=known,
    )


def plot(report: DemoReport, path: Path) -> None:
    """A picture of the series, lines and forecasts of `report.rows`. Raises InvalidArgument without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as fault:
        raise InvalidArgument("matplotlib is not installed", "pip install 'penstock[plot]'") from fault
    rows = report.rows[:6]
    figure = Figure(figsize=(10, 1.8 * max(1, len(rows))), layout="constrained")
    for axes, row in zip(figure.subplots(max(1, len(rows)), 1, squeeze=False)[:, 0], rows, strict=False):
        _draw(axes, report.series, row)
    figure.savefig(path, dpi=120)


def _draw(axes: Any, known: Series, row: SampleRow) -> None:
    values = known.values[known.index[row.asset]]
    steps = np.arange(known.steps)
    fitted = steps[-row.window :]
    slope, start = np.polyfit(fitted, values[-row.window :], 1)
    end = known.steps - 1 + row.horizon
    axes.plot(steps, values, color="0.6", linewidth=0.8)
    axes.plot([fitted[0], end], [start + slope * fitted[0], start + slope * end], color="tab:blue", linewidth=1.2)
    axes.plot([end], [row.forecast], "o", color="tab:red", markersize=4)
    axes.set_title(
        f"{row.job}: {row.asset}, last {row.window} steps, {row.horizon} ahead: {row.forecast:.6g}", fontsize=8
    )


def _tail(log: Path) -> str:
    return "; ".join(log.read_text(errors="replace").splitlines()[-3:]) if log.exists() else ""
