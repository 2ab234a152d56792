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
    function = click.option("--task", help="Which task of the queue, where it has several; checked only with --tasks.")(
        function
    )
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
@click.option("--after-each", metavar="ID", help="Jobs of which each waits for its own: the first for the first.")
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
    after_each: str | None,
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
    chosen = _options(values, len(many))
    if after_each is not None:
        chosen["afters"] = _one_each(after_each, len(many))
    known = task_of(queue, tasks, task)
    send = _unchecked(queue, task, many, chosen) if known is None else _checked(known, many, chosen)
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


def _one_each(id: str, count: int) -> list[str]:
    """The ids of `count` jobs. Raises InvalidArgument if the id names more or fewer."""
    from ..client.ids import parse_array_id

    queue, spans = parse_array_id(id)
    named = sum(length for _, length in spans)
    if named != count:
        raise InvalidArgument(f"--after-each {id} names {named} jobs, and {count} are submitted", "give one for each")
    return [f"{queue}/{offset}" for first, length in spans for offset in range(first, first + length)]


Send = Callable[["Client"], "JobArray"]


def _unchecked(queue: str, task: str | None, values: Sequence[Any], chosen: dict[str, Any]) -> Send:
    return lambda client: client.submit_many(queue, values, task=task, **chosen)


def _checked(task: Task[..., Any], values: Sequence[Any], chosen: dict[str, Any]) -> Send:
    for value in values:
        task.check(arguments_for(task, value))
    return lambda client: task.options(**chosen).submit_many(client, values)


def arguments_for(task: Task[..., Any], value: Any) -> dict[str, Any]:
    """`value`, if a task can be called with it. Raises InvalidArgument."""
    if not isinstance(value, dict):
        raise InvalidArgument(f"the arguments of the task {task.name} are {value!r}", "give a JSON object")
    return value


def task_of(queue: str, module: str | None, name: str | None) -> Task[..., Any] | None:
    """The task for QUEUE that checks the arguments; None: no module is named, and ours has none for that queue, so
    that the pool will see. Raises InvalidArgument if the module has none, or several and `name` does not say which."""
    from ..compute.no_mpi import mpi_left_alone
    from ..compute.task import load_tasks

    with mpi_left_alone():
        found = load_tasks(module or FORECAST).values()
    tasks = {task.name: task for task in found if task.queue == queue}
    if not tasks:
        if module is None:
            return None
        queues = ", ".join(sorted({repr(task.queue) for task in found}))
        raise InvalidArgument(f"{module} has no task for the queue {queue!r}", f"its tasks are for {queues}")
    known = f"the queue {queue} has the tasks {', '.join(tasks)}"
    if name is None and len(tasks) > 1:
        raise InvalidArgument(known, "say which: --task")
    if name is not None and name not in tasks:
        raise InvalidArgument(f"{module or FORECAST} has no task {name!r} for the queue {queue!r}", known)
    return tasks[name] if name is not None else next(iter(tasks.values()))


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
