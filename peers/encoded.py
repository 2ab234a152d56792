"""Entries as bytes, made once: the disk and all peers get the same ones."""

from __future__ import annotations

from collections import OrderedDict

from .log import Entry, encode

BYTES_MAX = 8 << 20  # about one turn: they are needed until its commit, and fresh memory is slow


class Encoded:
    """Called with an entry, it gives what `log.encode` gives. The latest `bytes_max` bytes are remembered.

    They are remembered for the very object, not for its index: a mix-up would be written to the disk as sound.
    """

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        # By id(); the entry is held, so no other takes its id. A plain dict is slow to lose its first items.
        self._kept: OrderedDict[int, tuple[Entry, bytes]] = OrderedDict()

    def __call__(self, entry: Entry) -> bytes:
        kept = self._kept.get(id(entry))
        if kept is not None:
            return kept[1]
        raw = encode(entry)
        self.keep(entry, raw)
        return raw

    def keep(self, entry: Entry, raw: bytes) -> None:
        """Remember the bytes out of which this entry was decoded."""
        if id(entry) in self._kept:
            return
        self._kept[id(entry)] = entry, raw
        self._bytes += len(raw)
        while self._bytes > self._bytes_max:
            _, (_, oldest) = self._kept.popitem(last=False)
            self._bytes -= len(oldest)
