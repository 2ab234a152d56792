"""`snapshot`: somebody asks for a checkpoint now, and for the log to be cut behind it. Pure."""

from __future__ import annotations

from typing import NamedTuple

KEPT_ENTRIES = 1_000  # in a cluster: who is only this far behind need not be sent everything


class Asked(NamedTuple):
    """One who waits for it."""

    route: bytes
    sequence: int
    began_ms: int
    used_bytes: int  # before
    floor: int  # before


class Trim:
    """Who asked, and whether it is done. It takes several turns: the writes of one are bounded, and so its time."""

    def __init__(self) -> None:
        self._asked: list[Asked] = []
        self._done: list[Asked] = []
        self.applied = 0  # of the latest checkpoint

    @property
    def is_wanted(self) -> bool:
        """A checkpoint is to be made, whatever there is to save."""
        return bool(self._asked)

    @property
    def is_ready(self) -> bool:
        """Somebody is to be answered in the next turn."""
        return bool(self._done)

    def ask(self, asked: Asked) -> None:
        """To be answered when it is done. Asked again, it takes the place of its former self."""
        self._asked = [it for it in self._asked if (it.route, it.sequence) != (asked.route, asked.sequence)]
        self._asked.append(asked)

    def made(self, applied: int, floor: int, wanted: int) -> None:
        """A checkpoint at `applied` was made that cut the log up to `floor`; it was to be cut up to `wanted`."""
        self.applied = applied
        if floor >= wanted:
            self._done += self._asked
            self._asked = []

    def take_done(self) -> list[Asked]:
        """Whose checkpoint is on disk."""
        done, self._done = self._done, []
        return done
