"""The log as consensus sees it: where it begins and ends, the terms of its entries, what is durable and committed."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

from ..log import Entry
from ..messages import SetMembers

ENTRY_BYTES = 400  # of memory, beside the payload
LOGGED_BYTES = 64  # of the log, beside the payload: about
Source = Callable[[int, int, int], Sequence[Entry]]  # (first, last, bytes_max) -> durable entries of that stretch


class Violation(Exception):
    """A rule of consensus was about to be broken: the node stops, since going on could lose what was acknowledged."""


class Tail:
    """Entries above `floor`. `stable`: durable up to here. `commit`: known to be committed. `applied`: in the model.

    Terms are kept as runs, since they change seldom: no look at the disk is needed to compare logs.
    """

    def __init__(self, floor: int, floor_term: int, source: Source, cache_bytes: int = 64 << 20) -> None:
        self.floor = floor
        self.last = floor
        self.stable = floor
        self.commit = floor
        self.applied = floor
        self.fresh: list[Entry] = []  # not yet handed to the disk
        self.changes: list[Entry] = []  # of the members, among what was recalled
        self.truncated_from: int | None = None  # entries from here on have to go from the disk first
        self.source = source
        self._starts = [floor]
        self._terms = [floor_term]
        self._ends = array("Q")  # bytes of the log up to the end of each entry above the floor
        self._floor_end = 0
        self._recent: dict[int, Entry] = {}
        self._recent_first = floor + 1
        self._recent_bytes = 0
        self.cache_bytes = cache_bytes

    @property
    def last_term(self) -> int:
        return self._terms[-1]

    def term_at(self, index: int) -> int | None:
        """The term of an entry; None below the floor or behind the end."""
        if not self.floor <= index <= self.last:
            return None
        return self._terms[bisect_right(self._starts, index) - 1]

    def recall(self, entries: Iterable[Entry]) -> None:
        """At start: what the disk holds above the floor."""
        for entry in entries:
            self._add(entry)
            self._forget(entry.index)
            if type(entry.command) is SetMembers:
                self.changes.append(entry)
        self.stable = self.last

    def append(self, entries: Iterable[Entry]) -> None:
        """New entries at the end."""
        for entry in entries:
            self._add(entry)
            self.fresh.append(entry)

    def _add(self, entry: Entry) -> None:
        assert entry.index == self.last + 1, (entry.index, self.last)
        assert entry.term >= self.last_term, (entry.term, self.last_term)
        if entry.term != self.last_term:
            self._starts.append(entry.index)
            self._terms.append(entry.term)
        self.last = entry.index
        self._ends.append((self._ends[-1] if self._ends else self._floor_end) + len(entry.payload) + LOGGED_BYTES)
        self._recent[entry.index] = entry
        self._recent_bytes += len(entry.payload) + ENTRY_BYTES

    def truncate(self, index: int) -> None:
        """Forget entries from `index` on: another primary has others there."""
        if index <= self.commit:
            raise Violation(f"entry {index} is committed (up to {self.commit}) and was about to be truncated")
        for gone in range(index, self.last + 1):
            entry = self._recent.pop(gone, None)
            if entry is not None:
                self._recent_bytes -= len(entry.payload) + ENTRY_BYTES
        del self._ends[index - self.floor - 1 :]
        self._recent_first = min(self._recent_first, index)
        self.fresh = [entry for entry in self.fresh if entry.index < index]
        if index <= self.stable:
            self.truncated_from = index if self.truncated_from is None else min(self.truncated_from, index)
            self.stable = index - 1
        self.last = index - 1
        while len(self._starts) > 1 and self._starts[-1] > self.last:
            self._starts.pop()
            self._terms.pop()

    def take_fresh(self) -> tuple[int | None, list[Entry]]:
        """(truncate the disk from here on, or None; then write these)."""
        taken = self.truncated_from, self.fresh
        self.truncated_from, self.fresh = None, []
        return taken

    def entries(self, first: int, bytes_max: int) -> list[Entry]:
        """Entries from `first` on, at least one if there is any, about `bytes_max` bytes of them."""
        found: list[Entry] = []
        index = first
        if index <= self.last and index not in self._recent:
            upto = min(self.last, self._recent_first - 1)
            found = list(self.source(index, upto, bytes_max))
            bytes_max -= sum(len(entry.payload) + ENTRY_BYTES for entry in found)
            index += len(found)
        while index <= self.last and (bytes_max > 0 or not found) and (entry := self._recent.get(index)) is not None:
            found.append(entry)
            bytes_max -= len(entry.payload) + ENTRY_BYTES
            index += 1
        return found

    def bytes_after(self, index: int) -> int:
        """About how many bytes of the log are behind `index`; of what is gone, none."""
        if index >= self.last or not self._ends:
            return 0
        return self._ends[-1] - (self._floor_end if index <= self.floor else self._ends[index - self.floor - 1])

    def recent(self, index: int) -> Entry | None:
        """The entry, if it is still in memory."""
        return self._recent.get(index)

    def trim(self) -> None:
        """Keep memory bounded. Entries that are not durable or not applied stay: they are nowhere else."""
        self._forget(min(self.stable, self.applied))

    def _forget(self, upto: int) -> None:
        while self._recent_bytes > self.cache_bytes and self._recent_first <= upto:
            entry = self._recent.pop(self._recent_first, None)
            self._recent_first += 1
            if entry is not None:
                self._recent_bytes -= len(entry.payload) + ENTRY_BYTES

    def raise_floor(self, index: int) -> None:
        """Entries up to `index` are no longer there for others."""
        if index <= self.floor:
            return
        assert index <= self.applied, (index, self.applied)
        term = self.term_at(index)
        assert term is not None
        at = bisect_right(self._starts, index) - 1
        self._starts, self._terms = [index, *self._starts[at + 1 :]], [term, *self._terms[at + 1 :]]
        for gone in range(self._recent_first, index + 1):
            entry = self._recent.pop(gone, None)
            if entry is not None:
                self._recent_bytes -= len(entry.payload) + ENTRY_BYTES
        self._recent_first = max(self._recent_first, index + 1)
        self._floor_end = self._ends[index - self.floor - 1]
        del self._ends[: index - self.floor]
        self.floor = index

    def restart(self, index: int, term: int) -> None:
        """A snapshot took the place of everything up to `index`."""
        self.__init__(index, term, self.source, self.cache_bytes)  # type: ignore[misc]
