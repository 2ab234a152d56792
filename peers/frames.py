"""Frames between nodes, to words and back. Nothing here trusts what it reads.

    "PP1", header, small entries, large entry, large entry, ...

The header is msgpack [cluster, sender, incarnation, disk, kind, [fields of the word], [sizes of the entries]]. Entries
are as they lie on disk, with their checksum; those below SMALL bytes share a frame: one of its own costs more than they
do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_type_hints

import msgpack

from .log import CorruptEntry, Entry, decode, encode, verify
from .presence import Presence
from .raft.words import Append, Appended, AskVote, Fetch, Stale, TimeoutNow, Vote, Word
from .repair_words import AskEntry, GivenEntry
from .snapshot_words import Chunk, ChunkAck

MAGIC = b"PP1"
SMALL = 4096
HIGH = 2**63 - 1  # of every number

PeerWord = Word | Chunk | ChunkAck | AskEntry | GivenEntry
Said = PeerWord | Presence  # everything that nodes say
Encode = Callable[[Entry], bytes]

KINDS: dict[int, type[Any]] = {
    1: Append, 2: Appended, 3: Fetch, 4: Stale, 5: AskVote, 6: Vote, 7: TimeoutNow, 8: Chunk, 9: ChunkAck,
    10: AskEntry, 11: GivenEntry, 12: Presence,
}  # fmt: skip
CODES: dict[type[Any], int] = {kind: code for code, kind in KINDS.items()}
ENTRIES = tuple[Entry, ...]


class BadFrames(Exception):
    """These are no frames of ours, or not as they were sent."""


class Foreign(BadFrames):
    """They come from another program, or from another version of this one."""


class Shape(NamedTuple):
    """How a word travels. `types`: of what is in the header; `entries`, `payload`: the field with frames of its own."""

    types: tuple[type, ...]
    entries: int | None
    payload: int | None


class Header(NamedTuple):
    """Who speaks, and what is to come."""

    cluster: str
    sender: int
    incarnation: int
    disk: int
    code: int
    fields: tuple[Any, ...]
    sizes: tuple[int, ...]


def _shape(kind: type[Any]) -> Shape:
    hints = list(get_type_hints(kind).values())
    entries = hints.index(ENTRIES) if ENTRIES in hints else None
    payload = hints.index(bytes) if bytes in hints else None
    return Shape(tuple(hint for hint in hints if hint in (int, bool)), entries, payload)


SHAPES = {code: _shape(kind) for code, kind in KINDS.items()}


def frames_of(word: Said, cluster: str, incarnation: int, disk: int, encode: Encode = encode) -> list[bytes]:
    """The frames of one word. `disk`: the sender's. `encode`: gives the bytes of an entry, perhaps from memory."""
    code = CODES[type(word)]
    shape = SHAPES[code]
    fields: list[Any] = list(word)
    sizes: list[int] = []
    tail: list[bytes] = []
    if shape.entries is not None and (entries := fields.pop(shape.entries)):
        raws = [encode(entry) for entry in entries]
        sizes = [len(raw) for raw in raws]
        tail = [b"".join([raw for raw in raws if len(raw) < SMALL]), *(raw for raw in raws if len(raw) >= SMALL)]
    elif shape.payload is not None:
        tail = [fields.pop(shape.payload)]
    return [MAGIC, msgpack.packb((cluster, word.sender, incarnation, disk, code, fields, sizes)), *tail]


def read_header(frames: Sequence[bytes]) -> Header:
    """Who speaks. Raises BadFrames."""
    if not frames or frames[0] != MAGIC:
        raise Foreign(f"the first frame is not {MAGIC!r}")
    try:
        header = Header(*msgpack.unpackb(frames[1], use_list=False))
    except Exception as fault:  # msgpack raises a dozen kinds; all of them are the sender's fault
        raise BadFrames(f"the header is no header: {type(fault).__name__}") from fault
    if tuple(map(type, header)) != (str, int, int, int, int, tuple, tuple) or header.code not in KINDS:
        raise BadFrames("the header has other fields")
    if not (0 < header.sender <= HIGH and 0 <= header.incarnation <= HIGH and 0 < header.disk <= HIGH):
        raise BadFrames("sender, incarnation or disk are out of range")
    return header


def read_word(header: Header, frames: Sequence[bytes]) -> tuple[Said, list[bytes]]:
    """The word, and the bytes of its entries. Raises BadFrames, also if a single bit of an entry has changed."""
    types, entries_at, payload_at = SHAPES[header.code]
    fields = list(header.fields)
    if tuple(map(type, fields)) != types or min(fields) < 0 or max(fields) > HIGH:
        raise BadFrames("the fields of the word are of other types or out of range")
    raws: list[bytes] = []
    if entries_at is not None:
        raws = _split(header.sizes, frames[2:])
        fields.insert(entries_at, ())
    elif payload_at is not None:
        if len(frames) != 3:
            raise BadFrames(f"{len(frames)} frames instead of 3")
        fields.insert(payload_at, frames[2])
    elif len(frames) != 2:
        raise BadFrames(f"{len(frames)} frames instead of 2")
    word = KINDS[header.code](*fields)
    if word.sender != header.sender:
        raise BadFrames(f"node {header.sender} speaks as node {word.sender}")
    if type(word) is Append:
        return word._replace(entries=_entries(word, raws)), raws
    if type(word) is Chunk and not word.is_sound:
        raise BadFrames(f"the checksum of piece {word.number} does not match")
    if type(word) is GivenEntry:
        try:
            verify(word.index, word.raw)
        except CorruptEntry as fault:
            raise BadFrames(str(fault)) from fault
    return word, raws


def _split(sizes: tuple[Any, ...], tail: Sequence[bytes]) -> list[bytes]:
    """The raw entries out of the frames behind the header."""
    if not sizes and not tail:
        return []
    if {*map(type, sizes)} != {int} or min(sizes) < 0:
        raise BadFrames("the sizes of the entries are no sizes")
    small, large, at = tail[0] if tail else b"", iter(tail[1:]), 0
    raws: list[bytes] = []
    for size in sizes:
        if size < SMALL:
            raws.append(small[at : at + size])
            at += size
        else:
            raws.append(next(large, b""))
    if at != len(small) or next(large, None) is not None or sum(map(len, raws)) != sum(sizes):
        raise BadFrames("the entries are of other sizes than the header says")
    return raws


def _entries(append: Append, raws: Sequence[bytes]) -> tuple[Entry, ...]:
    """The entries, checked: their checksums, and that terms never fall nor exceed the primary's."""
    index, term = append.prev_index, append.prev_term
    entries: list[Entry] = []
    for raw in raws:
        index += 1
        try:
            entry = decode(index, raw)
        except Exception as fault:  # CorruptEntry, or fields that the command does not have: the sender's fault
            raise BadFrames(f"entry {index}: {fault}") from fault
        if not term <= entry.term <= append.term:
            raise BadFrames(f"entry {index} is of term {entry.term}, between {term} and {append.term}")
        term = entry.term
        entries.append(entry)
    return tuple(entries)
