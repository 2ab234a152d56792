"""Entries that this node's disk has damaged are fetched from the others. Until it has them it is not to be elected."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from ..peers.log import CorruptEntry, verify
from ..peers.raft.core import FOREVER_MS, Raft
from ..peers.repair_words import AskEntry, GivenEntry

AGAIN_MS = 500  # an answer that has not come by then is asked for again, of the next node
ASK_MAX = 16  # entries at a time

logger = logging.getLogger("penstock.repair")

Word = AskEntry | GivenEntry


class Shelf(Protocol):
    """The entries on disk, and which of them are known to be damaged."""

    def damaged(self) -> list[int]:
        """The entries that were found damaged and are still there, and still damaged."""

    def sound_entry(self, index: int) -> bytes | None:
        """The entry as it lies there. None: it is not there, or damaged."""

    def mend(self, index: int, raw: bytes) -> None:
        """Put this in the place of a damaged entry, durably."""


class Repair:
    """In each turn, after the writes are durable: `hear`, then send `next_words`; sleep no longer than `wait_ms`."""

    def __init__(self, raft: Raft, shelf: Shelf) -> None:
        self.raft = raft
        self.shelf = shelf
        self._wanted: list[int] = []
        self._answers: list[tuple[int, Word]] = []
        self._due_ms = 0
        self._tries = 0
        self._look()
        if self._wanted:
            logger.warning(
                "entries %s are damaged on this disk: they are fetched from the other nodes, and until then this one "
                "stands for no election", ", ".join(map(str, self._wanted[:ASK_MAX])),
            )  # fmt: skip

    def _look(self) -> None:
        """What was deleted meanwhile, or replaced by a snapshot, is wanted no more."""
        self._wanted = self.shelf.damaged()
        self.raft.may_lead = not self._wanted

    def hear(self, words: Iterable[Word]) -> None:
        """Give what others lack; take what we do."""
        for word in words:
            if isinstance(word, AskEntry):
                self._give(word)
            elif word.index in self._wanted:
                self._take(word)

    def _give(self, ask: AskEntry) -> None:
        # Committed entries are alike on all nodes: those behind that may be another primary's.
        raw = self.shelf.sound_entry(ask.index) if ask.index <= self.raft.tail.commit else None
        if raw is not None:
            self._answers.append((ask.sender, GivenEntry(self.raft.term, self.raft.node, ask.index, raw)))

    def _take(self, given: GivenEntry) -> None:
        try:
            verify(given.index, given.raw)
        except CorruptEntry as fault:
            logger.warning("node %d gave a copy that is no better: %s", given.sender, fault)
            return
        if given.index not in self.shelf.damaged():
            return  # it was deleted since it was asked for, and must not come back
        self.shelf.mend(given.index, given.raw)
        logger.warning("entry %d was damaged, and is now that of node %d", given.index, given.sender)
        self._due_ms = 0
        self._look()

    def next_words(self, now_ms: int) -> list[tuple[int, Word]]:
        """What is to be said now, to one node each."""
        answers, self._answers = self._answers, []
        if not self._wanted or now_ms < self._due_ms:
            return answers
        self._due_ms = now_ms + AGAIN_MS
        self._look()
        others = [node for node in self.raft.members.everyone if node != self.raft.node]
        if others:
            to = others[self._tries % len(others)]
            self._tries += 1
            term, node = self.raft.term, self.raft.node
            answers += [(to, AskEntry(term, node, index)) for index in self._wanted[:ASK_MAX]]
        return answers

    def wait_ms(self, now_ms: int) -> int:
        """How long there is nothing to do, if nothing is heard."""
        return max(0, self._due_ms - now_ms) if self._wanted else FOREVER_MS
