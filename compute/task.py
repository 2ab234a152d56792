"""Tasks: functions that jobs call, with the queue they belong to and the limits they run under."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, update_wrapper
from pathlib import Path
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, overload

from ..client.properties import ArrayOptions, Backoff, JobOptions, pack_properties
from ..client.several import several
from ..client.submit import Gatherer
from ..peers.errors import InvalidArgument, shown
from ..peers.units import Duration, duration_ms
from .check import Check, check_of, words_of

P = ParamSpec("P")
R = TypeVar("R")
J = TypeVar("J", covariant=True)
A = TypeVar("A", covariant=True)
Ranks = int | Literal["all"] | None
Gather = tuple[str | Gatherer, Any]
NEVER_RETURN = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


class Policy(TypedDict, total=False):
    """What every job of a task has, unless it is submitted with other options."""

    priority: int
    max_failures: int | None
    retry_delay: Duration | None
    retry_backoff: Backoff | None
    retry_delay_max: Duration | None
    retry_jitter: int | None


class TaskOptions(JobOptions, ArrayOptions, total=False):
    """What jobs of a task can be submitted with: JobOptions; several at once: ArrayOptions."""


class Task(Generic[P, R]):
    """A function and how it runs as a job. Calling the task calls the function, here and now."""

    def __init__(
        self,
        function: Callable[P, R],
        queue: str | None = None,
        name: str | None = None,
        time_limit: Duration | None = None,
        batch: bool = False,
        ranks: Ranks = None,
        validate: Callable[..., None] | None = None,
        **policy: Unpack[Policy],
    ) -> None:
        update_wrapper(self, function)
        self.function = function
        self.name = name or function.__name__
        self.named = name is not None
        self.queue = queue or self.name
        self.job_options: Policy = {}
        self.job_options.update(policy)
        self.time_limit_s = None if time_limit is None else duration_ms(time_limit, "time_limit") / 1000
        self.batch = batch
        self.ranks = ranks
        self.validate = validate
        _refuse_impossible(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.name!r} of queue {self.queue!r}>"

    @property
    def max_failures(self) -> int | None:
        """After how many failures a job is dead. None: as its queue has it."""
        return self.job_options.get("max_failures")

    @property
    def collective(self) -> bool:
        return self.ranks is not None

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Raises InvalidArgument, which names the argument and what would be right, if these are no arguments of it."""
        form = self._form
        if form is not None:
            form.check(arguments)
        if self.validate is not None:
            try:
                self.validate(**arguments)
            except (ValueError, TypeError) as fault:
                raise InvalidArgument(f"{self.name}: {fault}") from fault

    def options(self, **options: Unpack[TaskOptions]) -> TaskSubmitter[P, R]:
        """This task with options for the jobs that are submitted with it: `square.options(delay="10s").submit(...)`.

        Those that `Client.submit` and `Client.submit_many` have; they take the place of the task's own.
        """
        return TaskSubmitter(self, options)

    def submit(self, client: Submits[J, Any], **arguments: Any) -> J:
        """One job with these arguments in the task's queue. With an AsyncClient, to be awaited. Raises InvalidArgument
        before anything is sent."""
        return self.options().submit(client, **arguments)

    def submit_many(
        self, client: Submits[Any, A], arguments: Iterable[Mapping[str, Any]], *, gather: Gather | None = None
    ) -> A:
        """A job for each map of arguments, in their order; all are checked before the first is sent. `gather` as in
        `Client.submit_many`."""
        return self.options().submit_many(client, arguments, gather=gather)

    @cached_property
    def _form(self) -> _Form | None:
        """What a job must give. A batch function takes a list of maps: there the validator's signature is the job's."""
        source = self.validate if self.batch else self.function
        return None if source is None else _Form(self.name, source, skip=1 if self.collective else 0)


class Submits(Protocol[J, A]):
    """A client: what it gives is a job, or what to await for one."""

    def submit(self, queue: str, args: Any, *, task: str | None = None, **options: Unpack[JobOptions]) -> J: ...
    def submit_many(
        self,
        queue: str,
        many_args: Iterable[Any],
        *,
        task: str | None = None,
        gather: Gather | None = None,
        **options: Unpack[ArrayOptions],
    ) -> A: ...


