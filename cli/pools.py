"""penstock pool: start, status, stop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..peers.errors import InvalidArgument
from . import output
from .job_submit import FORECAST
from .options import Noun, Options, duration
from .processes import end_with_parent, parent_option

if TYPE_CHECKING:
    from ..compute.pool import PoolConfig

COLUMNS = (
    "name",
    "pid",
    "phase",
    "queue",
    "ranks",
    "tasks",
    "taken",
    "done",
    "failed",
    "in_hand",
    "restarts",
    "running",
)

SHOWN = ("name", "pid", "phase", "ranks", "done", "failed", "in_hand", "restarts", "running")

state_option = click.option(
    "--state-dir",
    envvar="PENSTOCK_STATE_DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where pools of this machine note that they live.",
)


def _one_queue(context: click.Context, parameter: click.Parameter, queues: tuple[str, ...]) -> str | None:
    """Of two, click would silently take the last one, and nobody would work on the first."""
    if len(queues) > 1:
        raise click.BadParameter(f"{' and '.join(queues)} are given: a pool works on one queue; start one for each")
    return queues[0] if queues else None


@click.group(cls=Noun)
def pool() -> None:
    """Pools: MPI ranks that work on the jobs of a queue."""


@pool.command()
@click.option("--queue", multiple=True, callback=_one_queue, help="The queue to work on.  [default: that of the tasks]")
@click.option("--tasks", default=FORECAST, show_default=True, metavar="MODULE", help="The module with the tasks.")
@click.option("--ranks", default=2, show_default=True, type=click.IntRange(min=1), help="Processes.")
@click.option("--launcher", metavar="COMMAND", help="How they are started, such as 'mpiexec -n {ranks}'.")
@click.option(
    "--lease", default="30s", show_default=True, type=duration, help="How long jobs are ours; renewed while they run."
)
@click.option(
    "--grace", default="10s", show_default=True, type=duration, help="How long running jobs may take to end at a stop."
)
@click.option(
    "--cancel-grace", default="5s", show_default=True, type=duration, help="How long a cancelled job may go on."
)
@click.option("--name", default="", help="What to call this pool.  [default: its queue]")
@click.option("--detach", is_flag=True, help="Leave it running in the background.")
@click.option("--log", type=click.Path(dir_okay=False, path_type=Path), help="With --detach: the file for its log.")
@state_option
@parent_option
@click.pass_obj
def start(
    options: Options,
    queue: str | None,
    tasks: str,
    ranks: int,
    launcher: str | None,
    lease: float,
    grace: float,
    cancel_grace: float,
    name: str,
    detach: bool,
    log: Path | None,
    state_dir: Path | None,
    parent_pid: int | None,
) -> int:
    """Start a pool and work until SIGTERM or Ctrl-C. Needs penstock[mpi]."""
    from ..compute.pool import PoolConfig, run_pool

    end_with_parent(parent_pid)
    if log is not None and not detach:
        raise InvalidArgument("--log is for --detach", "redirect stderr instead")
    config = PoolConfig(
        endpoint=options.endpoints,
        queue=queue or _only_queue(tasks),
        tasks=tasks,
        ranks=ranks,
        launcher=launcher,
        lease=lease,
        grace_s=grace,
        cancel_grace_s=cancel_grace,
        state_dir=state_dir,
        name=name,
    )
    if detach:
        _detach(config, log, options)
        return 0
    return run_pool(config)


@pool.command()
@state_option
@click.pass_obj
def status(options: Options, state_dir: Path | None) -> None:
    """The pools that live on this machine.

    In a pipe: name, pid, phase, queue, ranks, tasks, taken, done, failed, in_hand, restarts, running: the jobs that
    run, with how far they are, if they tell.
    """
    from ..compute.registry import pool_status

    rows = [state.to_dict() for state in pool_status(state_dir)]
    if not options.json:
        rows = [row | {"running": _running(row)} for row in rows]
    output.rows(rows, COLUMNS, options.json, shown=SHOWN)


@pool.command()
@click.argument("name")
@state_option
@click.pass_obj
def stop(options: Options, name: str, state_dir: Path | None) -> None:
    """Stop the pool NAME (or its pid): what runs may end, what waits goes back to the queue."""
    from ..compute.registry import stop_pool

    which = int(name) if name.isdecimal() else name
    timeout_s = 20.0 if options.timeout is None else options.timeout
    output.one(stop_pool(which, state_dir=state_dir, timeout_s=timeout_s).to_dict(), options.json)


def _running(state: dict[str, Any]) -> str:
    """ "work/7 40% half, work/9"; where several run in one call, "work/7 +99"."""
    words = []
    for call in state["running"]:
        others = [f"+{call['jobs'] - 1}"] if call["jobs"] > 1 else []
        progress = [] if call["progress"] is None else [f"{call['progress']:.0%}"]
        words.append(
            " ".join([f"{state['queue']}/{call['offset']}", *others, *progress, *filter(None, [call["text"]])])
        )
    return ", ".join(words)


def _only_queue(tasks: str) -> str:
    from ..compute.no_mpi import mpi_left_alone
    from ..compute.task import load_tasks

    with mpi_left_alone():
        queues = sorted({task.queue for task in load_tasks(tasks).values()})
    if len(queues) != 1:
        raise InvalidArgument(f"the tasks of {tasks} are for {', '.join(queues)}", "say which with --queue")
    return queues[0]


def _detach(config: PoolConfig, log: Path | None, options: Options) -> None:
    from ..compute.pool import spawn_pool

    process = spawn_pool(config, bound=False, log=log)
    output.one(process.wait_ready().to_dict(), options.json)
