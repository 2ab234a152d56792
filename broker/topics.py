"""What commands do to the groups of a topic, and what is kept of it: where reading begins, seek, retention. Pure."""

from __future__ import annotations

from typing import NamedTuple

from ..peers import messages as m
from ..peers.errors import AlreadyExists, InvalidArgument
from .groups import Group
from .options import TOPIC
from .queues import Queue
from .sessions import OK, Answer
from .state import State
from .views import group_info

EARLIEST, LATEST, OFFSET, TIME = "earliest", "latest", "offset", "time"
STARTS = (EARLIEST, LATEST, OFFSET, TIME)
TRIM_MAX = 1_000  # extents looked at for one Trim; the next turn goes on


def topic_of(state: State, name: str) -> Queue:
    """The topic of that name. Raises NotFound, and InvalidArgument for a queue."""
    topic = state.queue(name)
    if topic.kind != TOPIC:
        raise InvalidArgument(f"{topic.name} is a queue and has no groups of its own", "groups are for topics")
    return topic


# -- where reading begins ----------------------------------------------------------------------------------------------


def place(topic: Queue, start: str, at: int) -> int:
    """The offset of the first message to read. `at`: an offset, or ms since 1970. Raises InvalidArgument.

    What is no longer kept is passed over: then reading begins with the oldest message that is.
    """
    if start == EARLIEST:
        return topic.trimmed
    if start == LATEST:
        return topic.next
    if start == TIME:
        return first_since(topic, at)
    if at > topic.next:
        raise InvalidArgument(
            f"offset {at} is beyond the end of topic {topic.name}, whose next message will be {topic.next}",
            f'give an offset from {topic.trimmed} to {topic.next}, or start "latest"',
        )
    return max(at, topic.trimmed)


def first_since(topic: Queue, at_ms: int) -> int:
    """The offset of the first kept message that was published at `at_ms` or later; the end, if there is none."""
    # Stamps never fall from one extent to the next one.
    low, high = topic.trimmed, topic.next
    while low < high:
        extent = topic.extents.at((low + high) // 2)
        if extent.stamp_ms < at_ms:
            low = extent.end
        else:
            high = max(low, extent.first)
    return low


# -- groups ------------------------------------------------------------------------------------------------------------


def create_group(state: State, command: m.CreateGroup) -> Answer:
    topic = topic_of(state, command.topic)
    if command.group in topic.groups:
        raise AlreadyExists(
            f"group {command.group} of topic {topic.name} exists already", "use it, or take another name"
        )
    group = topic.new_group(command.group, place(topic, command.start, command.at))
    state.touched_queues.add(topic.id)
    state.emit("group.created", topic.name, group=group.name)
    return Answer("ok", group_info(group, topic, state.stamp_ms))


def delete_group(state: State, command: m.DeleteGroup) -> Answer:
    topic = topic_of(state, command.topic)
    _end_leases(state, state.group(topic, command.group))
    topic.forget_group(command.group)
    state.wake_group(topic.name, command.group)
    state.touched_queues.add(topic.id)
    state.emit("group.deleted", topic.name, group=command.group)
    return OK


def seek_group(state: State, command: m.SeekGroup) -> Answer:
    """The group reads on from somewhere else, as if it were new: what was leased, settled or waiting there is so no
    more."""
    topic = topic_of(state, command.topic)
    before = state.group(topic, command.group)
    first = place(topic, command.start, command.at)
    _end_leases(state, before)
    topic.forget_group(before.name)
    group = topic.new_group(before.name, first)
    group.done, group.dead = before.done, before.dead  # of its whole life
    state.wake_group(topic.name, command.group)
    state.touched_queues.add(topic.id)
    state.emit("group.sought", topic.name, group=group.name, floor=group.floor)
    return Answer("ok", group_info(group, topic, state.stamp_ms))


def _end_leases(state: State, group: Group) -> None:
    if group.leased:
        for lease in [lease for lease in state.leases.values() if lease.group is group]:
            state.end_lease(lease)


# -- retention ---------------------------------------------------------------------------------------------------------


class Stretch(NamedTuple):
    """Messages before this offset are past their retention. `more`: perhaps others are, too."""

    before: int
    more: bool


def outlived(topic: Queue, now_ms: int) -> Stretch:
    """What of a topic is past its retention, looking at TRIM_MAX extents. The newest batch stays, however large."""
    options = topic.options
    before = topic.trimmed
    if options.retention_messages is not None:
        before = max(before, topic.next - options.retention_messages)
    if options.retention_ms is None and options.retention_bytes is None:
        return Stretch(before, False)
    oldest_ms = -1 if options.retention_ms is None else now_ms - options.retention_ms
    over = 0 if options.retention_bytes is None else topic.bytes - options.retention_bytes
    at = topic.dropped  # from here on, all is counted in `bytes`
    for _ in range(TRIM_MAX):
        if at >= topic.next:
            return Stretch(max(before, at), False)
        extent = topic.extents.at(at)
        if extent.stamp_ms > oldest_ms and (over <= 0 or extent.end == topic.next):
            return Stretch(max(before, at), False)
        over -= extent.size
        at = extent.end
    return Stretch(max(before, at), True)


def trim(state: State, command: m.Trim) -> Answer:
    """Drop what is past its retention, from every group too."""
    topic = topic_of(state, command.queue)
    before = min(command.before, topic.next)
    if before <= topic.trimmed:
        return OK
    if any(group.leased and group.floor < before for group in topic.groups.values()):
        _cut_leases(state, topic, before)
    for group in topic.groups.values():
        group.raise_floor(before)
    topic.trimmed = before
    state.drop(topic)
    return OK


def _cut_leases(state: State, topic: Queue, before: int) -> None:
    for lease in [lease for lease in state.leases.values() if lease.queue_id == topic.id]:
        kept = [span._replace(first=max(span.first, before)) for span in lease.spans if span.end > before]
        lost = sum(span.end - span.first for span in lease.spans) - sum(span.end - span.first for span in kept)
        if lost:
            lease.group.leased -= lost
            lease.spans = kept
            state.wake_group(topic.name, lease.group.name)  # its window of what may be in flight has room again
            if not kept:
                state.forget_lease(lease)
