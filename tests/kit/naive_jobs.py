"""Jobs in the naive model: ranges, retry of what is dead, moves, outputs, calls, and what is told of a job in hand."""

from __future__ import annotations

from typing import Any

from kit.naive import BLOCKED, DELAYED, ENDED, LEASED, READY, Message, Naive, NaiveQueue, Refused

Ranges = tuple[tuple[int, int], ...]


class NaiveJobs(Naive):
    """`told`: progress and log lines, by queue and offset, as long as they are kept."""

    def __init__(self, forget_max: int) -> None:
        super().__init__(forget_max)
        self.told: dict[tuple[str, int], tuple[list[float], list[str]]] = {}

    def delete(self, name: str) -> None:
        super().delete(name)
        self.told = {place: told for place, told in self.told.items() if place[0] != name}

    # -- what is told -------------------------------------------------------------------------------------------------

    def tell(self, session: int, lease_id: int, offset: int, progress: float | None, lines: list[str]) -> None:
        lease = self.leases.get(lease_id)
        if lease is None or lease.session != session or offset not in self.held(lease_id):
            raise Refused("LeaseLost")
        if lease.queue.kind != "queue":
            raise Refused("InvalidArgument")
        told = self.told.setdefault((lease.queue.name, offset), ([], []))
        if progress is not None:
            told[0].append(progress)
        told[1].extend(lines)

    # -- ranges -------------------------------------------------------------------------------------------------------

    def cancel_range(self, name: str, first: int, count: int) -> int:
        queue = self._jobs(name)
        if not 0 <= first < first + count <= queue.next:
            raise Refused("NotFound")
        places = queue.groups[""]
        alive = [offset for offset in range(first, first + count) if places[offset].state not in ENDED]
        if count == 1 and not alive:
            raise Refused("InvalidArgument")
        for offset in alive:
            place = places[offset]
            place.state, place.lease = "cancelled", 0
            queue.outcomes.append((self.index, offset, "cancelled", place.attempt, place.failures, -1))
        for offset in alive:
            self._ended(queue, "", offset, "cancelled")
        self._end_empty_leases()
        return len(alive)

    def retry_range(self, name: str, first: int, count: int) -> int:
        """Not of dead-letter queues, which keep their own letters."""
        queue = self._jobs(name)
        if not 0 <= first < first + count <= queue.next:
            raise Refused("NotFound")
        found: list[tuple[NaiveQueue, int]] = []
        for offset in range(first, first + count):
            if self.status(queue, offset) == "dead":
                dead_offset = next(at for _, o, _, _, _, at in queue.outcomes if o == offset)
                try:
                    letters = self._letters(queue, offset, dead_offset)
                except Refused:
                    continue
                if letters.groups[""][dead_offset].state != LEASED:
                    found.append((letters, dead_offset))
        return self._again(queue, found)

    def retry_dead(self, name: str) -> int:
        """One of them."""
        queue = self._jobs(name)
        for other, letters in self.queues.items():
            if letters.kind == "queue" and (other.startswith(name + ".dead") or letters is queue):
                for offset, place in letters.groups[""].items():
                    origin = letters.messages[offset].origin
                    if place.state not in (LEASED, *ENDED) and origin is not None and origin[0] == name:
                        return self._again(queue, [(letters, offset)])
        return 0

    def _again(self, queue: NaiveQueue, found: list[tuple[NaiveQueue, int]]) -> int:
        others = [letters.messages[offset].each for letters, offset in found if letters is not queue]
        if others:
            self._room(queue, len(others), sum(others))
        for letters, offset in found:
            self._hand_over(letters, queue, offset, None)
        return len(found)

    def _hand_over(self, queue: NaiveQueue, target: NaiveQueue, offset: int, origin: Any) -> None:
        message = queue.messages[offset]
        self._share(target, message, origin)
        target.messages[-1].died = message.died if origin is not None else None
        if message.asked.get("priority") and not target.options["ordered_by"]:
            target.groups[""][target.next - 1].shelved = True
        place = queue.groups[""][offset]
        place.state = "retried"
        if not queue.name.endswith(".dead"):
            queue.outcomes.append((self.index, offset, "cancelled", place.attempt, place.failures, -1))
        self._ended(queue, "", offset, "cancelled")

    def move(self, name: str, other: str) -> int:
        """One message."""
        queue, target = self._jobs(name), self._jobs(other)
        if queue is target:
            raise Refused("InvalidArgument")
        for offset, place in queue.groups[""].items():
            ripe = place.state == DELAYED and place.until_ms <= self.now_ms
            if place.state in (READY, BLOCKED) or ripe:
                message = queue.messages[offset]
                self._room(target, 1, message.each)
                home = message.origin is not None and message.origin[0] == target.name
                self._hand_over(queue, target, offset, None if home else message.origin)
                return 1
        return 0

    # -- ends and beginnings ------------------------------------------------------------------------------------------

    def complete_with(self, session: int, lease_id: int, ranges: Ranges, output: tuple[str, int, int]) -> None:
        name, count, each = output
        known = self.leases.get(lease_id)
        if known is not None and known.session == session:
            if known.queue.kind != "queue":
                raise Refused("InvalidArgument")
            self._can_have_room(self.queue(name), count, count * each)
        lease, offsets = self._take(session, lease_id, ranges)
        for offset in offsets:
            place = lease.queue.groups[lease.group][offset]
            lease.queue.outcomes.append((self.index, offset, "done", place.attempt, place.failures, -1))
        target = self.queue(name)
        self._room(target, count, count * each)
        self._batches += 1
        for at in range(count):
            token = (self.index, len(offsets) + at)
            target.add(Message(target.next, token, each, self.now_ms, self._batches))
        self._finish(lease.queue, lease.group, offsets)

    def _can_have_room(self, queue: NaiveQueue, count: int, size: int) -> None:
        limit, size_limit = queue.options["max_messages"], queue.options["max_bytes"]
        fits = (limit is None or count <= limit) and (size_limit is None or size <= size_limit)
        if not (queue.options["overflow"] == "drop_oldest" and fits):
            self._check_room(queue, count, size)

    def call(self, name: str, each: int) -> int:
        self._jobs(name)
        return self.append(name, 1, each)

    def forget_job(self, name: str, offset: int) -> None:
        queue = self._jobs(name)
        kept = [outcome for outcome in queue.outcomes if outcome[1] != offset]
        if len(kept) == len(queue.outcomes):
            if not 0 <= offset < queue.next:
                raise Refused("NotFound")
            if queue.groups[""][offset].state not in ENDED:
                raise Refused("InvalidArgument")
        queue.outcomes = kept
