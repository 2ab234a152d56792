"""What the disk is to be told of a shelf: chunks that changed, and of the others which of their spots are gone.

A chunk is some 57 KB. When a million messages fall due in an order that is not theirs, every checkpoint finds a few
spots gone in each of a thousand chunks: written whole they would be 57 MB each time, and everybody would wait for that.
So what is gone is told by a bit for each offset, in a cell of its own behind the chunk's, until little of the chunk is
left.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

CHUNK_BITS: Final = 10  # a chunk holds what begins in 1024 offsets
FIELDS: Final = 7
NUMBER_BYTES: Final = 8
GONE: Final = b"-"  # behind the number of a chunk: the key of what of it is gone
LEFT_MIN: Final = 8  # when less than one in so many is left, the chunk is written anew


class Chunk(NamedTuple):
    """Some spots, ascending: the first offset of each, and all fields of one after the other."""

    firsts: array[int]
    fields: array[int]


class ShelfCells:
    """The changes of one shelf since the last checkpoint, and what the disk has been told to be gone before."""

    __slots__ = ("_changed", "_gone", "_thinned")

    def __init__(self) -> None:
        self._changed: set[int] = set()  # chunks that are to be written, or to go
        self._gone: dict[int, bytearray] = {}  # by chunk: a bit for each offset whose spot the disk has in vain
        self._thinned: set[int] = set()  # chunks of which more is gone

    def put(self, number: int) -> None:
        """Something came into this chunk."""
        self._changed.add(number)

    def remove(self, first: int) -> None:
        """The spot that begins there is gone."""
        number = first >> CHUNK_BITS
        if number in self._changed:
            return
        gone = self._gone.get(number)
        if gone is None:
            gone = self._gone[number] = bytearray(1 << CHUNK_BITS >> 3)
        place = first & ((1 << CHUNK_BITS) - 1)
        gone[place >> 3] |= 1 << (place & 7)
        self._thinned.add(number)

    def clear(self, numbers: Iterable[int]) -> None:
        """These chunks are gone, and all others that the disk may have."""
        self._changed.update(numbers, self._gone)

    def take(self, chunks: Mapping[int, Chunk]) -> dict[bytes, bytes | None]:
        """What to write, by key; None: it goes. The shelf has these chunks."""
        told: dict[bytes, bytes | None] = {}
        for number in sorted(self._changed | self._thinned):
            key = number.to_bytes(NUMBER_BYTES, "big")
            chunk, gone = chunks.get(number), self._gone.get(number)
            if gone is not None and number not in self._changed and chunk is not None and not _is_sparse(chunk, gone):
                told[key + GONE] = bytes(gone)
                continue
            told[key] = None if chunk is None else chunk.fields.tobytes()
            if gone is not None:
                told[key + GONE] = None
                del self._gone[number]
        self._changed, self._thinned = set(), set()
        return told

    def restore(self, number: int, packed: bytes, gone: bytes | None) -> array[int]:
        """The fields of what is left of a chunk that the disk has."""
        fields = array("q", packed)
        if gone is None:
            return fields
        self._gone[number] = bytearray(gone)
        left = array("q")
        for at in range(0, len(fields), FIELDS):
            place = fields[at] & ((1 << CHUNK_BITS) - 1)
            if not gone[place >> 3] >> (place & 7) & 1:
                left.extend(fields[at : at + FIELDS])
        return left


def _is_sparse(chunk: Chunk, gone: bytearray) -> bool:
    left = len(chunk.firsts)
    return left * LEFT_MIN < left + int.from_bytes(gone, "big").bit_count()


def chunks_of(cells: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[int, bytes, bytes | None]]:
    """(number, packed, gone) of each chunk, out of its cells by ascending key: what is gone comes behind the chunk."""
    last: tuple[int, bytes] | None = None
    for key, value in cells:
        if len(key) > NUMBER_BYTES:
            assert last is not None, key
            yield *last, value
            last = None
            continue
        if last is not None:
            yield *last, None
        last = int.from_bytes(key, "big"), value
    if last is not None:
        yield *last, None
