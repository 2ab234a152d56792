"""Payloads cut and joined as they lie there: no message is unpacked on its way to a consumer.

A payload is msgpack [bodies, headers]. Where a packed message begins and ends is found out once for a payload that is
cut, and remembered by whoever cuts it; the pieces are copied side by side.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack

NIL = b"\xc0"


class Bounds(NamedTuple):
    """Where each packed body and header of a payload begins, and where the last one ends; counted in bytes."""

    bodies: Sequence[int]
    headers: Sequence[int] | None  # None: no message has any

    @property
    def weight(self) -> int:
        """How many numbers it holds, roughly."""
        return sum(len(some) if isinstance(some, array) else 3 for some in self if some is not None)


def bounds_of(payload: bytes) -> Bounds:
    """Those of a payload that `unpack_payload` takes."""
    reader = _reader(payload)
    bodies = _places(reader)
    return Bounds(bodies, _places(reader) if payload[bodies[-1]] != NIL[0] else None)


def _reader(payload: bytes) -> msgpack.Unpacker:
    reader = msgpack.Unpacker(max_buffer_size=len(payload))
    reader.feed(payload)
    reader.read_array_header()
    return reader


def _places(reader: msgpack.Unpacker) -> Sequence[int]:
    count, skip, tell = reader.read_array_header(), reader.skip, reader.tell
    places = array("L", [tell()])
    for _ in range(count):
        skip()
        places.append(tell())
    step = places[1] - places[0] if count else 1
    # Messages of one size are the rule: then three numbers tell it all.
    regular = range(places[0], places[-1] + 1, step)
    return regular if array("L", regular) == places else places


class Part(NamedTuple):
    """Messages `start` to `end` of a payload. `plain`: it has no headers. `extra`: headers to add to each of them."""

    payload: bytes
    start: int
    end: int
    plain: bool
    bounds: Bounds | None  # of the payload; None: all of it, with nothing added
    extra: dict[str, Any] | None = None


def join_payload(parts: Sequence[Part]) -> bytes:
    """One payload with the messages of all parts."""
    if len(parts) == 1 and parts[0].bounds is None:
        return parts[0].payload
    length = b"\xdd" + sum([part.end - part.start for part in parts]).to_bytes(4, "big")
    bodies, headers = [b"\x92", length], [length]
    bare = True  # no message has any header
    for part in parts:
        packed, theirs = _whole(part) if part.bounds is None else _cut(part, part.bounds)
        bodies.append(packed)
        headers.append(NIL * (part.end - part.start) if theirs is None else theirs)
        bare = bare and (theirs is None or theirs.count(NIL) == len(theirs))
    return b"".join(bodies) + (NIL if bare else b"".join(headers))


def _whole(part: Part) -> tuple[bytes, bytes | None]:
    payload = part.payload
    outer = _list_lead(payload, 0)
    start = outer + _list_lead(payload, outer)
    if part.plain:
        return payload[start:-1], None
    reader = _reader(payload)
    reader.skip()
    end = reader.tell()
    reader.read_array_header()
    return payload[start:end], payload[reader.tell() :]


def _list_lead(payload: bytes, at: int) -> int:
    """How many bytes tell that a list begins here, and how long it is."""
    lead = payload[at]
    return 1 if lead < 0xA0 else 3 if lead == 0xDC else 5


def _cut(part: Part, bounds: Bounds) -> tuple[bytes, bytes | None]:
    payload, start, end, extra = part.payload, part.start, part.end, part.extra
    packed, places = payload[bounds.bodies[start] : bounds.bodies[end]], bounds.headers
    if extra is not None:
        return packed, b"".join([_with(payload, places, at, extra) for at in range(start, end)])
    return packed, None if places is None else payload[places[start] : places[end]]


def _with(payload: bytes, places: Sequence[int] | None, at: int, extra: dict[str, Any]) -> bytes:
    header = {} if places is None else msgpack.unpackb(payload[places[at] : places[at + 1]]) or {}
    packed: bytes = msgpack.packb({**header, **extra})
    return packed
