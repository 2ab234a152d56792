"""Which log entries were found damaged on this disk: in a file beside the data, that outlives who found them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from ..peers.log import CorruptEntry, Entry, decode, verify
from ..peers.raft.tail import Tail

FILE = "damaged"


class Log(Protocol):
    """The log entries on disk, as they lie there."""

    def raw_entry(self, index: int) -> bytes | None:
        """An entry, sound or not. None: it is not there."""

    def mend(self, index: int, raw: bytes) -> None:
        """Put this in the place of an entry, durably."""


class Damage:
    """What is known of the damage in a data folder. The file has one index a line."""

    def __init__(self, folder: Path, log: Log) -> None:
        self.mend = log.mend
        self._log = log
        self._folder = folder

    def damaged(self) -> list[int]:
        """The entries that were found damaged, are still there, and still are."""
        noted = _read(self._folder)
        found = [it for it in noted if self._log.raw_entry(it) is not None and self.sound_entry(it) is None]
        if found != noted:
            _write(self._folder, found)
        return found

    def sound_entry(self, index: int) -> bytes | None:
        """The entry as it lies on disk. None: it is not there, or damaged."""
        raw = self._log.raw_entry(index)
        try:
            verify(index, raw or b"")
        except CorruptEntry:
            return None
        return raw

    def recall(self, tail: Tail, replay: Callable[[int], Iterable[Entry]], applied: int) -> Tail:
        """The log above the floor of `tail`, which is empty, as `replay` reads it from there.

        Up to `applied` the model does not need it any more: behind a damaged entry there the log begins anew, and the
        others, who have that entry too, will be asked for it. Raises CorruptEntry for one that nobody may have.
        """
        while True:
            try:
                tail.recall(replay(tail.floor))
            except CorruptEntry as fault:
                behind = self._sound_behind(fault, applied)
                tail = Tail(behind.index, behind.term, tail.source, tail.cache_bytes)
            else:
                return tail

    def _sound_behind(self, fault: CorruptEntry, applied: int) -> Entry:
        """The next sound entry. Those between are noted."""
        if self._log.raw_entry(fault.index) is None:
            raise fault  # it was not deleted by a command: then who knows what else is missing
        for index in range(fault.index, applied + 1):
            if (raw := self.sound_entry(index)) is not None:
                note(self._folder, range(fault.index, index))
                return decode(index, raw)
        raise fault


def note(folder: Path, indexes: Iterable[int]) -> None:
    """These were found to be damaged. A crash may lose the note: who reads such an entry next finds it again."""
    _write(folder, sorted({*_read(folder), *indexes}))


def _read(folder: Path) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return sorted({int(line) for line in (folder / FILE).read_text(encoding="ascii").split()})
    return []


def _write(folder: Path, indexes: list[int]) -> None:
    path = folder / FILE
    if not indexes:
        path.unlink(missing_ok=True)
        return
    fresh = path.with_suffix(".new")
    fresh.write_text("".join(f"{index}\n" for index in indexes), encoding="ascii")
    fresh.replace(path)