class TaskSubmitter(Generic[P, R]):
    """A task and what its next jobs have beside their arguments. Made by `Task.options`."""

    def __init__(self, task: Task[P, R], options: TaskOptions) -> None:
        self.task = task
        self._options: dict[str, Any] = {**task.job_options, **options}

    def submit(self, client: Submits[J, Any], **arguments: Any) -> J:
        """As `Task.submit`."""
        self.task.check(arguments)
        return client.submit(self.task.queue, arguments, task=self._name, **self._options)

    def submit_many(
        self, client: Submits[Any, A], arguments: Iterable[Mapping[str, Any]], *, gather: Gather | None = None
    ) -> A:
        """As `Task.submit_many`."""
        maps = several(arguments, "arguments", "maps, one for each job")
        for place, each in enumerate(maps):
            try:
                if not isinstance(each, Mapping):
                    raise InvalidArgument(f"the arguments of a job are {shown(each)}", "give a map")
                self.task.check(each)
            except InvalidArgument as fault:
                if len(maps) == 1:
                    raise
                raise InvalidArgument(f"job {place} of {len(maps)}: {fault.message}", fault.hint) from fault
        sent = [dict(each) for each in maps]
        return client.submit_many(self.task.queue, sent, task=self._name, gather=gather, **self._options)

    @property
    def _name(self) -> str | None:
        return self.task.name if self.task.named else None


class _Form:
    """The parameters of a function, and a check for each that says something about its values."""

    def __init__(self, name: str, function: Callable[..., Any], skip: int) -> None:
        self.name = name
        parameters = list(inspect.signature(function).parameters.values())[skip:]
        named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        self.open = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.known = {p.name for p in named}
        self.needed = {p.name for p in named if p.default is p.empty}
        hints = _hints(function)
        self.text = f"{name}({', '.join(_shown(p, hints) for p in parameters)})"
        self.checks: dict[str, Check] = {}
        self.words: dict[str, str] = {}
        for parameter in named:
            check = check_of(hints.get(parameter.name, Any))
            if check is not None:
                self.checks[parameter.name] = check
                self.words[parameter.name] = words_of(hints[parameter.name])

    def check(self, arguments: Mapping[str, Any]) -> None:
        given = arguments.keys()
        if not self.open and not given <= self.known:
            unknown = ", ".join(sorted(map(repr, given - self.known)))
            raise InvalidArgument(f"{self.name} has no argument {unknown}", f"it is {self.text}")
        if not self.needed <= given:
            missing = ", ".join(sorted(map(repr, self.needed - given)))
            raise InvalidArgument(f"{self.name} needs the argument {missing}", f"it is {self.text}")
        for name, value in arguments.items():
            check = self.checks.get(name)
            if check is not None and not check(value):
                raise InvalidArgument(f"{self.name}: {name} is {_short(value)}", f"give {self.words[name]}")


