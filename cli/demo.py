"""penstock demo: forecast, the whole way on this machine; failover, a cluster whose primary is killed under load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

import click

from . import output
from .exits import FAILED, OK
from .options import Noun, Options
from .private import PrivateDaemon

if TYPE_CHECKING:
    from rich.table import Table

    from ..client.cluster import ClusterInfo
    from ..compute.forecast.demo import DemoReport
    from .failover import Drill, Show
    from .failover_check import Verdict

ERROR_MAX: Final = 1e-9  # a forecast agrees with numpy.polyfit to this, or the demo has failed
COLUMNS = ("job", "asset", "window", "horizon", "forecast")


@click.group(cls=Noun)
def demo() -> None:
    """Demonstrations that need nothing but this machine."""


@demo.command()
@click.option("--jobs", default=1000, show_default=True, type=click.IntRange(min=1), help="How many jobs.")
@click.option("--ranks", default=2, show_default=True, type=click.IntRange(min=1), help="Processes of the pool.")
@click.option(
    "--series",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.csv",
    help="Time series, one a column.  [default: 100 made-up series of 300 steps]",
)
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.png", help="Draw series and forecasts."
)
@click.pass_obj
def forecast(options: Options, jobs: int, ranks: int, series: Path | None, plot: Path | None) -> int:
    """Forecast time series: submit jobs, let an MPI pool work them off, check every result against numpy.polyfit.

    jobs_per_second counts from the first lease to the last result. Exit code 1 if a job failed or a result is off by
    more than 1e-9.
    """
    from ..compute.forecast.demo import plot as draw
    from ..compute.forecast.demo import run_demo

    with PrivateDaemon() as daemon, output.progress() as bar:
        line = bar.add_task("forecast", total=jobs)

        def show(done: int, failed: int, total: int) -> None:
            bar.update(line, completed=done + failed, total=total)

        report = run_demo(daemon.endpoint, jobs, ranks, series, show)
    _show(report, options)
    if plot is not None:
        draw(report, plot)
        output.note(f"drawn: {plot}")
    return OK if report.failed == 0 and report.done == report.jobs and report.max_error <= ERROR_MAX else FAILED


def _show(report: DemoReport, options: Options) -> None:
    if options.json:
        output.say_json(report.to_dict())
        return
    output.rows([output.jsonable(row) for row in report.rows], COLUMNS, as_json=False, title="some of the results")
    output.note(
        f"{report.done} of {report.jobs} jobs done, {report.failed} failed, in {report.seconds:.3f} s: "
        f"{report.jobs_per_second:,.0f} jobs/s; largest difference from numpy.polyfit {report.max_error:.1e}"
    )


@demo.command()
@click.option(
    "--kills", default=5, show_default=True, type=click.IntRange(min=1), help="How often to kill the primary."
)
@click.pass_obj
def failover(options: Options, kills: int) -> int:
    """Kill the primary of three nodes, again and again, while a producer and a consumer work.

    A gap is the longest time without a confirmed publish after a kill. What was lost, or came again after it was done,
    is computed from what both wrote down. Exit code 1 if that is anything.
    """
    from .failover import run

    with _live_table(options.json) as show:
        verdict, seconds = run(kills, show)
    if options.json:
        output.say_json(
            {
                "gaps_s": [round(gap_s, 4) for gap_s in verdict.gaps_s],
                "acknowledged": verdict.acknowledged,
                "completed": verdict.completed,
                "lost": verdict.lost,
                "duplicates": verdict.duplicates,
                "seconds": round(seconds, 3),
            }
        )
    else:
        _tell_verdict(verdict, seconds)
    return OK if verdict.good else FAILED


def _tell_verdict(verdict: Verdict, seconds: float) -> None:
    gaps_ms = ", ".join(f"{gap_s * 1000:.0f}" for gap_s in verdict.gaps_s)
    output.say(f"gaps after each kill of the primary: {gaps_ms} ms")
    output.say(f"median {(verdict.median_s or 0) * 1000:.0f} ms, worst {max(verdict.gaps_s) * 1000:.0f} ms")
    output.say(
        f"acknowledged: {verdict.acknowledged}, lost: {verdict.lost}, "
        f"duplicates of completed work: {verdict.duplicates} (in {seconds:.1f} s)"
    )


@contextmanager
def _live_table(as_json: bool) -> Iterator[Show | None]:
    """A table on stderr that is redrawn; where stderr is no terminal, nothing."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if as_json or not console.is_terminal:
        yield None
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda drill, infos: live.update(_drill_table(drill, infos), refresh=True)


def _drill_table(drill: Drill, infos: dict[int, ClusterInfo | None]) -> Table:
    from rich.table import Table

    elapsed_s = monotonic() - drill.started_s
    table = Table(
        "node", "role", "term", "applied", "lag",
        title=f"{len(drill.kills_s)} of {drill.kills} kills, {elapsed_s:.0f} s: {drill.doing}",
    )  # fmt: skip
    primary = next((info for info in infos.values() if info is not None and info.role == "primary"), None)
    lags = {} if primary is None else {member.node: member.lag for member in primary.members}
    for node, info in infos.items():
        if info is None:
            table.add_row(str(node), "killed" if node == drill.killed else "down", "", "", "", style="red")
            continue
        style = "green" if info.role == "primary" else ""
        lag = output.cell(lags.get(node))
        table.add_row(str(node), info.role, str(info.term), str(info.applied), lag, style=style)
    return table
