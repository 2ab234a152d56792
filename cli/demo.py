"""penstock demo forecast: the whole way on this machine, with a daemon and a pool of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from . import output
from .exits import FAILED, OK
from .options import Noun, Options
from .private import PrivateDaemon

if TYPE_CHECKING:
    from ..compute.forecast.demo import DemoReport

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
