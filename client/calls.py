"""What the methods of a client ask, as steps."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from ..peers.errors import AlreadyExists, Closed, InvalidArgument
from .cluster import ClusterInfo, SnapshotInfo
from .ids import Span
from .infos import GroupInfo, Info, JobInfo, QueueInfo, Reason, ScheduleInfo, TopicInfo, info_from_body
from .job_details import JobDetails
from .requests import Request
from .several import how_many
from .steps import Steps

JOBS_MAX = 1_000  # in one answer
STATUS_MAX = 10_000  # in one question
RANGE_MAX = 2_000  # jobs in one request to change them: the daemon allows some kinds no more


# -- queues and topics -------------------------------------------------------------------------------------------------


def create_queue(name: str, options: Mapping[str, Any], exist_ok: bool) -> Steps[QueueInfo]:
    info = yield from create(name, "queue", options, exist_ok)
    assert isinstance(info, QueueInfo), info
    return info


def create_topic(name: str, options: Mapping[str, Any], exist_ok: bool) -> Steps[TopicInfo]:
    info = yield from create(name, "topic", options, exist_ok)
    assert isinstance(info, TopicInfo), info
    return info


def create(name: str, kind: str, options: Mapping[str, Any], exist_ok: bool) -> Steps[QueueInfo | TopicInfo]:
    try:
        answer = yield _command("create", name=name, kind=kind, options=options)
    except AlreadyExists:
        if not exist_ok:
            raise
    else:
        return info_from_body(answer.body)
    info = yield from describe(name)
    if info.kind != kind:
        raise AlreadyExists(f"{name!r} is a {info.kind}", "take another name")
    return info


def change(op: str, name: str, **args: Any) -> Steps[QueueInfo | TopicInfo]:
    """A command that is answered with the queue or topic as it is now: configure, pause, resume."""
    answer = yield _command(op, name=name, **args)
    return info_from_body(answer.body)


def list_queues() -> Steps[list[QueueInfo]]:
    return [info for info in (yield from listing("queue")) if isinstance(info, QueueInfo)]


def list_topics() -> Steps[list[TopicInfo]]:
    return [info for info in (yield from listing("topic")) if isinstance(info, TopicInfo)]


def listing(kind: str) -> Steps[list[Info]]:
    found: list[Info] = []
    more = True
    while more:
        answer = yield Request("list", {"kind": kind, "after": found[-1].name if found else ""})
        found += map(info_from_body, answer.body["items"])
        more = bool(answer.body["more"])
    return found


def describe(name: str) -> Steps[QueueInfo | TopicInfo]:
    answer = yield Request("describe", {"name": name})
    return info_from_body(answer.body)


def purge(name: str) -> Steps[int]:
    answer = yield _command("purge", name=name)
    return int(answer.body["purged"])


def list_groups(topic: str) -> Steps[list[GroupInfo]]:
    return list((yield from describe(topic)).groups)


def create_group(topic: str, group: str, start: Mapping[str, Any], exist_ok: bool) -> Steps[GroupInfo]:
    try:
        answer = yield _command("group_create", topic=topic, group=group, **start)
    except AlreadyExists:
        if not exist_ok:
            raise
    else:
        return GroupInfo.from_body(answer.body)
    return (yield from describe_group(topic, group))


def describe_group(name: str, group: str) -> Steps[GroupInfo]:
    answer = yield Request("describe", {"name": name, "group": group})
    return GroupInfo.from_body(answer.body["groups"][0])


def seek_group(topic: str, group: str, start: Mapping[str, Any]) -> Steps[GroupInfo]:
    answer = yield _command("group_seek", topic=topic, group=group, **start)
    return GroupInfo.from_body(answer.body)


def retry_group(topic: str, group: str, limit: int | None) -> Steps[int]:
    bodies = yield from _in_parts("group_retry", "count", limit, topic=topic, group=group)
    return sum(int(body["count"]) for body in bodies)


# -- jobs --------------------------------------------------------------------------------------------------------------


def list_jobs(queue: str, status: str | None, limit: int, after: int | None) -> Steps[list[JobInfo]]:
    found: list[JobInfo] = []
    left, more = how_many(limit, "limit"), True
    while more and left > 0:
        args: dict[str, Any] = {"queue": queue, "limit": min(JOBS_MAX, left)}
        args |= {} if status is None else {"status": status}
        args |= {} if after is None else {"after": after}
        body = (yield Request("jobs", args)).body
        found += map(JobInfo.from_body, body["jobs"])
        left = limit - len(found)
        more, after = bool(body["more"]), int(body["next"])
    return found


def count_statuses(queue: str, spans: Iterable[Span]) -> Steps[dict[str, int]]:
    counts: Counter[str] = Counter()
    for offsets in _slices(spans, STATUS_MAX):
        answer = yield Request("job_status", {"queue": queue, "offsets": offsets})
        counts.update(job["status"] for job in answer.body["jobs"])
    return dict(counts)


def cancel_jobs(queue: str, spans: Iterable[Span]) -> Steps[int]:
    """Cancel those that have not ended. How many those were."""
    cancelled = 0
    for first, count in _parts(spans, RANGE_MAX):
        try:
            answer = yield _command("job_cancel", queue=queue, offset=first, count=count)
        except InvalidArgument:
            if count > 1:
                raise
            continue  # one alone is refused when it has ended
        cancelled += int(answer.body["cancelled"])
    return cancelled


def retry_jobs(queue: str, spans: Iterable[Span]) -> Steps[list[Span]]:
    """Submit those that are dead again: the new jobs."""
    again: list[Span] = []
    for first, count in _parts(spans, RANGE_MAX):
        try:
            answer = yield _command("job_retry", queue=queue, offset=first, count=count)
        except InvalidArgument:
            if count > 1:
                raise
            continue  # as above
        again += _retried(answer.body)
    return again


def retry_dead(queue: str, limit: int | None) -> Steps[list[Span]]:
    bodies = yield from _in_parts("job_retry_dead", "count", limit, queue=queue)
    return [span for body in bodies for span in _retried(body)]


def move(queue: str, target: str, limit: int | None) -> Steps[int]:
    bodies = yield from _in_parts("move", "moved", limit, queue=queue, target=target)
    return sum(int(body["moved"]) for body in bodies)


def _in_parts(op: str, counted: str, limit: int | None, **args: Any) -> Steps[list[dict[str, Any]]]:
    """The answers to as many commands as it takes to do `limit` messages, or all there are (None): each does no more
    than the daemon allows, and says under `counted` how many it did."""
    bodies: list[dict[str, Any]] = []
    left, more = None if limit is None else how_many(limit, "limit"), True
    while more and left != 0:
        asked = RANGE_MAX if left is None else min(left, RANGE_MAX)
        body = (yield _command(op, limit=asked, **args)).body
        bodies.append(body)
        more = body[counted] == asked
        left = None if left is None else left - int(body[counted])
    return bodies


def describe_job(queue: str, offset: int) -> Steps[JobDetails]:
    answer = yield Request("job_info", {"queue": queue, "offset": offset})
    return JobDetails.from_body(queue, answer.body)


def _retried(body: Mapping[str, Any]) -> list[Span]:
    return [(int(new), int(count)) for _, count, new in body["retried"]]


def _parts(spans: Iterable[Span], size: int) -> Iterator[Span]:
    for first, count in spans:
        for start in range(first, first + count, size):
            yield start, min(size, first + count - start)


def explain(queue: str, offset: int) -> Steps[list[Reason]]:
    body = (yield Request("job_explain", {"queue": queue, "offset": offset})).body
    return [Reason(str(each["code"]), str(each["text"])) for each in body["reasons"]]


def _slices(spans: Iterable[Span], size: int) -> Iterator[list[int]]:
    offsets = chain.from_iterable(range(first, first + count) for first, count in spans)
    while some := list(islice(offsets, size)):
        yield some


# -- schedules ---------------------------------------------------------------------------------------------------------


def add_schedule(args: Mapping[str, Any], payload: bytes) -> Steps[ScheduleInfo]:
    answer = yield Request("schedule_add", args, payload, counted=True)
    return ScheduleInfo.from_body(answer.body)


def change_schedule(op: str, name: str) -> Steps[ScheduleInfo]:
    """A command that is answered with the schedule as it is now: pause, resume."""
    answer = yield _command(op, name=name)
    return ScheduleInfo.from_body(answer.body)


def run_schedule(name: str) -> Steps[dict[str, Any]]:
    answer: Request = yield _command("schedule_run", name=name)
    return answer.body


def describe_schedule(name: str) -> Steps[ScheduleInfo]:
    answer = yield Request("schedule", {"name": name})
    return ScheduleInfo.from_body(answer.body, answer.data)


def list_schedules() -> Steps[list[ScheduleInfo]]:
    found: list[ScheduleInfo] = []
    more = True
    while more:
        answer = yield Request("schedules", {"after": found[-1].name if found else ""})
        found += map(ScheduleInfo.from_body, answer.body["items"])
        more = bool(answer.body["more"])
    return found


# -- the node and the cluster ------------------------------------------------------------------------------------------


def ask(op: str, **args: Any) -> Steps[dict[str, Any]]:
    """A question whose answer needs no reading."""
    answer: Request = yield Request(op, args)
    return answer.body


def command(op: str, **args: Any) -> Steps[None]:
    """A change whose answer says nothing more."""
    yield _command(op, **args)


def crash() -> Steps[None]:
    with contextlib.suppress(Closed):  # the node is gone before its answer, as it should be
        yield Request("crash", {}, single=True)


def cluster() -> Steps[ClusterInfo]:
    return ClusterInfo.from_body((yield Request("cluster", {})).body)


def transfer(to: int) -> Steps[None]:
    yield Request("cluster_transfer", {"to": to})


def snapshot() -> Steps[SnapshotInfo]:
    return SnapshotInfo.from_body((yield Request("snapshot", {})).body)


def _command(op: str, **args: Any) -> Request:
    return Request(op, args, counted=True)
