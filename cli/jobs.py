"""penstock job: submit, call, list, show, log, wait, drain, result, cancel, retry, explain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from ..peers.errors import InvalidArgument, NotFound
from . import output
from .exits import FAILED, OK, exit_code, tell
from .job_call import call, drain
from .job_ends import COLUMNS as END_COLUMNS
from .job_ends import ended, follow
from .job_log import show_log
from .job_show import show_job
from .job_submit import submit
from .options import Noun, Options, Reading, complete_names, duration

if TYPE_CHECKING:
    from ..client import Job, JobArray

STATUSES = ("queued", "delayed", "waiting", "running", "failed", "done", "dead", "cancelled", "expired")
COLUMNS = ("id", "status", "attempt", "failures", "reason", "error")

id_argument = click.argument("id")
ids_argument = click.argument("ids", nargs=-1, required=True, metavar="ID...")


@click.group(cls=Noun)
def job() -> None:
    """Jobs: messages with a result. The id of a job is QUEUE/OFFSET, that of several QUEUE/FIRST-LAST."""


job.add_command(submit)
job.add_command(call)


@job.command(name="list", cls=Reading)
@click.argument("queue", shell_complete=complete_names("queue"))
@click.option("--status", type=click.Choice(STATUSES), help="Only these.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(min=1), help="How many at most.")
@click.pass_obj
def list_(options: Options, queue: str, status: str | None, limit: int) -> None:
    """The jobs of QUEUE, oldest first, with the latest error of those that failed. In a pipe: id, status, attempt,
    failures, reason, error."""
    with options.reading() as client:
        jobs = client.jobs(queue, status=status, limit=limit)
        output.rows((_row(item) | {"error": _error(item)} for item in jobs), COLUMNS, options.json)


@job.command(cls=Reading)
@id_argument
@click.pass_obj
def show(options: Options, id: str) -> None:
    """All that is known of the job ID, with its history, progress and log; of several jobs how many are in which
    status. In a pipe: key, value, then lines that begin with `history` (at, what, attempt, by, reason) and `log`."""
    with options.reading() as client:
        jobs = client.job_array(id)
        if len(jobs) == 1:
            show_job(jobs[0], options)
        else:
            output.one({"id": jobs.id, "jobs": len(jobs), "statuses": jobs.statuses()}, options.json)


@job.command()
@id_argument
@click.option("--follow", is_flag=True, help="Go on until the job has ended.")
@click.option(
    "--lines", type=click.IntRange(min=0), help="Begin with the latest so many.  [default: all that are kept]"
)
@click.pass_obj
def log(options: Options, id: str, follow: bool, lines: int | None) -> None:
    """Print the log of the job ID: the lines that its task told, also in earlier tries. Exit code 6 if --timeout runs
    out before the end that --follow waits for."""
    with options.connect() as client:
        show_log(client.job(id), lines, follow, options)


@job.command()
@ids_argument
@click.pass_obj
def wait(options: Options, ids: tuple[str, ...]) -> int:
    """Wait until the jobs have ended; on a terminal with progress bars, also of each that runs and tells how far it is.

    Exit code 1 if one did not end well; 6 if --timeout runs out first. In a pipe: id, status, error; of an id of
    several jobs how many ended how.
    """
    with options.connect() as client:
        arrays = [client.job_array(id) for id in ids]
        for array in arrays:
            array.statuses()  # before all of them are listed: a slip in a number may name billions
        jobs = [item for array in arrays for item in array]
        follow(client, jobs, options.timeout)
        code = OK
        for array in arrays:
            row, good = ended(array[0], results=False) if len(array) == 1 else _ended_together(array)
            code = code if good else FAILED
            output.rows([row], END_COLUMNS, options.json)
    return code


job.add_command(drain)


@job.command()
@id_argument
@click.option("--wait", default="0", type=duration, help="Wait so long for its end.  [default: do not wait]")
@click.pass_obj
def result(options: Options, id: str, wait: float) -> int:
    """Print the result of the job ID as JSON; of several jobs one a line, null for each that has none, and why on
    stderr. Exit code 1 if one failed, 6 if one has not ended yet."""
    with options.connect() as client:
        jobs = client.job_array(id)
        if len(jobs) == 1:
            output.say_json(jobs[0].result(timeout=wait))
            return OK
        outcomes = jobs.outcomes(timeout=wait)
        for outcome in outcomes:
            output.say_json(outcome.value)
        errors = [error for outcome in outcomes if (error := outcome.error) is not None]
        for error in errors:
            if options.json:
                tell(error, as_json=True)
            else:
                output.note(f"error: {error.message}")
    return exit_code(errors[0]) if errors else OK


@job.command()
@ids_argument
@click.pass_obj
def cancel(options: Options, ids: tuple[str, ...]) -> int:
    """Cancel jobs. The result of one that runs is refused; its task is told, and killed when its grace is over.

    Of an id of several jobs, those are cancelled that have not ended. An id that is refused holds up no others."""
    with options.connect() as client:

        def cancel_one(id: str) -> dict[str, Any]:
            jobs = client.job_array(id)
            if len(jobs) > 1:
                return {"id": id, "status": "cancelled", "jobs": jobs.cancel()}
            jobs[0].cancel()
            return {"id": id, "status": "cancelled"}

        return _each(options, ids, cancel_one)


@job.command()
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option("--dead", is_flag=True, help="All dead jobs of --queue.")
@click.option("--queue", shell_complete=complete_names("queue"), help="With --dead: the queue.")
@click.option("--limit", type=click.IntRange(min=1), help="With --dead: at most so many, the oldest first.")
@click.pass_obj
def retry(options: Options, ids: tuple[str, ...], dead: bool, queue: str | None, limit: int | None) -> int:
    """Queue dead jobs again, each as a new job; of an id of several jobs, those that are dead. An id that is refused
    holds up no others."""
    if dead != (queue is not None) or dead == bool(ids) or (limit is not None and not dead):
        raise InvalidArgument(
            "which jobs is not clear", "give ids, or --dead with --queue, and --limit only with these"
        )
    with options.connect() as client:
        if queue is not None:
            again = client.retry_dead(queue, limit=limit)
            output.one({"queue": queue, "retried": len(again), "retried_as": again.id or None}, options.json)

        def retry_one(id: str) -> dict[str, Any]:
            jobs = client.job_array(id)
            return {"id": id, "retried_as": jobs[0].retry().id if len(jobs) == 1 else jobs.retry().id}

        return _each(options, ids, retry_one)


@job.command()
@id_argument
@click.pass_obj
def explain(options: Options, id: str) -> None:
    """Why the job ID does not run, one reason a line. In a pipe: code, text."""
    with options.connect() as client:
        reasons = client.job(id).explain()
        if reasons[0].code == "unknown":
            raise NotFound(reasons[0].text)
        output.rows((reason._asdict() for reason in reasons), ("code", "text"), options.json)


def _each(options: Options, ids: Sequence[str], act: Callable[[str], dict[str, Any]]) -> int:
    """Do it for each id. The exit code is that of the first that was refused."""
    code = OK
    for id in ids:
        try:
            row = act(id)
        except (InvalidArgument, NotFound) as error:
            tell(error, options.json)
            code = code or exit_code(error)
        else:
            output.rows([row], tuple(row), options.json)
    return code


def _row(job: Job) -> dict[str, Any]:
    if job.info is None and job.status() == "unknown":
        raise NotFound(f"job {job.id} does not exist")
    row: dict[str, Any] = output.jsonable(job.info)
    return {"id": job.id, **row}


def _error(job: Job) -> str | None:
    """What one that failed, or died of it, failed of the last time, in a line."""
    from ..client.failures import reason_of

    if job.info is None or job.info.status not in ("failed", "dead"):
        return None
    return reason_of(job.describe().error or "") or None


def _ended_together(jobs: JobArray) -> tuple[dict[str, Any], bool]:
    """How the jobs of an array ended, and if all did well."""
    counts = jobs.wait(timeout=0)
    status = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return {"id": jobs.id, "status": status, "statuses": counts}, counts == {"done": len(jobs)}
