"""Why a job does not run, in words: what stands between it and a consumer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

from .endings import holder_of
from .job_info import lease_of
from .jobs import Jobs, job_queue
from .queues import Queue
from .shelf import HELD
from .state import State

IDLE_MS = 60_000  # without a lease for this long, and with nobody waiting, a queue has no consumer
NAMED_MAX = 10  # parents named in one sentence


class Consumers(NamedTuple):
    """What a node knows of who takes messages: pulls that wait, and when a lease was granted last (None: never)."""

    waiting: int
    granted_ms: int | None
    window: int = 1 << 62  # how many messages may be in hand at a time


def explain(state: State, name: str, offset: int, now_ms: int, consumers: Consumers) -> list[dict[str, Any]]:
    """Reasons, the most telling ones first. Raises NotFound, InvalidArgument."""
    queue = job_queue(state, name)
    jobs = Jobs(state, queue, now_ms)
    info = jobs.describe(offset)
    status = info["status"]
    if status == "unknown":
        return [_reason("unknown", f"there is no job {name}/{offset}: the next one will be {name}/{queue.next}")]
    if status == "running":
        return [_running(state, queue, offset)]
    if status not in ("queued", "delayed", "failed", "waiting"):
        why = f": {info['reason']}" if info.get("reason") else ""
        again = f"; it is tried again as {info['retried_as']}" if "retried_as" in info else ""
        return [_reason("ended", f"it has ended: {status}{why}{again}")]
    return list(_waiting(state, queue, jobs, offset, consumers))


def _reason(code: str, text: str) -> dict[str, Any]:
    return {"code": code, "text": text}


def _running(state: State, queue: Queue, offset: int) -> dict[str, Any]:
    lease = lease_of(state, queue, offset)
    assert lease is not None, (queue.name, offset)
    owner = holder_of(state, lease).owner or "a client"
    text = (
        f"it runs: {owner} has it since {_clock(lease.since_ms)}, under lease {lease.id} until {_clock(lease.ends_ms)}"
    )
    return _reason("running", text)


def _waiting(state: State, queue: Queue, jobs: Jobs, offset: int, consumers: Consumers) -> Iterator[dict[str, Any]]:
    now_ms = jobs.now_ms
    if queue.paused:
        yield _reason("paused", f"queue {queue.name} is paused: resume it")
    due_ms = jobs.due_ms(offset)
    if due_ms is not None and due_ms > now_ms:
        note = queue.notes.at(offset)
        last = note.failures[-1] if note is not None and note.failures else None
        after = f", after it failed: {last.reason or last.how}" if last is not None else ""
        yield _reason("delayed", f"it is delayed until {_clock(due_ms)} ({_span(due_ms - now_ms)} from now){after}")
    held_back = list(_held_back(state, queue, offset, now_ms, consumers))
    yield from held_back
    recent = consumers.granted_ms is not None and now_ms - consumers.granted_ms < IDLE_MS
    if not consumers.waiting and not recent:
        ever = f", the last one took something at {_clock(consumers.granted_ms)}" if consumers.granted_ms else ""
        yield _reason("no_consumer", f"nobody consumes {queue.name}{ever}: start a pool or a consumer")
    ahead, all_seen = jobs.ahead(offset)
    if ahead:
        yield _reason("behind", f"{'' if all_seen else 'at least '}{ahead} others are before it")
    elif all_seen and not held_back and not queue.paused and (due_ms or 0) <= now_ms and (consumers.waiting or recent):
        yield _reason("next", "it is next: a consumer that asks will be given it")


def _held_back(state: State, queue: Queue, offset: int, now_ms: int, consumers: Consumers) -> Iterator[dict[str, Any]]:
    """What keeps the job itself, or its whole queue, from being given."""
    group, options = queue.groups[""], queue.options
    spot = group.shelf.at(offset)
    if spot is not None and spot.due_ms == HELD:
        yield _reason("parents", f"it waits for {_some_of(_parents(state, queue, offset))}")
    key = queue.extents.at(offset).key_of(offset) if options.ordered_by else None
    owner = group.keys.owner_of(key) if group.keys is not None and key is not None else None
    if owner is not None and owner != offset:
        yield _reason("key", f"{queue.name}/{owner}, which has the same key {key!r}, is not done")
    if options.max_leased is not None and group.leased >= options.max_leased:
        yield _reason("max_leased", f"{group.leased} jobs run, and {queue.name} allows for {options.max_leased}")
    if group.leased >= consumers.window:
        yield _reason("window", f"{group.leased} messages are in hand, and no more may be: some must be settled first")
    if options.rate is not None and not queue.rate.allowance(options.rate, now_ms):
        messages, period_ms = options.rate
        yield _reason("rate", f"the rate of {queue.name} is {messages} in {_span(period_ms)}, and that is used up")


def _some_of(names: Iterator[str]) -> str:
    """The first of them, and that there are more."""
    first = list(islice(names, NAMED_MAX))
    return (", ".join(first) + (" and others" if next(names, None) else "")) or "jobs that have just ended"


def _parents(state: State, queue: Queue, offset: int) -> Iterator[str]:
    """Those that have not ended."""
    for name, first, count in (queue.extents.at(offset).properties or {}).get("after", ()):
        parent = state.queues.get(name)
        if parent is None:
            continue
        for start, stop in parent.groups[""].acked.gaps(max(first, parent.groups[""].floor), first + count):
            yield f"{name}/{start}" if stop - start == 1 else f"{name}/{start}-{stop - 1}"


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _span(ms: int) -> str:
    seconds = ms / 1000
    for name, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds:.3g} s"
