"""Which node to try next, and after what pause. Pure: chance is handed in."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

PAUSE_FIRST_MS, PAUSE_MAX_MS = 50, 1_000  # doubled from round to round, then shortened by chance
HURRIED_MAX = 10  # tries without a pause, be it that two replicas take each other for the primary


class Route:
    """The nodes in turn, with a rising pause after each round; unless a node says where the primary is."""

    def __init__(self, endpoints: Sequence[str], random: Random) -> None:
        self.endpoints = list(endpoints)
        self._random = random
        self._turn = 0
        self._tries = 0  # since the last answer that was none of "not now, not here"
        self._moved_to: str | None = None

    def take(self) -> str:
        """The node to try now."""
        endpoint = self._moved_to or self.endpoints[self._turn % len(self.endpoints)]
        self._moved_to = None
        return endpoint

    def served(self) -> None:
        """The present node does what it is asked for."""
        self._tries = 0

    def refused(self, moved_to: str | None) -> None:
        """The present node cannot serve this; `moved_to`: but that one might."""
        self._moved_to = moved_to
        self._tries = max(1, self._tries)  # not at once to the same node: it would say the same again

    def failed(self, was_ready: bool) -> int:
        """The connection is gone: the pause before the next try. `was_ready`: it had served until then."""
        # The first try after a loss goes at once to where we were.
        if not was_ready or self._tries:
            self._turn += 1
        pause_ms = 0
        hurried = self._tries <= HURRIED_MAX
        if self._tries and not (hurried and (self._moved_to or self._turn % len(self.endpoints))):
            pause_ms = min(PAUSE_MAX_MS, PAUSE_FIRST_MS << min(self._tries // len(self.endpoints), 10))
        self._tries += 1
        return round(pause_ms * self._random.uniform(0.5, 1.0))
