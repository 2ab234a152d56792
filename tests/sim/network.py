"""The network of the world: what was said arrives late, twice, out of order, or never."""

from __future__ import annotations

from random import Random

REPLAY_MS = 8000  # a duplicate may come so much later, though most come soon


class Network:
    """Words between two nodes, and broadcasts, which have ways of their own to be lost."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.loss = 0.0
        self.replay = 0.0
        self.jitter_ms = 2
        self.broadcast_skew_ms = 0  # broadcasts come later than words by up to so much
        self.cut: set[tuple[int, int]] = set()
        self.clogged: dict[tuple[int, int], int] = {}  # until when
        self.dark: dict[tuple[int, int], int] = {}  # until when broadcasts are dropped
        self.away: set[tuple[str, int]] = set()  # (client, node): nothing passes, and nobody is told

    def heal(self) -> None:
        self.loss = self.replay = 0.0
        self.jitter_ms, self.broadcast_skew_ms = 0, 0  # in order, as TCP is
        self.cut, self.clogged, self.dark, self.away = set(), {}, {}, set()

    def arrivals(self, source: int, target: int, broadcast: bool, now_ms: int) -> list[int]:
        """When a word said now arrives: never, once or twice."""
        way = source, target
        if way in self.cut:
            return []
        random = self.random.random
        if self.loss and random() < self.loss:
            return []
        if broadcast and self.dark and self.dark.get(way, 0) > now_ms:
            return []
        at_ms = now_ms + 1
        if self.jitter_ms:
            at_ms += int(random() * self.jitter_ms)
        if self.clogged:
            at_ms = max(at_ms, self.clogged.get(way, 0))
        if broadcast and self.broadcast_skew_ms:
            at_ms += int(random() * self.broadcast_skew_ms)
        if self.replay and random() < self.replay:
            return [at_ms, at_ms + int(random() ** 2 * REPLAY_MS)]
        return [at_ms]

    # -- clients ------------------------------------------------------------------------------------------------------

    def is_away(self, client: str, node: int) -> bool:
        """Nothing passes between these two."""
        return (client, node) in self.away

    def client_arrival(self, now_ms: int) -> int:
        """When something arrives that is said now, if nothing before it is late."""
        return now_ms + 1 + int(self.random.random() * min(self.jitter_ms, 20))
