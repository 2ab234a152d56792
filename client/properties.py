"""What a message may carry beside its body: when, how often and for how long it may be tried, and after which jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypedDict

from ..peers.errors import InvalidArgument, shown
from ..peers.units import Duration, duration_ms
from .ids import parse_array_id
from .several import several

Moment: TypeAlias = datetime | float
OnFailure = Literal["cancel", "release"]
Backoff = Literal["constant", "exponential"]
IfExists = Literal["error", "return"]

PRIORITY_MAX = 9
ID_MAX = 200  # characters
SECONDS_MAX = 1e11  # since 1970: beyond it, somebody gave milliseconds


class Jobs(Protocol):
    """A job, or several: what has an id of jobs."""

    @property
    def id(self) -> str: ...


After: TypeAlias = Jobs | str | Iterable[Jobs | str]


class CommonOptions(TypedDict, total=False):
    """Properties that messages of a batch share; all optional, and for queues only.

    priority: 0 to 9, 9 is given first; in the order of sending within one. delay: not given before it is over (seconds,
    "10s" or a timedelta). due: not given before this moment (a datetime, without a zone: local time; or seconds since
    1970); not together with delay. ttl: if it is not done by then, it ends `expired`. after: jobs (or their ids), or
    one, that must end first. on_failure: what happens if one of those does not end well: "cancel" (this one is
    cancelled) or "release" (it runs all the same). max_failures, retry_delay, retry_backoff ("constant" or
    "exponential"), retry_delay_max, retry_jitter (percent): instead of the queue's. `after` goes with one delay or due
    for a batch.
    """

    priority: int
    delay: Duration | None
    due: Moment | None
    ttl: Duration | None
    after: After | None
    on_failure: OnFailure
    max_failures: int | None
    retry_delay: Duration | None
    retry_backoff: Backoff | None
    retry_delay_max: Duration | None
    retry_jitter: int | None


class SendOptions(CommonOptions, total=False):
    """Those of one message. id: text of 1 to 200 characters; refused with AlreadyExists while a message with the same
    one has not ended, and for the queue's `unique` after it was sent."""

    id: str | None


class BatchOptions(CommonOptions, total=False):
    """Those of a batch. ids, delays, dues: one for each message."""

    ids: Sequence[str] | None
    delays: Sequence[Duration] | None
    dues: Sequence[Moment] | None


class WorkOptions(TypedDict, total=False):
    """What jobs have beside: key and headers as messages do. time_limit: how long one may run; then it fails, as with
    the time_limit of its task, in whose place it is. if_exists: "return" gives the job that has the id."""

    key: str | None
    headers: Mapping[str, Any] | None
    time_limit: Duration | None
    if_exists: IfExists


class JobOptions(SendOptions, WorkOptions, total=False):
    """Those of one job: SendOptions and WorkOptions."""


class ArrayOptions(BatchOptions, WorkOptions, total=False):
    """Those of several jobs: BatchOptions and WorkOptions. afters: what each of them waits for, as `after` has it, None
    where for nothing; jobs side by side that wait for the same share a batch."""

    afters: Sequence[After | None] | None


class Shape(NamedTuple):
    """What messages of one batch have in common. `clock`: "delay_ms" or "due_ms", if each has a time of its own."""

    args: Mapping[str, Any]
    clock: str = ""


class Properties(NamedTuple):
    """Those of one message."""

    shape: Shape
    time_ms: int
    id: str | None


def pack_properties(options: Mapping[str, Any]) -> Properties | None:
    """The properties of one message; None: those that every message has. Raises InvalidArgument."""
    args = _pack(options, _COMMON, _ONE)
    clock, time_ms = _pack_time(options.get("delay"), options.get("due"))
    if clock and "after" in args:
        args[clock], clock = time_ms, ""  # what waits for parents has one time for a batch
    name = options.get("id")
    if name is not None:
        _check_id(name)
    return Properties(Shape(args, clock), time_ms, name) if args or clock or name is not None else None


