"""When the daemon looks for garbage: not while somebody may be waiting for it.

Python's full collection passes over everything that is held, 40 ms for what 300,000 delayed messages leave in memory,
and comes whenever enough has been made; a message that is due meanwhile is late by that. A turn leaves hardly any
cycles behind, and those of short lives go with the collections of the young, which stay. So the full one waits for a
moment in which nobody is heard, and is made in any case once in a long while, lest what is left behind add up.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

QUIET_MS: Final = 1_000  # no client was heard for so long: nobody waits
OWED_MS: Final = 10 * 60_000  # after a full collection, until a quiet moment is used for the next
FORCED_MS: Final = 6 * 3_600_000  # after a full collection, until the next one is made whoever waits
NEVER: Final = 2**31 - 1  # collections of the middle generation before a full one


class Garbage:
    """A context manager: the settings are those of the whole process, and at its end what they were before."""

    def __init__(self, now_ms: int, collect: Callable[[], object] = gc.collect) -> None:
        self._collect = collect
        self._heard_ms = self._full_ms = now_ms
        self._before = gc.get_threshold()

    def __enter__(self) -> Self:
        self._collect()
        gc.freeze()  # what a start has made stays until the end: there is no need to pass over it each time
        young, middle, _ = self._before
        gc.set_threshold(young, middle, NEVER)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        gc.set_threshold(*self._before)
        gc.unfreeze()

    def look(self, now_ms: int, heard: bool) -> None:
        """After each turn. `heard`: was there anything of clients in it?"""
        if heard:
            self._heard_ms = now_ms
        quiet = now_ms - self._heard_ms >= QUIET_MS
        if now_ms - self._full_ms >= (OWED_MS if quiet else FORCED_MS):
            self.clear(now_ms)

    def clear(self, now_ms: int) -> None:
        """Something large was let go, in which there are cycles."""
        self._collect()
        self._full_ms = now_ms

    def wait_ms(self, now_ms: int) -> int:
        """For how long there is nothing to do here, if nobody is heard."""
        return max(0, self._heard_ms + QUIET_MS - now_ms, self._full_ms + OWED_MS - now_ms)
