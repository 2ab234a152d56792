"""Jobs as messages: packed, cut into batches, sent, and handed back as `Job`s."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Protocol

from ..peers import values
from ..peers.errors import AlreadyExists, InvalidArgument, PenstockError, shown
from ..peers.units import duration_ms
from .headers import TASK, TIME_LIMIT, Header, one_header, with_own
from .ids import Span, parse_id
from .producer import BaseProducer, R
from .properties import pack_after, pack_batch
from .several import several
from .steps import Steps

SUBMIT_BYTES = 4 * 2**20  # of arguments in one batch
SUBMIT_MAX = 5_000
EACH = ("ids", "delay_ms", "due_ms")  # the arguments that may have a value for each job
WORK = ("key", "headers", "time_limit", "if_exists")


class Gatherer(Protocol):
    """What a gather job may be for beside a queue: a task, with its options and its check of arguments."""

    def check(self, arguments: Mapping[str, Any]) -> None: ...
    def options(self, *, after: Any) -> Any: ...


def submit_many(
    producer: BaseProducer[R], many_args: Iterable[Any], task: str | None, options: Mapping[str, Any]
) -> Steps[tuple[list[Span], int]]:
    """Send them and wait until all are durable: the jobs, and the place in the log behind which they end. Raises the
    first refusal, after all have their answers."""
    packed = [values.pack(args) for args in several(many_args, "many_args", "values, one for each job")]
    work = work_header(options, task)
    give_back = _gives_back(options)
    sent: list[tuple[R, int, int, Header, Mapping[str, Any]]] = []
    for start, end, args in _runs(options, len(packed)):
        header = with_own(work, args)
        for place, batch in batches(packed[start:end], min(SUBMIT_MAX, producer.max_batch)):
            first = start + place
            receipt = yield from _send(producer, batch, header, _part(args, first, first + len(batch)))
            sent.append((receipt, first, len(batch), header, args))
    spans: list[Span] = []
    cursors: list[int] = []
    refusal: PenstockError | None = None
    for receipt, first, count, header, args in sent:
        try:
            spans.append(((yield from receipt.landed()), count))
            cursors.append(receipt.log_index)
        except AlreadyExists as fault:
            if not give_back or fault.job is None:
                refusal = refusal or fault
                continue
            # All or nothing: one id that is taken has refused the others with it.
            for index in range(first, first + count):
                spans.append((yield from _send_or_find(producer, packed[index], header, _part(args, index, index + 1))))
            cursors.append(0)
        except PenstockError as fault:
            refusal = refusal or fault
    if refusal is not None:
        raise refusal
    return spans, min(cursors, default=0)


def _runs(options: Mapping[str, Any], count: int) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    """The places of jobs that wait for the same, from one up to another, with their arguments: what shares a batch
    shares its parents. Raises InvalidArgument."""
    shared = {name: value for name, value in options.items() if name not in WORK and name != "afters"}
    afters = options.get("afters")
    if afters is None:
        yield 0, count, {**pack_batch(shared, count), "jobs": True}  # a topic has none
        return
    if options.get("after") is not None:
        raise InvalidArgument("after and afters are both given", "give one of them")
    afters = several(afters, "afters", "one for each job")
    each = [[] if after is None else pack_after(after, "afters") for after in afters]
    if len(each) != count:
        raise InvalidArgument(
            f"{len(each)} afters for {count} jobs", "give one for each job, None where it waits for none"
        )
    waiting = pack_batch({**shared, "after": next((after for after in afters if after is not None), None)}, count)
    free = {name: value for name, value in waiting.items() if name not in ("after", "on_failure")}
    start = 0
    for parents, places in groupby(range(count), each.__getitem__):
        end = start + sum(1 for _ in places)
        yield start, end, {**(waiting | {"after": parents} if parents else free), "jobs": True}
        start = end


def batches(packed: list[bytes], count_max: int) -> Iterator[tuple[int, list[bytes]]]:
    """Slices, each with the place it begins at, of at most `count_max` and, unless one alone is larger,
    SUBMIT_BYTES."""
    first = size = 0
    for index, data in enumerate(packed):
        if index > first and (index - first >= count_max or size + len(data) > SUBMIT_BYTES):
            yield first, packed[first:index]
            first, size = index, 0
        size += len(data)
    if packed:
        yield first, packed[first:]


def work_header(options: Mapping[str, Any], task: str | None) -> Header:
    """The header of jobs with these WorkOptions. Raises InvalidArgument."""
    header = one_header(options.get("headers"), options.get("key")) or {}
    if task is not None:
        if not isinstance(task, str):
            raise InvalidArgument(f"task is {shown(task)}", "give the name of a task, a text")
        header[TASK] = task
    if (limit := options.get("time_limit")) is not None:
        header[TIME_LIMIT] = duration_ms(limit, "time_limit")
        if header[TIME_LIMIT] == 0:
            raise InvalidArgument(f"time_limit is {limit!r}", "give a positive time, or None for that of the task")
    return header or None


def _gives_back(options: Mapping[str, Any]) -> bool:
    if_exists = options.get("if_exists", "error")
    if if_exists not in ("error", "return"):
        raise InvalidArgument(f"if_exists is {shown(if_exists)}", 'give "error" or "return"')
    return bool(if_exists == "return")


def _send(producer: BaseProducer[R], batch: list[bytes], header: Header, args: Mapping[str, Any]) -> Steps[R]:
    return (yield from producer.send_packed(batch, None if header is None else [header] * len(batch), args))


def _send_or_find(producer: BaseProducer[R], data: bytes, header: Header, args: Mapping[str, Any]) -> Steps[Span]:
    """One job: the new one, or the one that has its id."""
    receipt = yield from _send(producer, [data], header, args)
    try:
        return (yield from receipt.landed()), 1
    except AlreadyExists as fault:
        if fault.job is None:
            raise
        return parse_id(fault.job)[1], 1


def _part(args: Mapping[str, Any], first: int, end: int) -> Mapping[str, Any]:
    """The arguments of the jobs from `first` to `end`."""
    lists = {name: args[name][first:end] for name in EACH if isinstance(args.get(name), list)}
    return {**args, **lists} if lists else args
