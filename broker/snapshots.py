"""Snapshots on their way: what is sent next, what is taken, what is asked for again. Pure.

Pieces are numbered from 0. The receiver takes them in order and says which one it wants next; that is all it says.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgpack

from ..peers.snapshot_words import Chunk

WINDOW_BYTES = 4 << 20  # on the way to one node
AGAIN_MS = 500  # if nothing was acknowledged for so long, what is on the way is taken for lost
GIVE_UP_MS = 10_000  # without progress; an open snapshot makes the file grow
STALE_MS = 5_000  # without progress: now another snapshot may take the place of the one that is being received
SPURN_MS = 10_000  # a snapshot that was bad is not begun again for so long
NOTHING = (1 << 63) - 1  # the piece that is wanted next by one who wants none


class BadSnapshot(Exception):
    """A snapshot that must not be taken: it is not what was sent, or not what we can read."""


class NoRoom(Exception):
    """There is no room for the snapshot that is to come."""


class Source(Protocol):
    """A snapshot that can be sent. Everything up to log entry `index`, whose term is `index_term`."""

    index: int
    index_term: int

    @property
    def known(self) -> int:
        """Pieces up to this number may be asked for; each new one makes the next one known."""

    def piece(self, number: int) -> tuple[bytes, bool]:
        """(payload, whether it is the last one), the same each time."""


class Sink(Protocol):
    """Where a snapshot is kept while it comes in."""

    def write(self, payload: bytes) -> int:
        """Keep the records of one piece; how many there were. Raises BadSnapshot."""

    def discard(self) -> None:
        """Forget all of it."""


class Piece(NamedTuple):
    """One piece, to be sent."""

    number: int
    last: bool
    payload: bytes


def chain(digest: bytes, payload: bytes) -> bytes:
    """The digest of everything up to the end of this piece."""
    return hashlib.blake2b(payload, digest_size=16, key=digest).digest()


class Sending:
    """One snapshot on its way to one node."""

    def __init__(self, source: Source, now_ms: int) -> None:
        self._source = source
        self._next = 0
        self._acked = 0  # the receiver has everything before this piece
        self._lower: int | None = None  # it last said that it wants an earlier one
        self._count: int | None = None  # of pieces, once the last one was made
        self._flight: deque[tuple[int, int]] = deque()  # (number, bytes)
        self._flight_bytes = 0
        self._moved_ms = now_ms
        self._sent_ms = now_ms

    @property
    def is_done(self) -> bool:
        """The receiver wants no more."""
        return self._acked == NOTHING or (self._count is not None and self._acked >= self._count)

    def is_stuck(self, now_ms: int) -> bool:
        return now_ms >= self._moved_ms + GIVE_UP_MS

    def hear(self, wanted: int, now_ms: int) -> None:
        """The receiver wants this piece next."""
        self._lower = wanted if wanted < self._acked else None
        if wanted > self._acked:
            self._acked = wanted
            self._next = max(self._next, wanted)
            self._moved_ms = self._sent_ms = now_ms
            while self._flight and self._flight[0][0] < wanted:
                self._flight_bytes -= self._flight.popleft()[1]
        elif wanted == 0 < self._acked:  # it has lost what it had; any other lower number may be an old word
            self._acked = 0
            self._rewind()

    def _rewind(self) -> None:
        self._next = self._acked
        self._flight.clear()
        self._flight_bytes = 0

    def due(self, now_ms: int, bytes_max: int) -> list[Piece]:
        """What is to be sent now: about `bytes_max` bytes, and no more than the window lets."""
        if self._flight and now_ms >= self._sent_ms + AGAIN_MS:
            # It keeps to its lower number: then what we went by is from before it began anew.
            self._acked = self._acked if self._lower is None else self._lower
            self._rewind()
        pieces: list[Piece] = []
        while bytes_max > 0 and self._may_send:
            # A receiver that goes on where it was with another one of us is ahead of what we know.
            number = min(self._next, self._source.known)
            payload, last = self._source.piece(number)
            bytes_max -= max(len(payload), 1)
            if last:
                self._count = number + 1
            if number < self._next:
                self._moved_ms = now_ms
                continue
            pieces.append(Piece(number, last, payload))
            self._flight.append((number, len(payload)))
            self._flight_bytes += len(payload)
            self._next += 1
            self._sent_ms = now_ms
        return pieces

    @property
    def _may_send(self) -> bool:
        more = self._acked != NOTHING and (self._count is None or self._next < self._count)
        return more and self._flight_bytes < WINDOW_BYTES

    def next_ms(self, now_ms: int) -> int:
        """When there is something to do."""
        if self._may_send:
            return now_ms
        again_ms = self._sent_ms + AGAIN_MS
        return min(again_ms, self._moved_ms + GIVE_UP_MS)


class Arrived(NamedTuple):
    """A snapshot that is whole."""

    index: int  # type: ignore[assignment]
    index_term: int


class Receiving:
    """The snapshot that comes in: one at a time."""

    def __init__(self, version: int, open_sink: Callable[[int], Sink]) -> None:
        """`version`: of what we can read. `open_sink`: a fresh one, for about so many bytes."""
        self._version = version
        self._open_sink = open_sink
        self.sink: Sink | None = None
        self.arrived: Arrived | None = None
        self._stream = (0, 0, 0, 0)  # sender, term, index, index_term: in another term its sender has begun anew
        self._head = 0  # the checksum of its first piece
        self._age = (0, 0)  # term, index: a higher one takes the place of a lower one
        self._next = 0
        self._records = 0
        self._digest = b""
        self._moved_ms = 0
        self._spurned = (0, 0, 0, 0)
        self._spurned_ms = 0

    def hear(self, chunk: Chunk, commit: int, now_ms: int) -> int | None:
        """Take a piece. Returns which one is wanted next; None: say nothing.

        `commit`: what the node knows is committed; a snapshot that tells no more than that is ignored. Raises
        BadSnapshot once for a bad one, which is discarded, and NoRoom if there is no room for it.
        """
        self.look(commit)
        if chunk.index <= commit:
            return NOTHING
        stream = (chunk.sender, chunk.term, chunk.index, chunk.index_term)
        if not chunk.is_sound or (stream == self._spurned and now_ms < self._spurned_ms + SPURN_MS):
            return None
        if stream == self._stream and chunk.number == 0 and chunk.checksum != self._head:
            self.discard()  # read anew: what came of the one before it does not go together with what is to come
        if stream != self._stream:
            if not self._gives_way(chunk, now_ms):
                return None
            if chunk.number:
                return 0
        if (self.arrived is None and chunk.number == self._next) or stream != self._stream:
            try:
                self._take(chunk, stream, now_ms)
            except (BadSnapshot, NoRoom):
                self._stream = stream
                self.spurn(now_ms)
                raise
        return self._next

    def look(self, commit: int) -> None:
        """What comes in may have been overtaken."""
        if self.sink is not None and self._stream[2] <= commit:
            self.discard()

    def discard(self) -> None:
        """Forget what came in."""
        sink, self.sink, self.arrived = self.sink, None, None
        self._stream, self._age, self._next = (0, 0, 0, 0), (0, 0), 0
        if sink is not None:
            sink.discard()

    def spurn(self, now_ms: int) -> None:
        """What came in is bad: forget it, and do not begin it again at once."""
        self._spurned, self._spurned_ms = self._stream, now_ms
        self.discard()

    def hand_over(self) -> None:
        """What came in was put to use."""
        self.sink = None
        self.discard()

    def _gives_way(self, chunk: Chunk, now_ms: int) -> bool:
        newer = (chunk.term, chunk.index) > self._age
        return self.sink is None or newer or now_ms >= self._moved_ms + STALE_MS

    def _take(self, chunk: Chunk, stream: tuple[int, int, int, int], now_ms: int) -> None:
        self._moved_ms = now_ms
        if chunk.number == 0:
            self._begin(chunk, stream)
        elif chunk.last:
            if _unpack(chunk.payload) != (self._records, self._digest):
                raise BadSnapshot(f"it is not what was sent: {self._records} records came")
            self.arrived = Arrived(chunk.index, chunk.index_term)
        else:
            assert self.sink is not None
            self._records += self.sink.write(chunk.payload)
            self._digest = chain(self._digest, chunk.payload)
        self._next = chunk.number + 1

    def _begin(self, chunk: Chunk, stream: tuple[int, int, int, int]) -> None:
        self.discard()
        version, size = _unpack(chunk.payload)
        if version != self._version:
            raise BadSnapshot(f"it is in disk format {version}, not in {self._version}")
        self.sink = self._open_sink(size)
        self._stream, self._head, self._age = stream, chunk.checksum, (chunk.term, chunk.index)
        self._records, self._digest = 0, chain(b"", chunk.payload)


def _unpack(payload: bytes) -> tuple[Any, Any]:
    try:
        first, second = msgpack.unpackb(payload)
    except Exception as fault:  # msgpack raises a dozen kinds; all of them are the sender's fault
        raise BadSnapshot(f"its first or last piece is no such piece: {type(fault).__name__}") from fault
    return first, second
