"""Counted requests about jobs, checked argument by argument, as the commands they ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..peers import messages as m
from ..peers.errors import InvalidArgument, TooLarge, shown
from ..peers.wire import pack_payload
from . import requests as ask
from .notes import LINES_BYTES, LINES_MAX, REASON_MAX
from .options import NAME
from .requests import NO_PAYLOAD, OFFSET_MAX, Args, Bounds, Proposal

CANCEL_MAX = 10_000  # jobs in one request: each of them is looked at
RETRY_MAX = 2_000  # of dead jobs: each is looked for, and appended anew
MOVE_MAX = 10_000
OUTPUTS_MAX = 1_000  # targets of one completion


def complete(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    settled = ask.ranges(args)
    outputs = _outputs(args)
    results = sum([count for _, count in settled])
    total = results + sum([count for _, count in outputs])
    raw, some, headers = ask.bodies(payload, total, bounds)
    sized: list[m.Output] = []
    at, size = results, len(raw) if not outputs else sum(map(len, some[:results]))
    for name, count in outputs:
        keys = ask.check_for(bounds.queues.get(name), some[at : at + count], headers and headers[at : at + count])
        sized.append((name, count, sum(map(len, some[at : at + count])), keys))
        at += count
    return Proposal(m.Complete(ask.lease_of(args), settled, tuple(sized), total, size, headers is None), raw)


def _outputs(args: Args) -> list[tuple[str, int]]:
    value = args.get("outputs")
    if value is None:
        return []
    if type(value) is tuple and len(value) <= OUTPUTS_MAX and all(map(_is_output, value)):
        return list(value)
    raise InvalidArgument(
        f"outputs is {shown(value)}", f"give a list of at most {OUTPUTS_MAX} pairs [queue, count], counts from 1 on"
    )


def _is_output(value: Any) -> bool:
    return (
        type(value) is tuple and len(value) == 2 and type(value[0]) is str and NAME.fullmatch(value[0]) is not None
        and type(value[1]) is int and 0 < value[1] < OFFSET_MAX
    )  # fmt: skip


def _call(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    ask.integer(args, "count", 1, 1, 1)
    ask.integer(args, "wait_ms", 0, ask.WAIT_MAX_MS, 0)
    append = ask.append_of({**args, "count": 1}, payload, bounds)
    return Proposal(m.Call(tuple(append)), payload or NO_PAYLOAD)


def _cancel(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    return Proposal(m.Cancel(*_range(args, CANCEL_MAX)), NO_PAYLOAD)


def _retry(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    return Proposal(m.Retry(*_range(args, RETRY_MAX)), NO_PAYLOAD)


def _range(args: Args, count_max: int) -> tuple[str, int, int]:
    offset = ask.integer(args, "offset", 0, OFFSET_MAX)
    return ask.name_of(args, "queue"), offset, ask.integer(args, "count", 1, count_max, 1)


def _retry_dead(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    return Proposal(m.RetryDead(ask.name_of(args, "queue"), ask.integer(args, "limit", 1, RETRY_MAX, 1000)), NO_PAYLOAD)


def _move(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    limit = ask.integer(args, "limit", 1, MOVE_MAX, 1000)
    return Proposal(m.Move(ask.name_of(args, "queue"), ask.name_of(args, "target"), limit), NO_PAYLOAD)


def _progress(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    value = args.get("progress")
    if not isinstance(value, (int, float)) or type(value) is bool or not 0 <= value <= 1:
        raise InvalidArgument(f"progress is {shown(value)}", "give a number from 0 to 1")
    text = ask.text(args, "text", REASON_MAX, "")
    command = m.Progress(ask.lease_of(args), ask.integer(args, "offset", 0, OFFSET_MAX), float(value), text)
    return Proposal(command, NO_PAYLOAD)


def _log(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    lines = args.get("lines")
    if type(lines) is not tuple or not 0 < len(lines) <= LINES_MAX or {*map(type, lines)} != {str}:
        raise InvalidArgument(f"lines is {shown(lines)}", f"give a list of 1 to {LINES_MAX} texts")
    packed = [line.encode() for line in lines]
    if sum(map(len, packed)) > LINES_BYTES:
        raise TooLarge(f"lines have {sum(map(len, packed))} bytes", f"give at most {LINES_BYTES} at once")
    return Proposal(m.LogLines(ask.lease_of(args), ask.integer(args, "offset", 0, OFFSET_MAX)), pack_payload(packed))


def _forget(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    return Proposal(m.ForgetJob(ask.name_of(args, "queue"), ask.integer(args, "offset", 0, OFFSET_MAX)), NO_PAYLOAD)


COUNTED: dict[str, Callable[[Args, bytes | None, Bounds], Proposal]] = {
    "complete": complete, "call": _call, "job_cancel": _cancel, "job_retry": _retry, "job_retry_dead": _retry_dead,
    "move": _move, "job_progress": _progress, "job_log": _log, "job_forget": _forget,
}  # fmt: skip
