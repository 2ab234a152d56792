"""`call`: a job, the wait for how it ends, and the forgetting of it, in one step for the caller."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from ..peers import values, wire
from ..peers.errors import InvalidArgument, Timeout
from ..peers.units import duration_ms
from .calls import Steps
from .headers import with_own
from .jobs import ENDED, PARK_MS, JobOutcome
from .properties import pack_batch
from .requests import Request, Tell
from .submit import WORK, work_header


def call(
    queue: str, args: Any, task: str | None, timeout: float | str | None, keep: bool, options: Mapping[str, Any]
) -> Steps[Any]:
    """Submit, wait, take the result and have it forgotten. With `keep`, what runs at the time-out goes on."""
    given = dict(options)
    if given.pop("if_exists", None) is not None:
        raise InvalidArgument("if_exists is for submit", "a call is answered by its own job: leave it out")
    if (id := given.pop("id", None)) is not None:
        given["ids"] = [id]
    properties = pack_batch({name: value for name, value in given.items() if name not in WORK}, 1)
    header = with_own(work_header(options, task), properties)
    payload = wire.pack_payload([values.pack(args)], None if header is None else [header])
    deadline = None if timeout is None else time.monotonic() + duration_ms(timeout, "timeout") / 1000
    wait_ms = _wait_ms(deadline)
    asked = {"queue": queue, "wait_ms": wait_ms, **properties}
    request = yield Request("call", asked, payload, counted=True, wait_ms=wait_ms)
    offset = int(request.body["offset"])
    place = {"queue": queue, "offset": offset}
    while request.body["status"] not in ENDED:
        if deadline is not None and time.monotonic() >= deadline:
            if not keep:
                yield from _give_up(place)
            status = request.body["status"]
            raise Timeout(f"job {queue}/{offset} is {status} and did not end within {timeout}", "wait longer")
        wait_ms = _wait_ms(deadline)
        request = yield Request("job_result", {**place, "wait_ms": wait_ms}, wait_ms=wait_ms)
    body = request.body
    data = wire.unpack_payload(request.data)[0][0] if request.data else None
    yield Tell("job_forget", place, counted=True)
    return JobOutcome(queue, offset, str(body["status"]), data, body.get("reason")).result()


def _give_up(place: Mapping[str, Any]) -> Steps[None]:
    with contextlib.suppress(InvalidArgument):  # it ended in this very moment: too late for the caller all the same
        yield Request("job_cancel", place, counted=True)
    yield Tell("job_forget", place, counted=True)


def _wait_ms(deadline: float | None) -> int:
    if deadline is None:
        return PARK_MS
    return max(0, min(PARK_MS, round((deadline - time.monotonic()) * 1000)))
