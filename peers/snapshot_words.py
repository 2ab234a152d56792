"""What nodes say to each other about a snapshot: pieces of it, and how far they came."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

_PLACE = struct.Struct(">QQQ?")  # what the checksum covers beside the payload


class Chunk(NamedTuple):
    """Piece `number` (from 0) of the snapshot of everything up to entry `index`, whose term is `index_term`.

    Pieces are made the same way each time they are sent, so a broken stream goes on where its receiver stopped.
    """

    term: int
    sender: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    index_term: int
    number: int
    last: bool  # no piece comes after this one
    checksum: int
    payload: bytes

    @property
    def is_sound(self) -> bool:
        """Are place and payload what they were when the piece was made?"""
        return self.checksum == _checksum(self.index, self.index_term, self.number, self.last, self.payload)


class ChunkAck(NamedTuple):
    """The receiver has everything before piece `next` of that snapshot; pieces behind a gap are not kept."""

    term: int
    sender: int
    index: int  # type: ignore[assignment]
    index_term: int
    next: int


def make_chunk(term: int, sender: int, index: int, index_term: int, number: int, last: bool, payload: bytes) -> Chunk:
    """A piece with its checksum."""
    return Chunk(
        term, sender, index, index_term, number, last, _checksum(index, index_term, number, last, payload), payload
    )


def _checksum(index: int, index_term: int, number: int, last: bool, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_PLACE.pack(index, index_term, number, last)))
