"""penstock job: submit, list, show, wait, result, cancel, retry."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from ..peers.errors import InvalidArgument, JobCancelled, JobFailed, NotFound
from . import output
from .exits import FAILED, OK
from .options import Noun, Options, complete_names, duration

if TYPE_CHECKING:
    from ..client import Client, Job
    from ..compute.task import Task

STATUSES = ("queued", "delayed", "running", "failed", "done", "dead", "cancelled", "expired")
COLUMNS = ("id", "status", "attempt", "failures", "reason")
FORECAST = "penstock.compute.forecast"

queue_argument = click.argument("queue", shell_complete=complete_names("queue"))
id_argument = click.argument("id")
ids_argument = click.argument("ids", nargs=-1, required=True, metavar="ID...")


@click.group(cls=Noun)
def job() -> None:
    """Jobs: messages with a result. The id of a job is QUEUE/OFFSET."""


@job.command()
@queue_argument
@click.argument("arguments")
@click.option(
    "--tasks", metavar="MODULE", help=f"Check the arguments against its tasks.  [default: {FORECAST}, if it has one]"
)
@click.option("--task", help="Which task of the queue, where it has several.")
@click.option("--wait", is_flag=True, help="Wait for the results and print them.")
@click.pass_obj
def submit(options: Options, queue: str, arguments: str, tasks: str | None, task: str | None, wait: bool) -> int:
    """Submit a job with ARGUMENTS, a JSON value, to QUEUE; `-`: one job for every line of stdin.

    If the module has a task for QUEUE, the arguments are checked before anything is sent. Prints the ids; with --wait
    the results, in the order of submission, and exit code 1 if a job failed.
    """
    send = _sender(_task(queue, tasks, task), queue, list(_values(arguments)))
    with options.connect() as client:
        jobs = send(client)
        if wait:
            return _tell_ends(jobs, client.as_completed(jobs, timeout=options.timeout), options, results=True)
        for item in jobs:
            if options.json:
                output.say_json({"id": item.id})
            else:
                output.say(item.id)
    return OK


@job.command(name="list")
@queue_argument
@click.option("--status", type=click.Choice(STATUSES), help="Only these.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(min=1), help="How many at most.")
@click.pass_obj
def list_(options: Options, queue: str, status: str | None, limit: int) -> None:
    """The jobs of QUEUE, oldest first. In a pipe: id, status, attempt, failures, reason."""
    with options.connect() as client:
        jobs = client.jobs(queue, status=status, limit=limit)
        output.rows((_row(item) for item in jobs), COLUMNS, options.json)


@job.command()
@id_argument
@click.pass_obj
def show(options: Options, id: str) -> None:
    """How the job ID stands."""
    with options.connect() as client:
        output.one(_row(client.job(id)), options.json)


@job.command()
@ids_argument
@click.pass_obj
def wait(options: Options, ids: tuple[str, ...]) -> int:
    """Wait until the jobs have ended. Exit code 1 if one did not end well; 6 if --timeout runs out first."""
    with options.connect() as client:
        jobs = [client.job(id) for id in ids]
        return _tell_ends(jobs, _each_ended(jobs, options.timeout), options, results=False)


@job.command()
@id_argument
@click.option("--wait", default="0", type=duration, help="Wait so long for its end.  [default: do not wait]")
@click.pass_obj
def result(options: Options, id: str, wait: float) -> None:
    """Print the result of the job ID as JSON. Exit code 1 if it failed, 6 if it has not ended yet."""
    with options.connect() as client:
        output.say_json(client.job(id).result(timeout=wait))


@job.command()
@ids_argument
@click.pass_obj
def cancel(options: Options, ids: tuple[str, ...]) -> None:
    """Cancel jobs. One that runs loses its lease: its result will be refused."""
    with options.connect() as client:
        for id in ids:
            client.job(id).cancel()
            output.rows([{"id": id, "status": "cancelled"}], ("id", "status"), options.json)


@job.command()
@ids_argument
@click.pass_obj
def retry(options: Options, ids: tuple[str, ...]) -> None:
    """Queue dead jobs again, each as a new job."""
    with options.connect() as client:
        for id in ids:
            output.rows([{"id": id, "retried_as": client.job(id).retry().id}], ("id", "retried_as"), options.json)


def _sender(task: Task[..., Any] | None, queue: str, values: Sequence[Any]) -> Callable[[Client], Sequence[Job]]:
    """How to submit `values`: through their task, which has checked them, or as they are if no task is known."""
    if task is None:
        return lambda client: client.submit_many(queue, values)
    for value in values:
        if not isinstance(value, dict):
            raise InvalidArgument(f"the arguments of the task {task.name} are {value!r}", "give a JSON object")
        task.check(value)
    return lambda client: task.submit_many(client, values)


def _task(queue: str, module: str | None, name: str | None) -> Task[..., Any] | None:
    from ..compute.task import load_tasks

    tasks = [task for task in load_tasks(module or FORECAST).values() if task.queue == queue]
    if name is not None:
        tasks = [task for task in tasks if task.name == name]
    if len(tasks) > 1:
        raise InvalidArgument(
            f"the queue {queue} has the tasks {', '.join(task.name for task in tasks)}", "say which: --task"
        )
    if not tasks and (module or name):
        raise InvalidArgument(f"{module or FORECAST} has no such task for the queue {queue}", "see --tasks and --task")
    return tasks[0] if tasks else None


def _values(arguments: str) -> Iterator[Any]:
    if arguments != "-":
        yield _parse(arguments, "ARGUMENTS")
        return
    for number, line in enumerate(sys.stdin, 1):
        if line.strip():
            yield _parse(line, f"line {number}")


def _parse(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"{what} is no JSON: {error}", """write for example '{"assets": [0, 1]}'""") from error


def _row(job: Job) -> dict[str, Any]:
    if job.info is None and job.status() == "unknown":
        raise NotFound(f"job {job.id} does not exist")
    row: dict[str, Any] = output.jsonable(job.info)
    return {"id": job.id, **row}


def _each_ended(jobs: Sequence[Job], timeout: float | None) -> Iterator[Job]:
    """The jobs in their order, each when it has ended: for jobs of any age, whose outcomes may lie far back."""
    deadline = None if timeout is None else time.monotonic() + timeout
    for job in jobs:
        job.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        yield job


def _tell_ends(jobs: Sequence[Job], ending: Iterable[Job], options: Options, results: bool) -> int:
    """Follow the `ending` jobs with a progress bar, then print all, in order. FAILED if one did not end well."""
    with output.progress() as bar:
        line = bar.add_task("jobs", total=len(jobs))
        for _ in ending:
            bar.advance(line)
    code = OK
    for item in jobs:
        row, good = _ended(item, results)
        code = code if good else FAILED
        if options.json or not results:
            output.rows([row], ("id", "status", "error"), options.json)
        elif good:
            output.say_json(row["result"])
        else:
            output.note(f"{item.id}: {row['error']}")
    return code


def _ended(job: Job, results: bool) -> tuple[dict[str, Any], bool]:
    """How an ended job ended, and if that is well."""
    row: dict[str, Any] = {"id": job.id, "status": "done"}
    try:
        value = job.result(timeout=0)
    except (JobFailed, JobCancelled) as error:
        status = "cancelled" if isinstance(error, JobCancelled) else "dead"
        return row | {"status": status, "error": error.message}, False
    return (row | {"result": value} if results else row), True
