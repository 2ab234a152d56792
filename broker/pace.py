"""When a checkpoint is due. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ..peers.log import Entry

RETAIN_BYTES = 64 << 20
RETAIN_ENTRIES = 50_000
FULL_MS = 1_000  # and when the storage runs full: a checkpoint is what frees the room of what was consumed
IDLE_MS = 5_000  # a log that stands still for this long is checkpointed, so that a restart is quick


class Pace:
    """What was logged since the last checkpoint."""

    def __init__(self, floor: int, entries: int, now_ms: int) -> None:
        self._made = deque([(floor, 0)])  # checkpoints the log is kept from: (applied, bytes logged up to there)
        self._entries = entries
        self._bytes = 0
        self._last_ms = now_ms
        self._made_ms = now_ms - FULL_MS

    def note(self, entries: Sequence[Entry], now_ms: int) -> None:
        """These were logged."""
        if entries:
            self._entries += len(entries)
            self._bytes += sum([len(entry.payload) for entry in entries])
            self._last_ms = now_ms

    def is_due(self, now_ms: int, entries_max: int, bytes_max: int, room_bytes: int) -> bool:
        """Whether the log has grown enough, or rests, or room runs out (`room_bytes`: what may still be published)."""
        if not self._entries:
            return False
        full = room_bytes <= self._bytes and now_ms - self._made_ms >= FULL_MS
        return self._entries >= entries_max or self._bytes >= bytes_max or now_ms - self._last_ms >= IDLE_MS or full

    def floor(self, applied: int) -> int:
        """How far the log is cut by a checkpoint at `applied`: what is behind that serves nodes that lag a little."""
        self._made.append((applied, self._bytes))
        behind = sum(size for _, size in self._made) - self._made[0][1]
        while len(self._made) > 1 and (behind > RETAIN_BYTES or applied - self._made[0][0] > RETAIN_ENTRIES):
            self._made.popleft()
            behind -= self._made[0][1]
        return self._made[0][0]

    def done(self, now_ms: int) -> None:
        """A checkpoint was made."""
        self._entries = self._bytes = 0
        self._made_ms = now_ms
