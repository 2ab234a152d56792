"""The model once more, as plainly as can be: a dict per message, lists, no ranges, no heaps, no disk.

It shares no code with penstock.broker. Where both agree on every answer and every count, one of them would have to be
wrong in the same way as the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

READY, DELAYED, LEASED = "ready", "delayed", "leased"
ENDED = ("done", "dead", "cancelled", "purged", "retried", "trimmed")


class Refused(Exception):
    """`code` is the error code that the model must answer with."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Message:
    """One message of a queue. `token` says which body it is: (log entry, place in it)."""

    offset: int
    token: tuple[int, int]
    each: int  # bytes
    stamp_ms: int
    batch: int  # what is dropped together
    origin: tuple[str, int, int, str] | None = None  # of a dead letter: queue, offset, failures, reason


@dataclass
class Place:
    """Where one message stands for one group."""

    state: str = READY
    attempt: int = 0
    failures: int = 0
    until_ms: int = 0
    lease: int = 0


@dataclass
class Lease:
    id: int
    queue: NaiveQueue
    group: str
    session: int
    ends_ms: int


@dataclass
class NaiveQueue:
    name: str
    kind: str
    options: dict[str, Any]
    messages: list[Message] = field(default_factory=list)
    groups: dict[str, dict[int, Place]] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    paused: bool = False
    trimmed: int = 0
    outcomes: list[tuple[Any, ...]] = field(
        default_factory=list
    )  # (home, offset, status, attempt, failures, dead_offset)
    shared: bool = False  # holds messages that lie in other queues' entries: its batches are not ours to know

    @property
    def next(self) -> int:
        return len(self.messages)

    def add_group(self, name: str, start: int) -> None:
        self.groups[name] = {offset: Place() for offset in range(start, self.next)}
        self.done[name] = self.dead[name] = 0
        self.starts[name] = start

    def add(self, message: Message) -> None:
        self.messages.append(message)
        for places in self.groups.values():
            places[message.offset] = Place()

    def floor(self, group: str) -> int:
        open_ones = [offset for offset, place in self.groups[group].items() if place.state not in ENDED]
        return min(open_ones, default=self.next)

    @property
    def keeps_from(self) -> int:
        return self.floor("") if self.kind == "queue" else self.trimmed

    @property
    def bytes(self) -> int:
        """Batches of which at least one message is needed."""
        kept = {message.batch for message in self.messages[self.keeps_from :]}
        return sum(message.each for message in self.messages if message.batch in kept)

    def counts(self, group: str, now_ms: int) -> dict[str, int]:
        places = self.groups[group].values()
        ready = sum(1 for p in places if p.state == READY or (p.state == DELAYED and p.until_ms <= now_ms))
        return {
            "ready": ready,
            "delayed": sum(1 for p in places if p.state == DELAYED and p.until_ms > now_ms),
            "leased": sum(1 for p in places if p.state == LEASED),
            "done": self.done[group],
            "dead": self.dead[group],
        }


