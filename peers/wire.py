"""Frames of the client protocol (docs/protocol.md), to values and back. Nothing here trusts what it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgpack

from .errors import InvalidArgument, PenstockError, ProtocolError, shown, to_body

MAGIC = b"PS1"
VERSION = 1
LOW, HIGH = -(2**63), 2**63 - 1  # of a sequence

UNFIT = (TypeError, ValueError, OverflowError)  # by msgpack; UnicodeEncodeError (lone surrogates) is a ValueError
WHAT_FITS = "integers have 64 bits, and texts no lone surrogates"

_BYTES = {bytes}

Headers = list[dict[str, Any] | None] | None


class Request(NamedTuple):
    """What a client asks for; `payload` is as it came, unchecked."""

    op: str
    sequence: int
    args: dict[str, Any]
    payload: bytes | None


class Reply(NamedTuple):
    """What the daemon answers: `status` is "ok" or an error code."""

    sequence: int
    status: str
    body: dict[str, Any]
    payload: bytes | None


def request(op: str, sequence: int, args: Mapping[str, Any], payload: bytes | None = None) -> list[bytes]:
    """The frames of one request. Raises InvalidArgument, which names the argument that cannot travel."""
    try:
        header = msgpack.packb((op, sequence, args))
    except UNFIT as fault:
        name, value = _unfit(args)
        raise InvalidArgument(f"{name} is {shown(value)}, which cannot travel: {fault}", WHAT_FITS) from fault
    return [MAGIC, header] if payload is None else [MAGIC, header, payload]


def _unfit(args: Mapping[str, Any]) -> tuple[str, object]:
    """What of these msgpack has no form for: its name, and its value."""
    for name, value in args.items():
        try:
            msgpack.packb(value)
        except UNFIT:
            return _unfit(value) if isinstance(value, Mapping) else (str(name), value)
    return "a name", [*args]


def reply(sequence: int, status: str, body: Mapping[str, Any], payload: bytes | None = None) -> list[bytes]:
    """The frames of one reply."""
    header = msgpack.packb((sequence, status, body))
    return [MAGIC, header] if payload is None else [MAGIC, header, payload]


def refusal(sequence: int, error: PenstockError) -> list[bytes]:
    """The frames that carry an error."""
    return reply(sequence, error.code, to_body(error))


def parse_request(frames: Sequence[bytes]) -> Request:
    """One request out of its frames. Raises ProtocolError, which says which frame is wrong and how."""
    (op, sequence, args), payload = _parse(frames, "[op, sequence, args]")
    if type(op) is not str or type(args) is not dict or type(sequence) is not int or not LOW <= sequence <= HIGH:
        raise ProtocolError("a request header must be msgpack [op: text, sequence: integer, args: map]")
    return Request(op, sequence, args, payload)


def parse_reply(frames: Sequence[bytes]) -> Reply:
    """One reply out of its frames. Raises ProtocolError."""
    (sequence, status, body), payload = _parse(frames, "[sequence, status, body]")
    if type(status) is not str or type(body) is not dict or type(sequence) is not int:
        raise ProtocolError("a reply header must be msgpack [sequence: integer, status: text, body: map]")
    return Reply(sequence, status, body, payload)


def _parse(frames: Sequence[bytes], shape: str) -> tuple[tuple[Any, Any, Any], bytes | None]:
    if len(frames) not in (2, 3):
        raise ProtocolError(f"a message has 2 or 3 frames, this one {len(frames)}", 'send "PS1", header, payload?')
    if frames[0] != MAGIC:
        raise ProtocolError(
            f"the first frame is {bytes(frames[0][:8])!r}, not {MAGIC!r}", "this is no Penstock client?"
        )
    try:
        header = msgpack.unpackb(frames[1], use_list=False)
    except Exception as fault:  # msgpack raises a dozen kinds; all of them are the sender's fault
        raise ProtocolError(f"the header is not msgpack: {type(fault).__name__}", f"send {shape}") from fault
    if type(header) is not tuple or len(header) != 3:
        raise ProtocolError(f"a header must be msgpack {shape}")
    return header, frames[2] if len(frames) == 3 else None


# -- payloads: msgpack [bodies, headers] ------------------------------------------------------------------------------


def pack_payload(bodies: Sequence[bytes], headers: Headers = None) -> bytes:
    """The payload frame for these bodies."""
    packed: bytes = msgpack.packb((bodies, headers))
    return packed


def unpack_payload(payload: bytes) -> tuple[list[bytes], Headers]:
    """Bodies and headers of a payload. Raises ProtocolError if it has another shape."""
    try:
        value = msgpack.unpackb(payload)
    except Exception as fault:  # as in _parse: whatever msgpack raises, the bytes are at fault
        raise ProtocolError(f"the payload is not msgpack: {type(fault).__name__}", "send [bodies, headers]") from fault
    if type(value) is not list or len(value) != 2 or type(value[0]) is not list:
        raise ProtocolError("a payload must be msgpack [bodies, headers]")
    bodies, headers = value
    if not {*map(type, bodies)} <= _BYTES:
        raise ProtocolError("each body of a payload must be bin (bytes)")
    if headers is not None:
        _check_headers(headers, len(bodies))
    return bodies, headers


def _check_headers(headers: object, count: int) -> None:
    if type(headers) is not list or len(headers) != count:
        raise ProtocolError("the headers of a payload must be nil or a list as long as the bodies")
    for header in headers:
        if header is not None and (type(header) is not dict or any(type(key) is not str for key in header)):
            raise ProtocolError("each header of a payload must be nil or a map with text keys")
