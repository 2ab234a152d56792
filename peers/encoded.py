"""Entries as bytes, made once: the disk and all peers get the same ones."""

from __future__ import annotations

from collections import deque

from .log import Entry, encode

BYTES_MAX = 32 << 20


class Encoded:
    """Called with an entry, it gives what `log.encode` gives. The latest `bytes_max` bytes are remembered.

    Index and term say which entry it is: consensus never has two different ones for them.
    """

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._raw: dict[tuple[int, int], bytes] = {}
        self._order: deque[tuple[int, int]] = deque()

    def __call__(self, entry: Entry) -> bytes:
        raw = self._raw.get((entry.index, entry.term))
        if raw is None:
            raw = encode(entry)
            self.keep(entry.index, entry.term, raw)
        return raw

    def keep(self, index: int, term: int, raw: bytes) -> None:
        """Remember the bytes of an entry that was received, and whose checksum was right."""
        if (index, term) in self._raw:
            return
        self._raw[index, term] = raw
        self._order.append((index, term))
        self._bytes += len(raw)
        while self._bytes > self._bytes_max:
            self._bytes -= len(self._raw.pop(self._order.popleft()))
