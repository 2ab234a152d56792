"""Snapshots, as the daemon's loop sees them: who is sent one, what comes in, and the switch when one is whole."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from ..peers.raft.core import Raft
from ..peers.snapshot_words import Chunk, ChunkAck, make_chunk
from . import checkpoint
from .export import Export
from .incoming import Incoming
from .model import Model
from .rows import FORMAT
from .snapshots import BadSnapshot, NoRoom, Receiving, Sending
from .store import Store

TURN_BYTES = 256 << 10  # of one turn and node, or one piece: more would delay the next heartbeat
FOREVER_MS = 1 << 62
CATCH_UP_MS = 10_000  # so long entries are kept for a node that has its snapshot and does not come nearer

logger = logging.getLogger("penstock.snapshots")

Word = Chunk | ChunkAck


class _Debt:
    """Entries from here on are kept for a node, since its snapshot does not have them."""

    def __init__(self, index: int, now_ms: int) -> None:
        self.index = index
        self.moved_ms = now_ms


class SnapshotDesk:
    """In each turn, behind `store.commit(turn.writes)` and the sending of `turn.words`, in this order:

        desk.hear(pieces, now_ms)                     # what other nodes said of snapshots
        desk.take(turn.snapshots, now_ms)             # who needs one
        model = desk.install(now_ms)                  # one came in whole, and is now what the store holds
        if model is not None: node.reset(model, now_ms)
        node.floor_max = desk.floor_max(now_ms)       # before the next checkpoint
        links.send(desk.next_words(now_ms))

    and the loop sleeps no longer than `wait_ms`. If the model is to be reset from disk (`turn.deposed`), do that first.
    """

    def __init__(self, raft: Raft, store: Store) -> None:
        self.raft = raft
        self.store = store
        self._export: Export | None = None
        self._sending: dict[int, Sending] = {}
        self._served: set[int] = set()  # had their part of this export: if they ask again, they need a newer one
        self._debts: dict[int, _Debt] = {}
        self._incoming: Incoming | None = None  # the latest
        self._receiving = Receiving(FORMAT, self._open)
        self._answers: dict[int, ChunkAck] = {}

    # -- in each turn -------------------------------------------------------------------------------------------------

    def hear(self, words: Iterable[Word], now_ms: int) -> None:
        """Pieces that came in are written, and acknowledged with the next words."""
        for word in words:
            if isinstance(word, ChunkAck):
                self._hear_ack(word, now_ms)
            elif word.term >= self.raft.term and not self.raft.is_primary:
                self._hear_chunk(word, now_ms)
        self._receiving.look(self.raft.tail.commit)

    def take(self, nodes: Sequence[int], now_ms: int) -> None:
        """These lack what is gone. Who is being served already is not served twice."""
        if not self.raft.is_primary:
            return
        if self._export is not None and not self._export.is_open:
            self._end_export()
        for node in nodes:
            if node in self._sending or node in self._served:  # served: it asks again once it needs a newer one
                continue
            if self._export is None:
                self._export = self.store.export()
            self._sending[node] = Sending(self._export, now_ms)
            self._debts.setdefault(node, _Debt(self._export.index, now_ms)).moved_ms = now_ms
            logger.info("node %d is sent a snapshot of everything up to entry %d", node, self._export.index)

    def install(self, now_ms: int) -> Model | None:
        """The model of a snapshot that came in whole: consensus, the store and its log begin anew with it.

        Raises OSError or lmdb.Error if the disk fails: then the node must stop, and starts with the one or the other.
        """
        receiving = self._receiving
        if receiving.arrived is None:
            return None
        index, term = receiving.arrived
        incoming = self._incoming
        assert incoming is not None
        try:
            members = incoming.members(index)
        except BadSnapshot as fault:
            receiving.spurn(now_ms)
            logger.warning("a snapshot was discarded: %s", fault)
            return None
        if not self.raft.restored(index, term, members):
            receiving.discard()
            return None
        found = self.store.adopt(incoming)
        receiving.hand_over()
        model = Model(self.store)
        checkpoint.restore(model, found.meta, found.queues, found.sessions)
        logger.info("a snapshot of everything up to entry %d took the place of what was here", index)
        return model

    def next_words(self, now_ms: int) -> list[tuple[int, Word]]:
        """What is to be said now, to one node each."""
        assert self._receiving.arrived is None, "a snapshot is acknowledged when it is installed, not before"
        words: list[tuple[int, Word]] = list(self._answers.items())
        self._answers = {}
        self._check_export(now_ms)
        export, raft = self._export, self.raft
        for node, sending in self._sending.items():
            assert export is not None
            for number, last, payload in sending.due(now_ms, TURN_BYTES):
                chunk = make_chunk(raft.term, raft.node, export.index, export.index_term, number, last, payload)
                words.append((node, chunk))
        return words

    def wait_ms(self, now_ms: int) -> int:
        """How long there is nothing to do, if nothing is heard."""
        return max(0, min([sending.next_ms(now_ms) for sending in self._sending.values()], default=FOREVER_MS) - now_ms)

    def floor_max(self, now_ms: int) -> int:
        """Entries above this are kept: a node whose snapshot does not have them would need another one at once."""
        peers, commit = self.raft.peers, self.raft.tail.commit
        for node, debt in list(self._debts.items()):
            match = peers[node].match if node in peers else 0
            if node in self._sending:
                debt.moved_ms = now_ms
            elif match > debt.index:
                debt.index, debt.moved_ms = match, now_ms
            if match >= commit or now_ms >= debt.moved_ms + CATCH_UP_MS or not self.raft.is_primary:
                del self._debts[node]
        return min([debt.index for debt in self._debts.values()], default=FOREVER_MS)

    def close(self) -> None:
        """At the end of the daemon. What came in so far is of no use without the rest."""
        self._end_export()
        self._receiving.discard()

    # -- sending ------------------------------------------------------------------------------------------------------

    def _hear_ack(self, ack: ChunkAck, now_ms: int) -> None:
        sending, export = self._sending.get(ack.sender), self._export
        if sending is None or export is None or ack.term != self.raft.term:
            return
        if (ack.index, ack.index_term) == (export.index, export.index_term):
            sending.hear(ack.next, now_ms)
            if sending.is_done:
                self._dismiss(ack.sender, "has it")

    def _check_export(self, now_ms: int) -> None:
        """A reader that stays open makes the file grow: it ends with the last node that needs it, or makes way."""
        if self._export is None:
            return
        if not self._export.is_open or not self.raft.is_primary:
            logger.info("the snapshot of entry %d ends early", self._export.index)
            self._end_export()
            return
        for node in [node for node, sending in self._sending.items() if sending.is_stuck(now_ms)]:
            self._dismiss(node, "does not answer")
        if not self._sending:
            self._end_export()

    def _dismiss(self, node: int, why: str) -> None:
        assert self._export is not None
        del self._sending[node]
        self._served.add(node)
        logger.info("the snapshot of entry %d for node %d ends: it %s", self._export.index, node, why)

    def _end_export(self) -> None:
        if self._export is not None:
            self._export.close()
            self._export = None
        self._sending, self._served = {}, set()

    # -- receiving ----------------------------------------------------------------------------------------------------

    def _open(self, size: int) -> Incoming:
        self._incoming = self.store.incoming(size)
        return self._incoming

    def _hear_chunk(self, chunk: Chunk, now_ms: int) -> None:
        try:
            wanted = self._receiving.hear(chunk, self.raft.tail.commit, now_ms)
        except (BadSnapshot, NoRoom) as fault:
            logger.warning("a snapshot of node %d was discarded: %s", chunk.sender, fault)
            return
        if wanted is not None:
            answer = ChunkAck(chunk.term, self.raft.node, chunk.index, chunk.index_term, wanted)
            self._answers[chunk.sender] = answer
