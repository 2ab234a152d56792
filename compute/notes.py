"""What travels with jobs to the processes that run them: which they are, which try it is, and their headers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Headers = Mapping[str, Any] | None


class Note(NamedTuple):
    """Of one job."""

    offset: int
    attempt: int
    headers: Headers


class Notes(NamedTuple):
    """Of some jobs, in their order. `spans` are [(offset of the first, how many, attempt), ...]: most jobs of a batch
    are neighbours, so that this costs next to nothing. `headers`: None if no job has any."""

    spans: Sequence[tuple[int, int, int]]
    headers: Sequence[Headers] | None = None

    def cut(self, first: int, end: int) -> Notes:
        """Those of the jobs at places `first` to `end`."""
        spans = []
        place = 0
        for offset, count, attempt in self.spans:
            low, high = max(first, place), min(end, place + count)
            if low < high:
                spans.append((offset + low - place, high - low, attempt))
            place += count
        return Notes(spans, None if self.headers is None else self.headers[first:end])

    def each(self) -> Iterator[Note]:
        """One after the other."""
        place = 0
        for first, count, attempt in self.spans:
            for offset in range(first, first + count):
                yield Note(offset, attempt, None if self.headers is None else self.headers[place])
                place += 1
