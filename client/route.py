"""Which node to try next, and after what pause. Pure: time and chance are handed in."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

PAUSE_FIRST_MS, PAUSE_MAX_MS = 40, 1_000  # shortened by chance
PAUSE_SHARE = 10  # the pause grows with the outage: it is this part of it. An election is over in a few of the first.
SHUN_MS = 1_000  # a node that was silent costs a whole timeout each time: the others are asked more often


class Route:
    """The nodes in rounds, each once in a round, with a pause after each; where a node says the primary is goes first.

    A node is asked again in the same round only after it has served, so nodes that take each other for the primary
    keep nobody busy.
    """

    def __init__(self, endpoints: Sequence[str], random: Random) -> None:
        self.endpoints = list(endpoints)
        self.lone = len(self.endpoints) == 1
        self._random = random
        self._at = ""  # the present node, or the last one
        self._hint: str | None = None
        self._tried: set[str] = set()  # in this round
        self._shunned: dict[str, int] = {}  # until when
        self._failing_ms: int | None = None  # since when nobody serves
        self._refused = False  # the present node said that it cannot serve

    def take(self, now_ms: int) -> str:
        """The node to try now."""
        choice = self._choose(now_ms)
        if choice is None:  # all have been silent
            choice = min(self.endpoints, key=lambda endpoint: self._shunned.get(endpoint, 0))
        self._at, self._hint, self._refused = choice, None, False
        self._tried.add(choice)
        return choice

    def served(self) -> None:
        """The present node does what it is asked for."""
        self._failing_ms = None

    def refused(self, moved_to: str | None) -> None:
        """The present node cannot serve this; `moved_to`: but that one might."""
        self._refused = True
        self._hint = moved_to

    def failed(self, now_ms: int, *, was_ready: bool, silent: bool) -> int:
        """The connection is gone: the pause before the next try. `was_ready`: it had been made; `silent`: by its
        silence it was given up."""
        if silent and not self.lone:
            self._shunned[self._at] = now_ms + SHUN_MS
        if self._failing_ms is None:
            self._failing_ms = now_ms
            if was_ready:
                # A connection that was cut may be made again at once; a node that refused would say the same again.
                self._tried = {self._at} if self._refused else set()
        if self._choose(now_ms) is not None:
            return 0
        self._tried.clear()
        outage_ms = now_ms - self._failing_ms
        pause_ms = min(PAUSE_MAX_MS, max(PAUSE_FIRST_MS, outage_ms // PAUSE_SHARE))
        return round(pause_ms * self._random.uniform(0.5, 1.0))

    def _choose(self, now_ms: int) -> str | None:
        """Who has not been tried in this round; the present node after all others."""
        if self._hint is not None and self._open(self._hint, now_ms):
            return self._hint
        after = self.endpoints.index(self._at) + 1 if self._at in self.endpoints else 0
        in_turn = self.endpoints[after:] + self.endpoints[:after]
        return next((endpoint for endpoint in in_turn if self._open(endpoint, now_ms)), None)

    def _open(self, endpoint: str, now_ms: int) -> bool:
        return endpoint not in self._tried and self._shunned.get(endpoint, 0) <= now_ms
