"""`call`: a job, the wait for how it ends, and the forgetting of it, in one step for the caller."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from ..peers import values, wire
from ..peers.errors import InvalidArgument, Timeout
from ..peers.units import Duration
from .headers import with_own
from .outcomes import ENDED, PARK_MS, JobOutcome
from .properties import pack_batch
from .requests import Request, Tell
from .steps import Deadline, Steps, within
from .submit import WORK, work_header

TTL_MAX_MS = 10 * 365 * 86_400_000  # the longest that a daemon takes
TTL_OVER = "its time to live was over"  # the reason of a job that expired, unless its queue had no room


def call(
    queue: str, args: Any, task: str | None, timeout: Duration | None, keep: bool, options: Mapping[str, Any]
) -> Steps[Any]:
    """Submit, wait, take the result and have it forgotten. With `keep`, what runs when the time is over, or when who
    waits is cancelled, goes on."""
    deadline = Deadline(timeout)
    return within(deadline, _call(queue, args, task, deadline, keep, options))


def _call(
    queue: str, args: Any, task: str | None, deadline: Deadline, keep: bool, options: Mapping[str, Any]
) -> Steps[Any]:
    given = dict(options)
    if given.pop("if_exists", None) is not None:
        raise InvalidArgument("if_exists is for submit", "a call is answered by its own job: leave it out")
    if (id := given.pop("id", None)) is not None:
        given["ids"] = [id]
    properties = pack_batch({name: value for name, value in given.items() if name not in WORK}, 1)
    # Nobody shall begin what nobody waits for, also if the daemon cannot be told that the wait is over.
    bounded = deadline.timeout_s is not None and not keep and "ttl_ms" not in properties
    if bounded:
        properties["ttl_ms"] = max(1, deadline.wait_ms(TTL_MAX_MS))
    header = with_own(work_header(options, task), properties)
    payload = wire.pack_payload([values.pack(args)], None if header is None else [header])
    wait_ms = deadline.wait_ms(PARK_MS)
    asked = {"queue": queue, "wait_ms": wait_ms, **properties}
    leave = None if keep else lambda answer: _leave({"queue": queue, "offset": answer.body["offset"]})
    request = yield Request("call", asked, payload, counted=True, wait_ms=wait_ms, orphaned=leave)
    offset = int(request.body["offset"])
    place = {"queue": queue, "offset": offset}
    leave = None if keep else lambda _: _leave(place)
    while (status := request.body["status"]) not in ENDED or (bounded and request.body.get("reason") == TTL_OVER):
        if deadline.over or status in ENDED:
            if not keep:
                yield from _give_up(place)
            late = f"within {deadline.timeout_s:g} s"
            raise Timeout(f"job {queue}/{offset} is {status} and did not end {late}", "wait longer")
        wait_ms = deadline.wait_ms(PARK_MS)
        request = yield Request("job_result", {**place, "wait_ms": wait_ms}, wait_ms=wait_ms, orphaned=leave)
    yield Tell("job_forget", place, counted=True)
    return JobOutcome.from_answer(queue, offset, request).result()


def _give_up(place: Mapping[str, Any]) -> Steps[None]:
    with contextlib.suppress(InvalidArgument):  # it ended in this very moment: too late for the caller all the same
        yield Request("job_cancel", place, counted=True)
    yield Tell("job_forget", place, counted=True)


def _leave(place: Mapping[str, Any]) -> list[Request]:
    """The same for a caller who is not there any more."""
    return [Request(op, place, counted=True) for op in ("job_cancel", "job_forget")]
