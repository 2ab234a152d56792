"""Order by key: of each key one message at a time is at large, the lowest first; those behind it are blocked."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

BLOCKED_MAX = 20_000  # messages looked past, at most: a consumer is not led further into the queue than that


class KeyOrder:
    """The keys that are in hand, in one group. `owner`: the message that was given, or failed and will be again."""

    __slots__ = ("_blocked", "_owned", "_owner")

    def __init__(self) -> None:
        self._owner: dict[str, int] = {}
        self._owned: dict[int, str] = {}
        self._blocked: dict[str, list[int]] = {}  # by key that has an owner: a heap of offsets

    def claim(self, key: str | None, offset: int) -> bool:
        """May this message be given? If so it owns its key from now on, else it is blocked behind the one that does."""
        if key is None:
            return True
        owner = self._owner.get(key)
        if owner is None:
            self._own(key, offset)
            return True
        if owner == offset:
            return True
        heappush(self._blocked.setdefault(key, []), offset)
        return False

    def _own(self, key: str, offset: int) -> None:
        self._owner[key] = offset
        self._owned[offset] = key

    def finish(self, first: int, end: int) -> list[str]:
        """These messages have ended. Returns the keys that are free again, and have blocked messages."""
        owned = self._owned
        if not owned:
            return []
        inside = end - first < len(owned)
        offsets: Iterable[int] = range(first, end) if inside else sorted(it for it in owned if first <= it < end)
        freed: list[str] = []
        for offset in offsets:
            key = owned.pop(offset, None)
            if key is not None:
                del self._owner[key]
                if key in self._blocked:
                    freed.append(key)
        return freed

    def next_blocked(self, key: str) -> int | None:
        """Take the lowest message out that waits for the key; it may have ended meanwhile."""
        blocked = self._blocked.get(key)
        if not blocked:
            self._blocked.pop(key, None)
            return None
        return heappop(blocked)

    def hand_over(self, key: str, offset: int) -> None:
        """The key has a new owner, which was blocked until now."""
        self._own(key, offset)

    def owner_of(self, key: str) -> int | None:
        """The message of this key that is at large."""
        return self._owner.get(key)

    def keep_only(self, offsets: Iterable[int]) -> None:
        """Everything else is gone."""
        kept = [(offset, self._owned[offset]) for offset in offsets if offset in self._owned]
        self._owner.clear()
        self._owned.clear()
        self._blocked.clear()
        for offset, key in kept:
            self._own(key, offset)

    def pack(self) -> list[tuple[str, int, list[int]]]:
        return [(key, owner, sorted(self._blocked.get(key, ()))) for key, owner in sorted(self._owner.items())]

    @staticmethod
    def unpack(packed: Iterable[tuple[str, int, Iterable[int]]]) -> KeyOrder:
        made = KeyOrder()
        for key, owner, blocked in packed:
            made._own(key, owner)
            if blocked:
                made._blocked[key] = list(blocked)
                heapify(made._blocked[key])
        return made
