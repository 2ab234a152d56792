"""The model once more, as plainly as can be: a dict per message, lists, no ranges, no heaps, no disk.

It shares no code with penstock.broker. Where both agree on every answer and every count, one of them would have to be
wrong in the same way as the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

READY, DELAYED, LEASED, HELD, BLOCKED = "ready", "delayed", "leased", "held", "blocked"
ENDED = ("done", "dead", "cancelled", "expired", "purged", "retried", "trimmed")
BACKOFF_MS = 1_000
LOOK_AGAIN_MS = 60_000
KEPT = ("priority", "max_failures", "retry_delay_ms", "retry_backoff")  # by a dead letter, and a dead job tried anew


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
    asked: dict[str, Any] = field(default_factory=dict)
    key: str | None = None
    died: tuple[str, int] | None = None  # of a dead letter of a topic: group, attempt


@dataclass
class Place:
    """Where one message stands for one group."""

    state: str = READY
    attempt: int = 0
    failures: int = 0
    until_ms: int = 0
    lease: int = 0
    shelved: bool = False  # it asked for something: it is not in the line of the plain ones
    owner: bool = False  # it is the one of its key that is at large
    left: set[tuple[str, int]] = field(default_factory=set)  # parents that have not ended


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
    ids: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # (offset, until_ms, look_ms)
    gone: set[int] = field(default_factory=set)  # batches of which every message ended by itself
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
        kept = {message.batch for message in self.messages[self.keeps_from :]} - self.gone
        return sum(message.each for message in self.messages if message.batch in kept)

    def drop(self, offset: int) -> None:
        """A message of a queue has ended by itself: once all of its batch have, the batch goes."""
        batch = self.messages[offset].batch
        if all(self.groups[""][it.offset].state in ENDED for it in self.messages if it.batch == batch):
            self.gone.add(batch)

    def counts(self, group: str, now_ms: int) -> dict[str, int]:
        places = self.groups[group].values()
        ready = sum(1 for p in places if p.state in (READY, BLOCKED) or (p.state == DELAYED and p.until_ms <= now_ms))
        return {
            "waiting": sum(1 for p in places if p.state == HELD),
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
        defaults = {
            "max_messages": None, "max_bytes": None, "max_failures": 5, "retry_delay_ms": 0, "overflow": "reject",
            "ordered_by": None, "retry_backoff": "constant", "retry_delay_max_ms": 3_600_000, "unique_ms": 86_400_000,
        }  # fmt: skip
        queue = self.queues[name] = NaiveQueue(name, kind, defaults | options)
        if kind == "queue":
            queue.add_group("", 0)
        return queue

    def _check_options(self, kind: str, options: dict[str, Any]) -> None:
        wrong = {"overflow", "unique_ms", "result_ttl_ms"} & set(options)
        if kind == "topic" and (options.get("max_messages") or options.get("max_bytes") or wrong):
            raise Refused("InvalidArgument")

    def configure(self, name: str, options: dict[str, Any]) -> None:
        queue = self.queue(name)
        self._check_options(queue.kind, options)
        if options.get("ordered_by", queue.options["ordered_by"]) != queue.options["ordered_by"]:
            raise Refused("InvalidArgument")
        queue.options |= options

    def delete(self, name: str) -> None:
        queue = self.queue(name)
        self.leases = {id: lease for id, lease in self.leases.items() if lease.queue is not queue}
        del self.queues[name]
        for offset in range(queue.next):
            self._parent_ended(name, offset, False)
        for (
            other
        ) in self.queues.values():  # what waited for a queue that is gone waits no more, whatever comes in its place
            for places in other.groups.values():
                for place in places.values():
                    place.left = {parent for parent in place.left if parent[0] != name}

    def purge(self, name: str) -> int:
        queue = self.queue(name)
        if queue.kind != "queue":
            raise Refused("InvalidArgument")
        waiting = [(o, p) for o, p in queue.groups[""].items() if p.state not in (LEASED, *ENDED)]
        for _, place in waiting:
            place.state, place.owner = "purged", False
        for offset, _ in waiting:
            self._parent_ended(name, offset, False)
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

    def died(self) -> list[tuple[str, str]]:
        """The topics and groups that have dead letters."""
        letters = [each for queue in self.queues.values() for each in queue.messages if each.died and each.origin]
        return [(each.origin[0], each.died[0]) for each in letters if each.origin and each.died]

    def retry_group(self, name: str, group: str, limit: int) -> int:
        topic = self._topic(name)
        if group not in topic.groups:
            raise Refused("NotFound")
        count = 0
        for other, letters in self.queues.items():
            if letters.kind != "queue" or not other.startswith(name + ".dead"):
                continue
            for letter in letters.messages:
                place = letters.groups[""][letter.offset]
                origin, died = letter.origin, letter.died
                if count == limit or place.state in (LEASED, *ENDED) or origin is None or died is None:
                    continue
                offset = origin[1]
                if (origin[0], died[0]) != (name, group) or not topic.trimmed <= offset < topic.next:
                    continue
                if topic.messages[offset].token != letter.token:
                    continue
                if topic.groups[group][offset].state in ENDED:
                    topic.groups[group][offset] = Place(READY, died[1])
                place.state = "retried"
                self._ended(letters, "", letter.offset, "cancelled")
                count += 1
        return count

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

    def append(
        self, name: str, count: int, each: int, asked: dict[str, Any] | None = None, keys: tuple[Any, ...] | None = None
    ) -> int:
        queue, asked = self.queue(name), asked or {}
        self._check_asked(queue, asked)
        limit, size_limit = queue.options["max_messages"], queue.options["max_bytes"]
        too_many = (
            queue.options["overflow"] == "drop_oldest" and limit is not None and count > limit
            and (size_limit is None or count * each <= size_limit)
        )  # fmt: skip
        self._room(queue, limit if too_many else count, count * each)
        first = queue.next
        self._batches += 1
        for place in range(count):
            key = keys[place] if keys and queue.options["ordered_by"] else None
            queue.add(Message(first + place, (self.index, place), each, self.now_ms, self._batches, None, asked, key))
        if queue.kind == "queue":
            self._place_asked(queue, first, count, asked)
        if too_many:
            self._drop_oldest(queue, 0, None)
        return first

    def _room(self, queue: NaiveQueue, count: int, size: int) -> None:
        if queue.options["overflow"] == "drop_oldest":
            self._drop_oldest(queue, count, size)
        else:
            self._check_room(queue, count, size)

    def _check_asked(self, queue: NaiveQueue, asked: dict[str, Any]) -> None:
        if queue.kind != "queue" and set(asked) - {"max_failures", "retry_delay_ms", "retry_backoff"}:
            raise Refused("InvalidArgument")
        if queue.options["ordered_by"] and asked.get("priority"):
            raise Refused("InvalidArgument")
        for id in asked.get("ids", ()):
            if id in queue.ids:
                offset, until_ms, _ = queue.ids[id]
                if self.now_ms < until_ms or queue.groups[""][offset].state not in ENDED:
                    raise Refused("AlreadyExists")
        for name, first, count in asked.get("after", ()):
            parent = self.queue(name)
            if parent.kind != "queue":
                raise Refused("InvalidArgument")
            if first + count > parent.next:
                raise Refused("NotFound")

    def _place_asked(self, queue: NaiveQueue, first: int, count: int, asked: dict[str, Any]) -> None:
        delays = asked.get("delay_ms", 0)
        delayed = delays > 0 if isinstance(delays, int) else any(delays)
        failed = False
        for at in range(count):
            place = queue.groups[""][first + at]
            delay_ms = delays if isinstance(delays, int) else delays[at]
            place.until_ms = self.now_ms + delay_ms if delay_ms else 0
            if delay_ms:
                place.state = DELAYED
            place.shelved = bool(asked.get("priority") or delayed or asked.get("ttl_ms") or asked.get("after"))
            if "ids" in asked:
                until_ms = self.now_ms + queue.options["unique_ms"]
                queue.ids[asked["ids"][at]] = (first + at, until_ms, until_ms)
            for name, start, some in asked.get("after", ()):
                parent = self.queues[name]
                for offset in range(start, start + some):
                    if parent.groups[""][offset].state not in ENDED:
                        place.left.add((name, offset))
                    else:
                        status = [s for _, o, s, *_ in parent.outcomes if o == offset]
                        failed = failed or bool(status and status[0] != "done")
            if place.left:
                place.state = HELD
        if failed and asked.get("on_failure", "cancel") == "cancel":
            for at in range(count):
                self._cancel_child(queue, first + at)

    def _drop_oldest(self, queue: NaiveQueue, count: int, size: int | None) -> None:
        limit, size_limit = queue.options["max_messages"], queue.options["max_bytes"]
        if size is None:
            size, size_limit = 0, None
        if (limit is not None and count > limit) or (size_limit is not None and size > size_limit):
            self._check_room(queue, count, size)
        while True:
            waiting = [o for o, p in queue.groups[""].items() if p.state not in (LEASED, *ENDED)]
            over = limit is not None and len(waiting) + count > limit
            if not waiting or not (over or (size_limit is not None and queue.bytes + size > size_limit)):
                return
            batch = queue.messages[waiting[0]].batch
            # One message at a time for the sake of the number, all neighbours of a batch alike for the sake of bytes.
            self._end(queue, waiting[0], "expired")
            if not over:
                place = queue.groups[""][waiting[0]]
                for offset in waiting[1:]:
                    other = queue.groups[""][offset]
                    alike = (other.attempt, other.failures, other.state, other.until_ms)
                    if (
                        queue.messages[offset].batch != batch or offset != waiting[0] + 1
                        or alike != (place.attempt, place.failures, place.state, place.until_ms)
                    ):  # fmt: skip
                        break
                    self._end(queue, offset, "expired")

    def _end(self, queue: NaiveQueue, offset: int, status: str) -> None:
        """A job ends without the hand of a consumer."""
        place = queue.groups[""][offset]
        place.state, place.lease = status, 0
        queue.outcomes.append((self.index, offset, status, place.attempt, place.failures, -1))
        self._ended(queue, "", offset, status)

    def _ended(self, queue: NaiveQueue, group: str, offset: int, status: str) -> None:
        """A message is terminal: its key is free, its children are told."""
        place, key = queue.groups[group][offset], queue.messages[offset].key
        if place.owner:
            place.owner = False
            same = [o for o, p in queue.groups[group].items() if p.state == BLOCKED and queue.messages[o].key == key]
            if same:
                queue.groups[group][same[0]].state, queue.groups[group][same[0]].owner = READY, True
        if queue.kind == "queue":
            if offset >= queue.floor(""):
                queue.drop(offset)
            self._parent_ended(queue.name, offset, status == "done")

    def _parent_ended(self, name: str, offset: int, well: bool) -> None:
        for queue in list(self.queues.values()):
            for child, place in list(queue.groups.get("", {}).items()):
                if place.state != HELD or (name, offset) not in place.left:
                    continue
                place.left.discard((name, offset))
                if not well and queue.messages[child].asked.get("on_failure", "cancel") == "cancel":
                    self._cancel_child(queue, child)
                elif not place.left:
                    place.state = DELAYED if place.until_ms > self.now_ms else READY

    def _cancel_child(self, queue: NaiveQueue, offset: int) -> None:
        if queue.groups[""][offset].state not in ENDED:
            self._end(queue, offset, "cancelled")

    def outdate(self, name: str) -> None:
        queue = self.queue(name)
        late = [
            o for o, p in queue.groups[""].items()
            if p.state not in (LEASED, *ENDED) and self._expires(queue, o) <= self.now_ms
        ]  # fmt: skip
        for offset in sorted(late, key=lambda offset: (self._expires(queue, offset), offset)):
            if queue.groups[""][offset].state not in ENDED:
                self._end(queue, offset, "expired")

    def _expires(self, queue: NaiveQueue, offset: int) -> float:
        message = queue.messages[offset]
        return message.stamp_ms + message.asked["ttl_ms"] if "ttl_ms" in message.asked else float("inf")

    def forget_ids(self, name: str, ids: tuple[str, ...]) -> None:
        queue = self.queue(name)
        for id in ids:
            offset, until_ms, look_ms = queue.ids.get(id, (0, 0, self.now_ms + 1))
            if look_ms <= self.now_ms:
                if queue.groups[""][offset].state in ENDED:
                    del queue.ids[id]
                else:
                    queue.ids[id] = (offset, until_ms, self.now_ms + LOOK_AGAIN_MS)

    def _check_room(self, queue: NaiveQueue, count: int, size: int) -> None:
        limit, size_limit = queue.options["max_messages"], queue.options["max_bytes"]
        if limit is not None:
            held = sum(1 for place in queue.groups[""].values() if place.state not in ENDED)
            if held + count > limit:
                raise Refused("QueueFull")
        if size_limit is not None and queue.bytes + size > size_limit:
            raise Refused("QueueFull")

    def order(self, queue: NaiveQueue, group: str, now_ms: int) -> list[int]:
        """What is ready, in the order in which it is given."""
        places = queue.groups[group]
        ready = [
            o for o, p in places.items()
            if (p.state == READY or (p.state == DELAYED and p.until_ms <= now_ms)) and self._expires(queue, o) > now_ms
        ]  # fmt: skip

        plain = [o for o in ready if places[o].attempt == 0 and not places[o].shelved and not places[o].owner]
        first = min(plain, default=queue.next)

        def rank(offset: int) -> tuple[int, int, int, int]:
            place = places[offset]
            if offset in plain:
                return 0, 2, 0, offset
            priority = queue.messages[offset].asked.get("priority", 0)
            if place.state == DELAYED:
                return -priority, 1, place.until_ms, offset
            return -priority, 0 if priority or offset < first else 2, 0, offset

        return sorted(ready, key=rank)

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
        given: list[tuple[int, int, int, tuple[int, int]]] = []
        for offset in self.order(queue, group, self.now_ms):
            message, place = queue.messages[offset], places[offset]
            if len(given) == count or (given and size_max < message.each):
                break
            if message.key is not None and not place.owner:
                if any(p.owner and queue.messages[o].key == message.key for o, p in places.items()):
                    place.state = BLOCKED
                    continue
                place.owner = True
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
        for offset in offsets:
            self._ended(queue, group, offset, "done")
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
            self._put_back(lease.queue, lease.group, offset, 0)

    def _put_back(self, queue: NaiveQueue, group: str, offset: int, delay_ms: int) -> None:
        place = queue.groups[group][offset]
        if self._expires(queue, offset) <= self.now_ms:
            self._end(queue, offset, "expired")
        elif delay_ms:
            place.state, place.until_ms = DELAYED, self.now_ms + delay_ms
        else:
            place.state = READY

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
        dead: list[int] = []
        for offset in offsets:
            place = queue.groups[group][offset]
            options = queue.options | queue.messages[offset].asked
            place.failures += 1
            if options["max_failures"] is not None and place.failures >= options["max_failures"]:
                dead.append(offset)
                continue
            pause_ms = delay_ms
            if pause_ms is None:
                pause_ms = options["retry_delay_ms"]
                if options["retry_backoff"] == "exponential":
                    pause_ms = (pause_ms or BACKOFF_MS) * 2 ** (place.failures - 1)
                if place.failures > 1:
                    pause_ms = min(pause_ms, options["retry_delay_max_ms"])
            self._put_back(queue, group, offset, pause_ms)
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
            letters.messages[-1].died = (group, place.attempt) if queue.kind == "topic" else None
            place.state = "dead"
        for offset in offsets:
            self._ended(queue, group, offset, "dead")
        queue.dead[group] += len(offsets)

    def _share(self, queue: NaiveQueue, message: Message, origin: tuple[str, int, int, str] | None) -> None:
        self._batches += 1
        queue.shared = True
        asked = {name: value for name, value in message.asked.items() if name in KEPT}
        key = message.key if queue.options["ordered_by"] else None
        queue.add(Message(queue.next, message.token, message.each, self.now_ms, self._batches, origin, asked, key))

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
        if place.state == HELD:
            return "waiting"
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
        self._end(queue, offset, "cancelled")
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
        if place.state == LEASED:
            raise Refused("InvalidArgument")
        if letters is not queue:
            self._room(queue, 1, message.each)
        # A letter of a dead-letter queue can be retried into that very queue: it goes before it comes.
        new_offset = queue.next
        self._share(queue, message, None)
        if message.asked.get("priority") and not queue.options["ordered_by"]:
            queue.groups[""][new_offset].shelved = True
        place.state = "retried"
        self._ended(letters, "", dead_offset, "cancelled")
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
