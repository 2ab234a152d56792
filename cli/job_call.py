"""penstock job call, job drain: work is asked for or waited for, and its results are printed."""

from __future__ import annotations

from typing import Any

import click

from . import output
from .exits import FAILED, OK
from .job_submit import arguments_for, parse, task_of, task_options
from .options import Options, Verb, complete_names, duration
from .sending import given, sending_options

queue_argument = click.argument("queue", shell_complete=complete_names("queue"))


@click.command(cls=Verb)
@queue_argument
@click.argument("arguments")
@sending_options
@click.option("--time-limit", type=duration, help="How long it may run, not as its task has it.")
@task_options
@click.option("--keep", is_flag=True, help="Let the job go on when --timeout runs out.  [default: cancel it]")
@click.pass_obj
def call(
    options: Options,
    /,
    queue: str,
    arguments: str,
    tasks: str | None,
    task: str | None,
    keep: bool,
    **values: Any,
) -> None:
    """Have a job with ARGUMENTS, a JSON value, done by whoever works on QUEUE, and print its result as JSON.

    The daemon forgets the job then: `job submit --wait` leaves it to be looked at. Exit code 1 if it failed; 6 if
    --timeout runs out first: then it is cancelled.
    """
    value, chosen = parse(arguments, "ARGUMENTS"), given(values)
    known = task_of(queue, tasks, task)
    name = task
    if known is not None:
        known.check(arguments_for(known, value))
        chosen = {**known.job_options, **chosen}
        name = known.name if known.named else None
    with options.connect() as client:
        output.say_json(client.call(queue, value, task=name, timeout=options.timeout, keep=keep, **chosen))


@click.command(cls=Verb)
@queue_argument
@click.pass_obj
def drain(options: Options, queue: str) -> int:
    """Wait until QUEUE is empty and nothing of it runs, then print the result of each job that is kept, by number.

    One line of JSON each, null for one that has none, and why on stderr; with --json an object with id, status, and
    result or error. Somebody else must do the work: a pool, or consumers. Exit code 1 if a job did not end well; 6 if
    --timeout runs out first.
    """
    code = OK
    with options.connect() as client:
        for outcome in client.drain(queue, timeout=options.timeout):
            error = outcome.error
            if error is not None:
                code = FAILED
            if options.json:
                end = {"result": outcome.value} if error is None else {"error": error.message}
                output.say_json({"id": outcome.id, "status": outcome.status, **end})
                continue
            output.say_json(outcome.value)
            if error is not None:
                output.note(f"error: {error.message}")
    return code
