"""Requests that only read, answered out of the model and the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from heapq import merge
from typing import Any, NamedTuple

from ..peers.errors import InvalidArgument, shown
from ..peers.splice import Part, join_payload
from ..peers.wire import pack_payload, unpack_payload
from . import requests as ask
from .extents import Outcome
from .groups import Piece
from .job_info import describe_job
from .jobs import STATUSES, Jobs, job_queue
from .options import QUEUE, TOPIC
from .origins import note_at
from .payloads import Payloads
from .queues import Queue
from .scheduling import schedule_of
from .state import State
from .topics import OFFSET, place, topic_of
from .views import queue_info

LIST_MAX = 1000
PEEK_MAX = 1000
READ_MAX = 100_000  # messages in one answer
READ_BYTES = 4 << 20
JOBS_MAX = 1000
OFFSETS_MAX = 10_000
SCAN_MAX = 10_000  # outcomes looked at by one request: a filter that fits few of them must not make a long turn
SHARED_MAX = 4 << 20  # bytes of one error, once for each of the jobs that share it


class Found(NamedTuple):
    """The answer of a read."""

    body: dict[str, Any]
    payload: bytes | None = None


def delivery(pieces: list[Piece], payloads: Payloads) -> tuple[list[list[int]], bytes | None]:
    """The ranges and the payload of a delivery."""
    ranges: list[list[int]] = []
    parts: list[Part] = []
    raws: dict[int, bytes] = {}  # messages that are taken one by one may all lie in one large batch
    for extent, start, end, attempt, failures in pieces:
        ranges.append([start, end - start, attempt, extent.stamp_ms, failures])
        place, home, total = extent.start + start - extent.first, extent.home, extent.total
        raw = raws.get(home)
        if raw is None:
            raw = raws[home] = payloads(home)
        cut = end - start < total or extent.note is not None
        bounds = payloads.bounds(home, raw) if cut else None
        if extent.note is None:
            parts.append(Part(raw, place, place + end - start, extent.plain, bounds))
            continue
        for at in range(end - start):  # dead letters: each of them says where it came from
            note = note_at(extent.note, start + at - extent.first)
            parts.append(Part(raw, place + at, place + at + 1, extent.plain, bounds, note))
    return ranges, join_payload(parts) if parts else None


def list_queues(state: State, args: ask.Args, now_ms: int, payload: Payloads) -> Found:
    kind = None if args.get("kind") is None else ask.choice(args, "kind", (QUEUE, TOPIC))
    limit = ask.integer(args, "limit", 1, LIST_MAX, LIST_MAX)
    after = ask.name_of(args, "after", "")
    names = sorted(name for name, queue in state.queues.items() if name > after and kind in (None, queue.kind))
    items: list[dict[str, Any]] = []
    groups = 0
    for name in names[:limit]:
        if items and groups + len(state.queues[name].groups) > LIST_MAX:  # each of them is counted out
            break
        groups += len(state.queues[name].groups)
        items.append(queue_info(state.queues[name], now_ms))
    return Found({"items": items, "more": len(items) < len(names)})


def describe(state: State, args: ask.Args, now_ms: int, payload: Payloads) -> Found:
    queue = state.queue(ask.name_of(args, "name"))
    group = None if args.get("group") is None else state.group(queue, ask.name_of(args, "group", "")).name
    return Found(queue_info(queue, now_ms, group))


def list_schedules(state: State, args: ask.Args, now_ms: int, payload: Payloads) -> Found:
    limit = ask.integer(args, "limit", 1, LIST_MAX, LIST_MAX)
    after = ask.name_of(args, "after", "")
    names = sorted(name for name in state.schedules.by_name if name > after)
    items = [state.schedules.by_name[name].info() for name in names[:limit]]
    return Found({"items": items, "more": len(items) < len(names)})


def describe_schedule(state: State, args: ask.Args, now_ms: int, payload: Payloads) -> Found:
    """With the job that it makes."""
    schedule = schedule_of(state, ask.name_of(args, "name"))
    return Found(schedule.info(), payload(schedule.home))


def peek(state: State, args: ask.Args, now_ms: int, payload: Payloads) -> Found:
    queue = state.queue(ask.name_of(args, "name"))
    group = state.group(queue, ask.name_of(args, "group", ""))
    limit = ask.integer(args, "limit", 1, PEEK_MAX, 10)
    ranges, raw = delivery(group.peek(queue.extents, queue.next, now_ms, limit), payload)
    return Found({"lease": None, "ranges": ranges}, raw)


def placed(state: State, args: ask.Args) -> dict[str, Any]:
    """What a `read` asks for, with the offset where it begins: the end of now is the end of now when it waited, too."""
    topic = topic_of(state, ask.name_of(args, "topic"))
    start, at = (OFFSET, ask.integer(args, "offset", 0, ask.OFFSET_MAX)) if "offset" in args else ask.beginning(args)
    return {
        "topic": topic.name,
        "messages": ask.integer(args, "messages", 1, READ_MAX, 1000),
        "bytes": ask.integer(args, "bytes", 1, 2**40, READ_BYTES),
        "offset": place(topic, start, at),
    }


def read(state: State, args: ask.Args, now_ms: int, payload: Payloads) -> Found | None:
    """Messages of a topic for a reader without a group; `args` as `placed`. None: there is none yet."""
    topic, limit, size_max = topic_of(state, args["topic"]), args["messages"], args["bytes"]
    first = at = place(topic, OFFSET, args["offset"])
    pieces: list[Piece] = []
    while at < topic.next and limit > 0 and size_max > 0:
        extent = topic.extents.at(at)
        each = max(1, extent.size // extent.count)
        end = at + min(extent.end - at, limit, max(size_max // each, 0 if pieces else 1))
        if end == at:
            break
        pieces.append(Piece(extent, at, end, 0, 0))
        limit -= end - at
        size_max -= (end - at) * each
        at = end
    if not pieces:
        return None
    ranges, raw = delivery(pieces, payload)
    return Found({"lease": None, "ranges": ranges, "first": first, "next": at, "end": topic.next}, raw)


def job_status(state: State, args: ask.Args, now_ms: int, payload: Payloads) -> Found:
    queue = job_queue(state, ask.name_of(args, "queue"))
    offsets = args.get("offsets")
    if type(offsets) is not tuple or len(offsets) > OFFSETS_MAX or any(type(it) is not int for it in offsets):
        raise InvalidArgument(f"offsets is {shown(offsets)}", f"give a list of at most {OFFSETS_MAX} integers")
    jobs = Jobs(state, queue, now_ms)
    return Found({"jobs": [jobs.describe(offset) for offset in offsets]})


def job_info(state: State, args: ask.Args, now_ms: int, payload: Payloads) -> Found:
    queue = job_queue(state, ask.name_of(args, "queue"))
    return Found(describe_job(state, queue, ask.integer(args, "offset", 0, ask.OFFSET_MAX), now_ms, payload))


def list_jobs(state: State, args: ask.Args, now_ms: int, payload: Payloads) -> Found:
    queue = job_queue(state, ask.name_of(args, "queue"))
    status = None if args.get("status") is None else ask.choice(args, "status", STATUSES)
    limit = ask.integer(args, "limit", 1, JOBS_MAX, 100)
    after = ask.integer(args, "after", -1, ask.OFFSET_MAX, -1)
    jobs = Jobs(state, queue, now_ms)
    found: list[dict[str, Any]] = []
    stretches = merge(_ended(queue, after + 1), jobs.live(after + 1), key=_first_of)
    for scanned, (first, end, what, outcome) in enumerate(stretches, 1):
        if status in (None, what):
            for offset in range(max(first, after + 1), end):
                if len(found) == limit:
                    return Found({"jobs": found, "more": True, "next": offset - 1})
                same = {"offset": offset, "status": what}
                found.append(same | jobs.ended(outcome, offset) if outcome is not None else jobs.describe(offset))
        if scanned == SCAN_MAX:
            return Found({"jobs": found, "more": True, "next": end - 1})
    return Found({"jobs": found, "more": False, "next": queue.next - 1})


def _ended(queue: Queue, offset: int) -> Iterator[tuple[int, int, str, Outcome | None]]:
    for outcome in queue.outcomes.from_offset(offset):
        yield outcome.first, outcome.first + outcome.count, outcome.status, outcome


def _first_of(stretch: tuple[int, int, str, Outcome | None]) -> int:
    return stretch[0]


def job_result(state: State, args: ask.Args, now_ms: int, payload: Payloads) -> Found | None:
    """None: the job has not ended."""
    queue = job_queue(state, ask.name_of(args, "queue"))
    offset = ask.integer(args, "offset", 0, ask.OFFSET_MAX)
    info = Jobs(state, queue, now_ms).describe(offset)
    if info["status"] in ("queued", "delayed", "waiting", "running", "failed"):
        return None
    outcome = queue.outcomes.at(offset)
    raw = None
    if outcome is not None and outcome.start >= 0:
        raw = pack_payload([_data(outcome, payload)[offset - outcome.first if outcome.each else 0]])
    return Found({"status": info["status"], "reason": info.get("reason", "")}, raw)


def call(state: State, args: ask.Args, now_ms: int, payload: Payloads) -> Found | None:
    """As `job_result`, of the job that a call has made."""
    found = job_result(state, args, now_ms, payload)
    return None if found is None else Found({"offset": args["offset"], **found.body}, found.payload)


def outcomes(state: State, args: ask.Args, now_ms: int, payload: Payloads) -> Found | None:
    """What ended since; None: nothing did."""
    queue = job_queue(state, ask.name_of(args, "queue"))
    after = ask.integer(args, "after", 0, ask.OFFSET_MAX)
    limit = ask.integer(args, "limit", 1, 10**6, 1000)
    size_max = ask.integer(args, "bytes", 1, 2**40, 4 << 20)
    rows: list[list[Any]] = []
    bodies: list[bytes] = []
    for home, step in queue.outcomes.after(after):
        after = home
        for outcome in step:
            rows.append([outcome.first, outcome.count, outcome.status, outcome.reason])
            data = _data(outcome, payload)
            if not outcome.each and len(data[0]) * outcome.count > SHARED_MAX:
                data = [b""]  # one large error of many jobs: job_result has it
            bodies += data if outcome.each else data * outcome.count
            limit -= outcome.count
            size_max -= sum(map(len, data))
        if limit <= 0 or size_max <= 0:
            break
    return Found({"next": after, "outcomes": rows}, pack_payload(bodies)) if rows else None


def _data(outcome: Outcome, payload: Payloads) -> list[bytes]:
    """The bodies of an outcome: one for each job, or one for all of them."""
    if outcome.start < 0:
        return [b""]
    bodies, _ = unpack_payload(payload(outcome.home))
    return bodies[outcome.start : outcome.start + (outcome.count if outcome.each else 1)]


WaitingRead = Callable[[State, ask.Args, int, Payloads], Found | None]  # None: nothing yet
READS: Mapping[str, Callable[[State, ask.Args, int, Payloads], Found]] = {
    "list": list_queues, "describe": describe, "peek": peek, "schedules": list_schedules, "schedule": describe_schedule,
    "job_status": job_status, "jobs": list_jobs, "job_info": job_info,
}  # fmt: skip
WAITING_READS: Mapping[str, WaitingRead] = {"job_result": job_result, "outcomes": outcomes, "read": read, "call": call}


def nothing_yet(op: str, args: ask.Args, state: State, now_ms: int) -> dict[str, Any]:
    """The answer of a waiting read whose wait is over."""
    if op == "outcomes":
        return {"next": args["after"], "outcomes": []}
    if op == "read":
        topic = topic_of(state, args["topic"])
        return {"lease": None, "ranges": [], "first": topic.next, "next": topic.next, "end": topic.next}
    queue = job_queue(state, args["queue"])
    body = {"status": Jobs(state, queue, now_ms).describe(args["offset"])["status"], "reason": ""}
    return {"offset": args["offset"], **body} if op == "call" else body
