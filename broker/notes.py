"""What is noted of jobs beyond their place: progress, log lines, how each try failed. Nothing for a job without any.

Jobs that failed together share one note, so a lease of a thousand messages that ends is one row. The newest notes are
not on disk yet.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

FAILURES_MAX = 20  # of one job; older ones are dropped
LINES_MAX = 1_000  # of the log of one job
LINES_BYTES = 64 << 10
ERROR_MAX = 64 << 10  # a longer error of a try is not kept, its reason is
REASON_MAX = 500  # characters
NACKED, REJECTED, EXPIRED = "nacked", "rejected", "expired"  # how a try failed
DROP_MAX = 256  # rows dropped within one command; the rest is swept in commands of their own


class Failure(NamedTuple):
    """One try that failed: leased by `owner` at `started_ms`. `how`: "nacked", "rejected" or "expired"."""

    at_ms: int
    started_ms: int
    attempt: int
    how: str
    owner: str
    reason: str


class Note(NamedTuple):
    """Of jobs [first, end). `progress`: (fraction, text, at_ms). `dropped`: how many lines were before those kept.
    `again`: (queue, by how much its offset is higher) of the job as which a dead one is tried again."""

    first: int
    end: int
    failures: tuple[Failure, ...] = ()
    error: bytes = b""  # of the last failure: msgpack, as it was sent
    progress: tuple[float, str, int] | None = None
    lines: tuple[str, ...] = ()
    dropped: int = 0
    again: tuple[str, int] | None = None


Change = Callable[[Note], Note]


def note_of(fields: Any) -> Note:
    """A note out of its row."""
    first, end, failures, *rest = fields
    return Note(first, end, tuple(Failure(*failure) for failure in failures), *rest)


class NoteReader(Protocol):
    """What may be read of the disk: rows as of the last checkpoint."""

    def note(self, queue_id: int, offset: int) -> Note | None:
        """The row with the highest first offset at or below `offset`."""

    def next_note(self, queue_id: int, offset: int) -> int | None:
        """The lowest first offset of a row at or above `offset`."""


class Notes:
    """The notes of one queue: no two of them overlap. `rows`: how many there are, in memory and on disk."""

    __slots__ = ("_firsts", "_moved", "_recent", "doomed", "queue_id", "reader", "rows")

    def __init__(self, queue_id: int, reader: NoteReader) -> None:
        self.queue_id = queue_id
        self.reader = reader
        self.rows = 0
        self.doomed: list[tuple[int, int]] = []  # what of this range is noted is to be dropped
        self._recent: dict[int, Note] = {}
        self._firsts: list[int] = []  # the keys of `_recent`, ascending
        self._moved: set[int] = set()  # rows on disk that hold no more: they are in memory, or gone

    # -- reading ------------------------------------------------------------------------------------------------------

    def at(self, offset: int) -> Note | None:
        """What is noted of the job at `offset`."""
        if not self.rows:
            return None
        at = bisect_right(self._firsts, offset) - 1
        if at >= 0:
            found = self._recent[self._firsts[at]]
            if offset < found.end:
                return found
        row = self.reader.note(self.queue_id, offset)
        return row if row is not None and offset < row.end and row.first not in self._moved else None

    def _next(self, offset: int, end: int) -> Note | None:
        """The first note that reaches behind `offset` and begins before `end`."""
        found = self.at(offset)
        if found is not None or not self.rows:
            return found
        at = bisect_left(self._firsts, offset)
        first = min(self._firsts[at], end) if at < len(self._firsts) else end
        on_disk = self.reader.next_note(self.queue_id, offset)
        while on_disk is not None and on_disk < first and on_disk in self._moved:
            on_disk = self.reader.next_note(self.queue_id, on_disk + 1)
        first = first if on_disk is None else min(first, on_disk)
        return self.at(first) if first < end else None

    # -- writing ------------------------------------------------------------------------------------------------------

    def change(self, first: int, end: int, change: Change) -> None:
        """Note something of each job of [first, end)."""
        while first < end:
            found = self._next(first, end)
            if found is None:
                self._put(change(Note(first, end)))
                return
            if first < found.first:
                self._put(change(Note(first, found.first)))
                first = found.first
            stop = min(end, found.end)
            self._cut(found, first, stop)
            self._put(change(found._replace(first=first, end=stop)))
            first = stop

    def drop(self, first: int, end: int) -> None:
        """Forget what is noted of these jobs; `sweep` does it."""
        if self.rows:
            self.doomed.append((first, end))

    def sweep(self) -> bool:
        """Drop up to DROP_MAX rows of what is to go. True: there are more."""
        rows = 0
        while self.doomed:
            first, end = self.doomed.pop()
            while first < end and (found := self._next(first, end)) is not None:
                if rows == DROP_MAX:
                    self.doomed.append((first, end))
                    return True
                stop = min(end, found.end)
                self._cut(found, max(first, found.first), stop)
                first = stop
                rows += 1
        return False

    def _cut(self, note: Note, first: int, end: int) -> None:
        """Take [first, end) out of a note; the rest stays."""
        if note.first in self._recent:
            del self._recent[note.first]
            del self._firsts[bisect_left(self._firsts, note.first)]
        else:
            self._moved.add(note.first)
        self.rows -= 1
        if note.first < first:
            self._put(note._replace(end=first))
        if end < note.end:
            self._put(note._replace(first=end))

    def _put(self, note: Note) -> None:
        self._recent[note.first] = note
        insort(self._firsts, note.first)
        self.rows += 1

    # -- disk ---------------------------------------------------------------------------------------------------------

    def take_recent(self) -> tuple[list[Note], list[int]]:
        """Hand the notes in memory over to the disk: rows to write, after these rows were deleted (by first offset)."""
        notes = [self._recent[first] for first in self._firsts]
        moved = sorted(self._moved)
        self._recent, self._firsts, self._moved = {}, [], set()
        return notes, moved

    def pack(self) -> list[Any]:
        """What a checkpoint keeps of it beside the rows."""
        return [self.rows, self.doomed]

    def restore(self, packed: Any) -> None:
        """What `pack` packed."""
        self.rows, self.doomed = packed[0], [(first, end) for first, end in packed[1]]


# -- what can be noted ------------------------------------------------------------------------------------------------


def failed(failure: Failure, error: bytes) -> Change:
    """One more try failed."""
    kept = error if len(error) <= ERROR_MAX else b""

    def change(note: Note) -> Note:
        return note._replace(failures=(*note.failures, failure)[-FAILURES_MAX:], error=kept)

    return change


def progressed(progress: tuple[float, str, int]) -> Change:
    """How far the job is."""
    return lambda note: note._replace(progress=progress)


def tried_again(queue: str, by: int) -> Change:
    """A dead job is tried again, as another one."""
    return lambda note: note._replace(again=(queue, by))


def logged(lines: list[str]) -> Change:
    """More lines of its log; the oldest make room."""

    def change(note: Note) -> Note:
        kept = [*note.lines, *lines]
        size = sum(map(_size, kept))
        first = 0
        while len(kept) - first > LINES_MAX or size > LINES_BYTES:
            size -= _size(kept[first])
            first += 1
        return note._replace(lines=tuple(kept[first:]), dropped=note.dropped + first)

    return change


def _size(line: str) -> int:
    return len(line.encode(errors="surrogatepass"))