@overload
def task(function: Callable[P, R]) -> Task[P, R]: ...
@overload
def task(
    *,
    queue: str | None = None,
    name: str | None = None,
    time_limit: Duration | None = None,
    batch: bool = False,
    ranks: Ranks = None,
    validate: Callable[..., None] | None = None,
    **policy: Unpack[Policy],
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(function: Callable[P, R] | None = None, **options: Any) -> Any:
    """Make a function a task: `@task` or `@task(queue=..., ...)`.

    queue: where its jobs wait (default: the function's name). name: needed when several tasks share a queue.
    priority, max_failures, retry_delay, retry_backoff, retry_delay_max, retry_jitter: what each job that is submitted
    through the task has (see `Client.submit`); a pool that makes the queue gives that its max_failures.
    time_limit: how long one job (of a batch task: one call) may run (seconds, "10m", a timedelta); then it fails.
    batch: the function gets a list of argument maps and returns a list of results, as long; an exception in that list
    fails that job. ranks: "all" or a number makes it collective: that many MPI ranks call it, with their communicator
    as first argument, and what rank 0 returns is the result. validate: called with a job's arguments before it is sent
    and before it runs; raises ValueError or InvalidArgument. The signature of a batch task is that of its `validate`.
    """
    if function is not None:
        return Task(function)
    return lambda function: Task(function, **options)


def load_tasks(module_name: str) -> dict[str, Task[..., Any]]:
    """The tasks of a module by name. Raises InvalidArgument, with the cause, if it has none or cannot be imported.

    The current folder is searched last, as a user who stands beside his tasks expects.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as fault:
        hint = "give a module that `python -c 'import MODULE'` finds"
        if module_name.endswith(".py"):
            hint = f"give the name of the module: {Path(module_name).stem}"
        raise InvalidArgument(
            f"the tasks module {module_name!r} cannot be imported: {type(fault).__name__}: {fault}{_place_of(fault)}",
            hint,
        ) from fault
    tasks: dict[str, Task[..., Any]] = {}
    for value in vars(module).values():
        if isinstance(value, Task) and tasks.setdefault(value.name, value) is not value:
            raise InvalidArgument(f"{module_name} has two tasks called {value.name!r}", 'give one of them a name="..."')
    if not tasks:
        raise InvalidArgument(f"{module_name} has no tasks", "decorate a function with @penstock.task")
    _refuse_twins(module_name, tasks.values())
    return tasks


def _place_of(fault: Exception) -> str:
    """Where in the user's files an import failed; "" if it did so in none."""
    frames = traceback.extract_tb(fault.__traceback__)
    ours = [each for each in frames if each.filename not in (__file__, importlib.__file__) and each.filename[0] != "<"]
    return f" ({ours[-1].filename}, line {ours[-1].lineno})" if ours else ""


def tasks_of_queue(module_name: str, queue: str) -> dict[str, Task[..., Any]]:
    """Those tasks of a module whose jobs wait in `queue`. Raises InvalidArgument if there are none."""
    tasks = load_tasks(module_name)
    chosen = {name: task for name, task in tasks.items() if task.queue == queue}
    if not chosen:
        queues = ", ".join(sorted({repr(task.queue) for task in tasks.values()}))
        raise InvalidArgument(f"{module_name} has no task for queue {queue!r}", f"its tasks are for {queues}")
    return chosen


def _refuse_impossible(task: Task[..., Any]) -> None:
    function = inspect.unwrap(task.function)
    if any(is_one(function) for is_one in NEVER_RETURN):
        raise InvalidArgument(
            f"task {task.name!r} is a coroutine or a generator, and a pool calls it once for its result",
            "give a plain function: one that calls asyncio.run(...), or returns a list",
        )
    if task.batch and task.collective:
        raise InvalidArgument(f"task {task.name!r} has batch=True and ranks={task.ranks!r}", "choose one of them")
    if task.ranks is not None and task.ranks != "all" and (not isinstance(task.ranks, int) or task.ranks < 1):
        raise InvalidArgument(f"task {task.name!r} has ranks={task.ranks!r}", 'give "all" or a number from 1 on')
    if unknown := task.job_options.keys() - Policy.__annotations__.keys():
        raise InvalidArgument(
            f"task {task.name!r} has unknown options: {', '.join(sorted(unknown))}",
            f"for jobs there are {', '.join(Policy.__annotations__)}",
        )
    try:
        pack_properties(task.job_options)
    except InvalidArgument as fault:
        raise InvalidArgument(f"task {task.name!r}: {fault.message}", fault.hint) from fault
    if task.time_limit_s is not None and task.time_limit_s <= 0:
        raise InvalidArgument(f"task {task.name!r} has a time_limit of 0", "give a positive time, or None for no limit")


def _refuse_twins(module_name: str, tasks: Iterable[Task[..., Any]]) -> None:
    """A job without a name on it can only be given to the one task of its queue that needs none."""
    nameless: dict[str, str] = {}
    for each in tasks:
        if not each.named:
            twin = nameless.setdefault(each.queue, each.name)
            if twin != each.name:
                raise InvalidArgument(
                    f"{module_name} has two tasks for queue {each.queue!r}: {twin!r} and {each.name!r}",
                    'give all but one of them a name="...", or queues of their own',
                )


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}  # an annotation that only a type checker can resolve says nothing about values


def _shown(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> str:
    stars = (
        "*" if parameter.kind is parameter.VAR_POSITIONAL else "**" if parameter.kind is parameter.VAR_KEYWORD else ""
    )
    kind = f": {words_of(hints[parameter.name])}" if parameter.name in hints else ""
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{stars}{parameter.name}{kind}{default}"


def _short(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
