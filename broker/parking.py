"""Requests that wait: for messages of a group, or for jobs of a queue to end. First come, first served."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Any

Key = tuple[str, ...]
BLANKS_MAX = 1_000  # answered requests that still stand in a line or in `_deadlines`, beyond as many as still wait


class Parked:
    """One waiting request. `gone`: answered, or its session ended; it is skipped wherever it still stands."""

    __slots__ = ("args", "deadline_ms", "gone", "key", "op", "route", "sequence", "session")

    def __init__(
        self, key: Key, op: str, route: bytes, session: int, sequence: int, args: dict[str, Any], deadline_ms: int
    ) -> None:
        self.key = key
        self.op = op
        self.route = route
        self.session = session
        self.sequence = sequence
        self.args = args
        self.deadline_ms = deadline_ms
        self.gone = False


class Parking:
    """All waiting requests of a node, by what they wait for. They live in this process only: clients ask again."""

    def __init__(self) -> None:
        self._lines: dict[Key, deque[Parked]] = {}
        self._names: dict[str, dict[Key, None]] = {}  # the lines by the first word of their keys
        self._by_request: dict[tuple[int, int], Parked] = {}
        self._by_session: dict[int, set[int]] = {}
        self._deadlines: list[tuple[int, int, int]] = []  # (deadline_ms, session, sequence)
        self._blanks = 0  # how many were taken out since the lines were swept, at most

    def __len__(self) -> int:
        return len(self._by_request)

    def count(self, session: int) -> int:
        return len(self._by_session.get(session, ()))

    def add(self, parked: Parked) -> None:
        """Put a request at the end of its line. One that is asked again takes the place of its former self."""
        self.remove(parked.session, parked.sequence)
        if self._blanks > BLANKS_MAX + len(self._by_request):
            self._sweep()
        line = self._lines.get(parked.key)
        if line is None:
            line = self._lines[parked.key] = deque()
            self._names.setdefault(parked.key[0], {})[parked.key] = None
        line.append(parked)
        self._by_request[parked.session, parked.sequence] = parked
        self._by_session.setdefault(parked.session, set()).add(parked.sequence)
        heappush(self._deadlines, (parked.deadline_ms, parked.session, parked.sequence))

    def _sweep(self) -> None:
        """Drop what was answered: else it stays until its deadline, or behind one that waits for very long."""
        self._blanks = 0
        lines = {key: deque(parked for parked in line if not parked.gone) for key, line in self._lines.items()}
        self._lines = {key: line for key, line in lines.items() if line}
        self._names = {}
        for key in self._lines:
            self._names.setdefault(key[0], {})[key] = None
        self._deadlines = [(it.deadline_ms, it.session, it.sequence) for it in self._by_request.values()]
        heapify(self._deadlines)

    def remove(self, session: int, sequence: int) -> Parked | None:
        """Take a request out. It stays in its line as a blank, until the line comes to it."""
        parked = self._by_request.pop((session, sequence), None)
        if parked is None:
            return None
        parked.gone = True
        self._blanks += 1
        sequences = self._by_session[session]
        sequences.discard(sequence)
        if not sequences:
            del self._by_session[session]
        return parked

    def first(self, key: Key) -> Parked | None:
        """Who is first in line; it stays there."""
        line = self._lines.get(key)
        while line:
            if not line[0].gone:
                return line[0]
            line.popleft()
        if self._lines.pop(key, None) is not None:
            keys = self._names[key[0]]
            del keys[key]
            if not keys:
                del self._names[key[0]]
        return None

    def keys_of(self, name: str) -> list[Key]:
        """The keys, of those that begin with `name`, where somebody may wait."""
        return list(self._names.get(name, ()))

    def all(self, key: Key) -> list[Parked]:
        """Everyone in line; they stay there."""
        return [parked for parked in self._lines.get(key, ()) if not parked.gone]

    def end_session(self, session: int) -> None:
        for sequence in list(self._by_session.get(session, ())):
            self.remove(session, sequence)

    def remove_routes(self, routes: set[bytes]) -> None:
        """Take out everyone who came by one of these connections: it is gone."""
        for parked in [parked for parked in self._by_request.values() if parked.route in routes]:
            self.remove(parked.session, parked.sequence)

    def next_deadline_ms(self) -> int | None:
        while self._deadlines:
            deadline_ms, session, sequence = self._deadlines[0]
            parked = self._by_request.get((session, sequence))
            if parked is not None and parked.deadline_ms == deadline_ms:
                return deadline_ms
            heappop(self._deadlines)
        return None

    def due(self, now_ms: int) -> Iterator[Parked]:
        """Take out those whose wait is over."""
        while (deadline_ms := self.next_deadline_ms()) is not None and deadline_ms <= now_ms:
            _, session, sequence = heappop(self._deadlines)
            parked = self.remove(session, sequence)
            assert parked is not None
            line = self._lines.get(parked.key)
            if line and line[0] is parked:
                self.first(parked.key)  # drop the blanks at its head, so that lines do not grow with waits that ended
            yield parked

    def drain(self) -> list[Parked]:
        """Take out everyone: the node stops."""
        everyone = list(self._by_request.values())
        for parked in everyone:
            self.remove(parked.session, parked.sequence)
        return everyone
