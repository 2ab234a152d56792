"""The replicated log: entries with a checksum, and hard state."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import msgpack

from .messages import CODES, KINDS, Command

_CHECK = struct.Struct(">I")
_FRONT = struct.Struct(">QQI")  # term, stamp_ms, length of the head
_CHECKED = struct.Struct(">QQQI")  # the index, (covered by the checksum, not in the value) and the front
_HEAD = _CHECK.size + _FRONT.size


class CorruptEntry(Exception):
    """An entry on disk is not what was written. It is never served: the node stops and says which one it is."""

    def __init__(self, index: int, what: str) -> None:
        super().__init__(f"log entry {index} is corrupt: {what}")
        self.index = index


class HardState(NamedTuple):
    """What a node must not forget: the term it has seen, and whom it voted for in it."""

    term: int
    vote: int


class Entry(NamedTuple):
    """One place in the log. `stamp_ms` is the primary's time; `session` 0 means: by the node itself."""

    index: int  # type: ignore[assignment]
    term: int
    stamp_ms: int
    session: int
    sequence: int
    command: Command
    payload: bytes


def encode(entry: Entry) -> bytes:
    """The entry as it lies on disk, checksum first."""
    command = entry.command
    head = msgpack.packb((entry.session, entry.sequence, CODES[type(command)], command))
    front = _CHECKED.pack(entry.index, entry.term, entry.stamp_ms, len(head)) + head
    check = zlib.crc32(entry.payload, zlib.crc32(front))
    return b"".join((_CHECK.pack(check), front[8:], entry.payload))


def verify(index: int, raw: bytes) -> None:
    """Raises CorruptEntry if a single bit is not as it was written."""
    if len(raw) < _HEAD:
        raise CorruptEntry(index, f"it has {len(raw)} bytes, less than its front")
    if zlib.crc32(memoryview(raw)[_CHECK.size :], zlib.crc32(index.to_bytes(8, "big"))) != _CHECK.unpack_from(raw)[0]:
        raise CorruptEntry(index, "the checksum does not match")


def payload_of(index: int, raw: bytes) -> bytes:
    """The payload of the entry alone. Raises CorruptEntry."""
    verify(index, raw)
    return raw[_HEAD + _FRONT.unpack_from(raw, _CHECK.size)[2] :]


def decode(index: int, raw: bytes) -> Entry:
    """The entry out of its bytes. Raises CorruptEntry."""
    verify(index, raw)
    term, stamp_ms, length = _FRONT.unpack_from(raw, _CHECK.size)
    end = _HEAD + length
    session, sequence, code, fields = msgpack.unpackb(raw[_HEAD:end], use_list=False)
    kind = KINDS.get(code)
    if kind is None:
        raise CorruptEntry(index, f"command {code} is unknown: was it written by a newer version?")
    return Entry(index, term, stamp_ms, session, sequence, kind(*fields), raw[end:])