class Naive:
    """All of it. Each method is a command; it returns the parts of the answer worth comparing, or raises Refused."""

    def __init__(self, forget_max: int) -> None:
        self.forget_max = forget_max
        self.now_ms = 0
        self.index = 0
        self.queues: dict[str, NaiveQueue] = {}
        self.leases: dict[int, Lease] = {}
        self.sessions: set[int] = set()
        self._batches = 0

    # -- queues -------------------------------------------------------------------------------------------------------

    def queue(self, name: str) -> NaiveQueue:
        if name not in self.queues:
            raise Refused("NotFound")
        return self.queues[name]

    def create(self, name: str, kind: str, options: dict[str, Any]) -> None:
        if name in self.queues:
            raise Refused("AlreadyExists")
        self._check_options(kind, options)
        self._new(name, kind, options)

    def _new(self, name: str, kind: str, options: dict[str, Any]) -> NaiveQueue:
        defaults = {"max_messages": None, "max_bytes": None, "max_failures": 5, "retry_delay_ms": 0}
        queue = self.queues[name] = NaiveQueue(name, kind, defaults | options)
        if kind == "queue":
            queue.add_group("", 0)
        return queue

    def _check_options(self, kind: str, options: dict[str, Any]) -> None:
        if kind == "topic" and (options.get("max_messages") or options.get("max_bytes")):
            raise Refused("InvalidArgument")

    def configure(self, name: str, options: dict[str, Any]) -> None:
        queue = self.queue(name)
        self._check_options(queue.kind, options)
        queue.options |= options

    def delete(self, name: str) -> None:
        queue = self.queue(name)
        self.leases = {id: lease for id, lease in self.leases.items() if lease.queue is not queue}
        del self.queues[name]

    def purge(self, name: str) -> int:
        queue = self.queue(name)
        if queue.kind != "queue":
            raise Refused("InvalidArgument")
        waiting = [place for place in queue.groups[""].values() if place.state in (READY, DELAYED)]
        for place in waiting:
            place.state = "purged"
        return len(waiting)

    def pause(self, name: str, paused: bool) -> None:
        self.queue(name).paused = paused

    def create_group(self, topic: str, group: str, start: str, at: int = 0) -> None:
        queue = self._topic(topic)
        if group in queue.groups:
            raise Refused("AlreadyExists")
        queue.add_group(group, self._place(queue, start, at))

    def _place(self, queue: NaiveQueue, start: str, at: int) -> int:
        if start == "offset" and at > queue.next:
            raise Refused("InvalidArgument")
        kept = queue.messages[queue.trimmed :]
        since = next((message.offset for message in kept if message.stamp_ms >= at), queue.next)
        places = {"earliest": queue.trimmed, "latest": queue.next, "offset": max(at, queue.trimmed), "time": since}
        return places[start]

    def seek_group(self, topic: str, group: str, start: str, at: int) -> None:
        queue = self._topic(topic)
        if group not in queue.groups:
            raise Refused("NotFound")
        done, dead, first = queue.done[group], queue.dead[group], self._place(queue, start, at)
        self._end_leases(queue, group)
        queue.add_group(group, first)
        queue.done[group], queue.dead[group] = done, dead

    def delete_group(self, topic: str, group: str) -> None:
        queue = self._topic(topic)
        if group not in queue.groups:
            raise Refused("NotFound")
        del queue.groups[group]
        self._end_leases(queue, group)

    def _end_leases(self, queue: NaiveQueue, group: str) -> None:
        self.leases = {
            id: lease for id, lease in self.leases.items() if lease.queue is not queue or lease.group != group
        }

    def _topic(self, name: str) -> NaiveQueue:
        queue = self.queue(name)
        if queue.kind != "topic":
            raise Refused("InvalidArgument")
        return queue

    def trim(self, topic: str, before: int) -> None:
        queue = self._topic(topic)
        before = min(before, queue.next)
        if before <= queue.trimmed:
            return
        queue.trimmed = before
        for places in queue.groups.values():
            for offset, place in places.items():
                if offset < before and place.state not in ENDED:
                    place.state, place.lease = "trimmed", 0
        self._end_empty_leases()

    # -- messages -----------------------------------------------------------------------------------------------------

    def append(self, name: str, count: int, each: int) -> int:
        queue = self.queue(name)
        self._check_room(queue, count, count * each)
        first = queue.next
        self._batches += 1
        for place in range(count):
            queue.add(Message(first + place, (self.index, place), each, self.now_ms, self._batches))
        return first

    def _check_room(self, queue: NaiveQueue, count: int, size: int) -> None:
        limit, size_limit = queue.options["max_messages"], queue.options["max_bytes"]
        if limit is not None:
            held = sum(1 for place in queue.groups[""].values() if place.state not in ENDED)
            if held + count > limit:
                raise Refused("QueueFull")
        if size_limit is not None and queue.bytes + size > size_limit:
            raise Refused("QueueFull")

    def pull(
        self, session: int, name: str, group: str, count: int, size_max: int, lease_ms: int
    ) -> list[tuple[int, int, int, tuple[int, int]]]:
        """(offset, attempt, failures, token) of what is given; none: nothing was ready."""
        queue = self.queue(name)
        if group not in queue.groups:
            raise Refused("NotFound")
        if queue.paused:
            return []
        places = queue.groups[group]
        ready = [o for o, p in places.items() if p.state == READY or (p.state == DELAYED and p.until_ms <= self.now_ms)]
        ready.sort(key=lambda offset: (places[offset].attempt == 0, offset))  # again before fresh, oldest first
        given: list[tuple[int, int, int, tuple[int, int]]] = []
        for offset in ready:
            message, place = queue.messages[offset], places[offset]
            if len(given) == count or (given and size_max < message.each):
                break
            size_max -= message.each
            place.state, place.lease, place.attempt = LEASED, self.index, place.attempt + 1
            given.append((offset, place.attempt, place.failures, message.token))
            if size_max <= 0:
                break
        if given:
            self.leases[self.index] = Lease(self.index, queue, group, session, self.now_ms + lease_ms)
        return given

    def held(self, lease_id: int) -> list[int]:
        lease = self.leases.get(lease_id)
        if lease is None:
            return []
        return sorted(o for o, p in lease.queue.groups[lease.group].items() if p.lease == lease_id)

    def _take(self, session: int, lease_id: int, ranges: tuple[tuple[int, int], ...]) -> tuple[Lease, list[int]]:
        lease = self.leases.get(lease_id)
        if lease is None or lease.session != session:
            raise Refused("LeaseLost")
        wanted = [offset for first, count in ranges for offset in range(first, first + count)]
        if len(set(wanted)) != len(wanted) or not set(wanted) <= set(self.held(lease_id)):
            raise Refused("LeaseLost")
        for offset in wanted:
            lease.queue.groups[lease.group][offset].lease = 0
        self._end_empty_leases()
        return lease, wanted

    def _end_empty_leases(self) -> None:
        self.leases = {id: lease for id, lease in self.leases.items() if self.held(id)}

    def ack(self, session: int, lease_id: int, ranges: tuple[tuple[int, int], ...]) -> None:
        lease, offsets = self._take(session, lease_id, ranges)
        self._finish(lease.queue, lease.group, offsets)

    def _finish(self, queue: NaiveQueue, group: str, offsets: list[int]) -> None:
        for offset in offsets:
            queue.groups[group][offset].state = "done"
        queue.done[group] += len(offsets)

    def complete(self, session: int, lease_id: int, ranges: tuple[tuple[int, int], ...]) -> None:
        known = self.leases.get(lease_id)
        if known is not None and known.session == session and known.queue.kind != "queue":
            raise Refused("InvalidArgument")
        lease, offsets = self._take(session, lease_id, ranges)
        for offset in offsets:
            place = lease.queue.groups[lease.group][offset]
            lease.queue.outcomes.append((self.index, offset, "done", place.attempt, place.failures, -1))
        self._finish(lease.queue, lease.group, offsets)

    def nack(self, session: int, lease_id: int, ranges: tuple[tuple[int, int], ...], delay_ms: int | None) -> int:
        lease, offsets = self._take(session, lease_id, ranges)
        return self._fail(lease.queue, lease.group, offsets, delay_ms, "it failed too often")

    def reject(self, session: int, lease_id: int, ranges: tuple[tuple[int, int], ...], reason: str) -> int:
        lease, offsets = self._take(session, lease_id, ranges)
        for offset in offsets:
            lease.queue.groups[lease.group][offset].failures += 1
        self._bury(lease.queue, lease.group, offsets, reason or "it was rejected")
        return len(offsets)

    def release(self, session: int, lease_id: int, ranges: tuple[tuple[int, int], ...] | None) -> None:
        if ranges is None:
            ranges = tuple((offset, 1) for offset in self.held(lease_id))
        lease, offsets = self._take(session, lease_id, ranges)
        for offset in offsets:
            lease.queue.groups[lease.group][offset].state = READY

    def extend(self, session: int, lease_ids: tuple[int, ...], lease_ms: int) -> list[int]:
        lost: list[int] = []
        for lease_id in lease_ids:
            lease = self.leases.get(lease_id)
            if lease is None or lease.session != session:
                lost.append(lease_id)
            else:
                lease.ends_ms = self.now_ms + lease_ms
        return lost

    def expire(self, lease_id: int, ends_ms: int) -> None:
        lease = self.leases.get(lease_id)
        if lease is not None and lease.ends_ms == ends_ms and ends_ms <= self.now_ms:
            self._fail_lease(lease, "its lease ended too often")

    def _fail_lease(self, lease: Lease, reason: str) -> None:
        offsets = self.held(lease.id)
        self._take(lease.session, lease.id, tuple((offset, 1) for offset in offsets))
        self._fail(lease.queue, lease.group, offsets, None, reason)

    def _fail(self, queue: NaiveQueue, group: str, offsets: list[int], delay_ms: int | None, reason: str) -> int:
        if delay_ms is None:
            delay_ms = queue.options["retry_delay_ms"]
        limit = queue.options["max_failures"]
        dead: list[int] = []
        for offset in offsets:
            place = queue.groups[group][offset]
            place.failures += 1
            if limit is not None and place.failures >= limit:
                dead.append(offset)
            elif delay_ms:
                place.state, place.until_ms = DELAYED, self.now_ms + delay_ms
            else:
                place.state = READY
        self._bury(queue, group, dead, reason)
        return len(dead)

    def _bury(self, queue: NaiveQueue, group: str, offsets: list[int], reason: str) -> None:
        if not offsets:
            return
        name = queue.name if queue.name.endswith(".dead") and queue.kind == "queue" else queue.name + ".dead"
        while name in self.queues and self.queues[name].kind != "queue":
            name += ".dead"
        letters = self.queues.get(name) or self._new(name, "queue", {"max_failures": None})
        for offset in offsets:
            message, place = queue.messages[offset], queue.groups[group][offset]
            origin = (queue.name, offset, place.failures, reason)
            if queue.kind == "queue":
                queue.outcomes.append((self.index, offset, "dead", place.attempt, place.failures, letters.next))
            self._share(letters, message, origin)
            place.state = "dead"
        queue.dead[group] += len(offsets)

    def _share(self, queue: NaiveQueue, message: Message, origin: tuple[str, int, int, str] | None) -> None:
        self._batches += 1
        queue.shared = True
        queue.add(Message(queue.next, message.token, message.each, self.now_ms, self._batches, origin))

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def status(self, queue: NaiveQueue, offset: int) -> str:
        if not 0 <= offset < queue.next:
            return "unknown"
        place = queue.groups[""][offset]
        if place.state in ENDED:
            found = [status for _, at, status, *_ in queue.outcomes if at == offset]
            return found[0] if found else "expired"
        if place.state == LEASED:
            return "running"
        if place.failures:
            return "failed"
        return "delayed" if place.state == DELAYED and place.until_ms > self.now_ms else "queued"

    def _jobs(self, name: str) -> NaiveQueue:
        queue = self.queue(name)
        if queue.kind != "queue":
            raise Refused("InvalidArgument")
        return queue

    def cancel(self, name: str, offset: int) -> None:
        queue = self._jobs(name)
        if not 0 <= offset < queue.next:
            raise Refused("NotFound")
        place = queue.groups[""][offset]
        if place.state in ENDED:
            raise Refused("InvalidArgument")
        place.state, place.lease = "cancelled", 0
        queue.outcomes.append((self.index, offset, "cancelled", place.attempt, place.failures, -1))
        self._end_empty_leases()

    def retry(self, name: str, offset: int) -> int:
        queue = self._jobs(name)
        if not 0 <= offset < queue.next:
            raise Refused("NotFound")
        if self.status(queue, offset) != "dead":
            raise Refused("InvalidArgument")
        dead_offset = next(at for _, o, _, _, _, at in queue.outcomes if o == offset)
        letters = self._letters(queue, offset, dead_offset)
        message, place = letters.messages[dead_offset], letters.groups[""][dead_offset]
        self._check_room(queue, 1, message.each)
        if place.state == LEASED:
            raise Refused("InvalidArgument")
        # A letter of a dead-letter queue can be retried into that very queue: it goes before it comes.
        new_offset = queue.next
        self._share(queue, message, None)
        place.state = "retried"
        return new_offset

    def _letters(self, queue: NaiveQueue, offset: int, dead_offset: int) -> NaiveQueue:
        for name, candidate in self.queues.items():
            if candidate.kind != "queue" or not (name.startswith(queue.name + ".dead") or candidate is queue):
                continue
            if dead_offset >= candidate.next or candidate.groups[""][dead_offset].state in ENDED:
                continue
            origin = candidate.messages[dead_offset].origin
            if origin is not None and origin[:2] == (queue.name, offset):
                return candidate
        raise Refused("NotFound")

    def forget(self, name: str, home: int) -> None:
        queue = self.queue(name)
        homes = sorted({at for at, *_ in queue.outcomes if at <= home})[: self.forget_max]
        queue.outcomes = [outcome for outcome in queue.outcomes if outcome[0] not in homes]

    # -- sessions -----------------------------------------------------------------------------------------------------

    def open_session(self) -> int:
        self.sessions.add(self.index)
        return self.index

    def end_session(self, session: int, expired: bool) -> None:
        if session not in self.sessions:
            raise Refused("SessionExpired")
        self.sessions.discard(session)
        for lease in [lease for _, lease in sorted(self.leases.items()) if lease.session == session]:
            if expired:
                self._fail_lease(lease, "its consumer fell silent too often")
            else:
                self.release(session, lease.id, None)