def pack_batch(options: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The arguments of a batch of `count` messages. Raises InvalidArgument."""
    each_of = {name: several(options[name], name, "one for each") for name in _EACH if options.get(name) is not None}
    options = {**options, **each_of}
    args = _pack(options, _COMMON | _EACH, _TIMES)
    for name, each in each_of.items():
        if len(each) != count:
            raise InvalidArgument(f"{len(each)} {name} for {count} bodies", "give one for each body")
    given = [name for name in ("delay", "due", "delays", "dues") if options.get(name) is not None]
    if len(given) > 1:
        raise InvalidArgument(f"{given[0]} and {given[1]} are both given", "give one of them")
    clock, time_ms = _pack_time(options.get("delay"), options.get("due"))
    if clock:
        args[clock] = time_ms
    return args


def _pack(options: Mapping[str, Any], packers: Mapping[str, _Packer], others: Iterable[str]) -> dict[str, Any]:
    args: dict[str, Any] = {}
    for name, value in options.items():
        packer = packers.get(name)
        if packer is None:
            if name not in others:
                raise InvalidArgument(f"there is no option {name!r}", f"options are {', '.join((*packers, *others))}")
        elif value is not None:
            packed = packer.pack(value, name)
            if packed != packer.usual:
                args[packer.name] = packed
    if "on_failure" in args and options.get("after") is None:
        raise InvalidArgument("on_failure is given, and after is not", "name the jobs that this one waits for")
    return args


def _pack_time(delay: Duration | None, due: Moment | None) -> tuple[str, int]:
    if delay is not None and due is not None:
        raise InvalidArgument("delay and due are both given", "give one of them")
    if due is not None:
        return "due_ms", moment_ms(due, "due")
    delay_ms = 0 if delay is None else duration_ms(delay, "delay")
    return ("delay_ms", delay_ms) if delay_ms else ("", 0)


def moment_ms(value: Moment, what: str) -> int:
    """Milliseconds since 1970 of a datetime (without a zone: local time) or of seconds. Raises InvalidArgument."""
    if isinstance(value, datetime):
        return round(value.timestamp() * 1000)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < SECONDS_MAX:
        return round(value * 1000)
    raise InvalidArgument(f"{what} is {shown(value)}, which is no moment", "give a datetime, or seconds since 1970")


def pack_after(value: After, what: str = "after") -> list[list[Any]]:
    """[[queue, first offset, count], ...] of jobs. Raises InvalidArgument."""
    parents = [value] if isinstance(value, str) or hasattr(value, "id") else value
    packed: list[list[Any]] = []
    if not isinstance(parents, Iterable):
        raise InvalidArgument(f"{what} is {shown(value)}", "give jobs, or ids of jobs")
    for parent in parents:
        name = parent if isinstance(parent, str) else getattr(parent, "id", None)
        if name == "":
            continue  # an array of no jobs: nothing to wait for
        if not isinstance(name, str):
            raise InvalidArgument(f"{what} has {shown(parent)}", "give jobs, or ids of jobs")
        queue, spans = parse_array_id(name)
        for first, count in spans:
            if packed and packed[-1][0] == queue and packed[-1][1] + packed[-1][2] == first:
                packed[-1][2] += count
            else:
                packed.append([queue, first, count])
    return packed


def _pack_duration(value: Any, what: str) -> int:
    return duration_ms(value, what)


def _pack_lifetime(value: Any, what: str) -> int:
    lifetime_ms = duration_ms(value, what)
    if lifetime_ms == 0:
        raise InvalidArgument(f"{what} is {value!r}", "give a time in which it can be done")
    return lifetime_ms


def _integer(low: int, high: int) -> Callable[[Any, str], int]:
    def pack(value: Any, what: str) -> int:
        if type(value) is not int or not low <= value <= high:
            raise InvalidArgument(f"{what} is {shown(value)}", f"give an integer from {low} to {high}")
        return value

    return pack


def _one_of(*choices: str) -> Callable[[Any, str], str]:
    def pack(value: Any, what: str) -> str:
        if value not in choices:
            raise InvalidArgument(f"{what} is {shown(value)}", f"give one of {', '.join(choices)}")
        return str(value)

    return pack


def _check_id(value: Any) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= ID_MAX:
        raise InvalidArgument(f"id is {shown(value)}", f"give a text of 1 to {ID_MAX} characters")


def _pack_ids(values: Sequence[Any], what: str) -> list[str]:
    for value in values:
        _check_id(value)
    return list(values)


class _Packer(NamedTuple):
    """How an option travels: its name on the wire, how its value is packed, and which value need not be said."""

    name: str
    pack: Callable[[Any, str], Any]
    usual: Any = None


_TIMES = ("delay", "due")
_ONE = (*_TIMES, "id")
_COMMON: dict[str, _Packer] = {
    "priority": _Packer("priority", _integer(0, PRIORITY_MAX), 0),
    "ttl": _Packer("ttl_ms", _pack_lifetime),
    "after": _Packer("after", pack_after, []),
    "on_failure": _Packer("on_failure", _one_of("cancel", "release"), "cancel"),
    "max_failures": _Packer("max_failures", _integer(1, 2**53)),
    "retry_delay": _Packer("retry_delay_ms", _pack_duration),
    "retry_backoff": _Packer("retry_backoff", _one_of("constant", "exponential")),
    "retry_delay_max": _Packer("retry_delay_max_ms", _pack_duration),
    "retry_jitter": _Packer("retry_jitter", _integer(0, 100)),
}
_EACH: dict[str, _Packer] = {
    "ids": _Packer("ids", _pack_ids),
    "delays": _Packer("delay_ms", lambda values, _: [duration_ms(value, "delay") for value in values]),
    "dues": _Packer("due_ms", lambda values, _: [moment_ms(value, "due") for value in values]),
}
