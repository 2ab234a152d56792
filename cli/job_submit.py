"""penstock job submit."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from ..peers.errors import InvalidArgument
from . import output
from .exits import OK
from .job_ends import tell_ends
from .options import Options, Verb, complete_names, duration
from .sending import given, sending_options

if TYPE_CHECKING:
    from ..client import Client, JobArray
    from ..compute.task import Task

FORECAST: Final = "penstock.compute.forecast"
INDEX: Final = "{index}"
PART: Final = re.compile(r"(\d{1,18})(?:-(\d{1,18})(?::(\d{1,18}))?)?")
ARRAY_MAX: Final = 10_000_000


def indices(text: str) -> list[int]:
    """The numbers of an array: 1-500, 0-100:10 (every tenth), 1,5,7-9."""
    found: list[int] = []
    for part in text.split(","):
        match = PART.fullmatch(part.strip())
        if match is None or int(match[2] or match[1]) < int(match[1]) or match[3] == "0":
            raise click.BadParameter(f"{text!r} is no array (give for example 1-500, 0-100:10 or 1,5,7-9)")
        numbers = range(int(match[1]), int(match[2] or match[1]) + 1, int(match[3] or 1))
        if len(found) + len(numbers) > ARRAY_MAX:
            raise click.BadParameter(f"{text!r} is more than {ARRAY_MAX} jobs")
        found += numbers
    return found


def task_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Which task checks the arguments: --tasks, --task."""
    function = click.option("--task", help="Which task of the queue, where it has several.")(function)
    return click.option(
        "--tasks",
        metavar="MODULE",
        help=f"Check the arguments against its tasks.  [default: {FORECAST}, if it has one]",
    )(function)


@click.command(cls=Verb)
@click.argument("queue", shell_complete=complete_names("queue"))
@click.argument("arguments", required=False)
@click.option(
    "--array", type=indices, metavar="1-500", help="A job for each of these numbers; each finds its own as `index`."
)
@sending_options
@click.option("--time-limit", type=duration, help="How long it may run, not as its task has it.")
@click.option(
    "--if-exists",
    type=click.Choice(["error", "return"]),
    help="If the id is taken: give the job that has it.  [default: error]",
)
@task_options
@click.option("--wait", is_flag=True, help="Wait for the results and print them.")
@click.pass_obj
def submit(
    options: Options,
    /,
    queue: str,
    arguments: str | None,
    array: list[int] | None,
    tasks: str | None,
    task: str | None,
    wait: bool,
    **values: Any,
) -> int:
    """Submit a job with ARGUMENTS, a JSON value, to QUEUE; `-`: one job for every line of stdin.

    With --array a job for each number: it stands where ARGUMENTS say "{index}", and otherwise in a key `index` of
    theirs; the id that is printed, such as work/0-499, names all of them.

    If the module has a task for QUEUE, the arguments are checked before anything is sent. Prints the ids; with --wait
    the results, in the order of submission, and exit code 1 if a job failed.
    """
    if array is not None:
        many = _array(parse("{}" if arguments is None else arguments, "ARGUMENTS"), array)
    else:
        many = list(_values(arguments))
    send = _sender(task_of(queue, tasks, task), queue, many, _options(values, len(many)))
    with options.connect() as client:
        jobs = send(client)
        if wait:
            return tell_ends(client, jobs, options, results=True)
        for id in [jobs.id] if array is not None else [item.id for item in jobs]:
            if options.json:
                output.say_json({"id": id})
            else:
                output.say(id)
    return OK


def _options(values: dict[str, Any], count: int) -> dict[str, Any]:
    chosen = given(values)
    if (id := chosen.pop("id", None)) is not None:
        if count != 1:
            raise InvalidArgument(f"--id is given for {count} jobs", "an id is that of one job")
        chosen["ids"] = [id]
    return chosen


def _sender(
    task: Task[..., Any] | None, queue: str, values: Sequence[Any], chosen: dict[str, Any]
) -> Callable[[Client], JobArray]:
    """How to submit `values`: through their task, which has checked them, or as they are if no task is known."""
    if task is None:
        return lambda client: client.submit_many(queue, values, **chosen)
    for value in values:
        task.check(arguments_for(task, value))
    return lambda client: task.options(**chosen).submit_many(client, values)


def arguments_for(task: Task[..., Any], value: Any) -> dict[str, Any]:
    """`value`, if a task can be called with it. Raises InvalidArgument."""
    if not isinstance(value, dict):
        raise InvalidArgument(f"the arguments of the task {task.name} are {value!r}", "give a JSON object")
    return value


def task_of(queue: str, module: str | None, name: str | None) -> Task[..., Any] | None:
    """The task for QUEUE, if the module has one. Raises InvalidArgument if it has several."""
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


def _values(arguments: str | None) -> Iterator[Any]:
    if arguments is None:
        raise InvalidArgument("the arguments are missing", "give a JSON value, or - for the lines of stdin")
    if arguments != "-":
        yield parse(arguments, "ARGUMENTS")
        return
    for number, line in enumerate(sys.stdin, 1):
        if line.strip():
            yield parse(line, f"line {number}")


def parse(text: str, what: str) -> Any:
    """A JSON value; `what` names it where it is none. Raises InvalidArgument."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"{what} is no JSON: {error}", """write for example '{"assets": [0, 1]}'""") from error


def _array(template: Any, numbers: Sequence[int]) -> list[Any]:
    """The arguments of each job of an array."""
    if INDEX in json.dumps(template, ensure_ascii=False):
        return [_filled(template, number) for number in numbers]
    if not isinstance(template, dict):
        raise InvalidArgument(
            f"ARGUMENTS are {json.dumps(template)}, in which the index has no place",
            'write "{index}" where it belongs, or give a JSON object, to which it is added as "index"',
        )
    return [{**template, "index": number} for number in numbers]


def _filled(value: Any, number: int) -> Any:
    """`value` with the number where it says {index}: as a number where it says nothing else, otherwise in the text."""
    if isinstance(value, str):
        return number if value == INDEX else value.replace(INDEX, str(number))
    if isinstance(value, list):
        return [_filled(item, number) for item in value]
    if isinstance(value, dict):
        return {_text(key, number): _filled(item, number) for key, item in value.items()}
    return value


def _text(key: str, number: int) -> str:
    return key.replace(INDEX, str(number))
