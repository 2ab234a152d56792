"""Arguments and results of jobs as bytes: msgpack, with numpy arrays as extension type 78. Never pickle."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgpack

from .errors import InvalidArgument, ProtocolError

if TYPE_CHECKING:
    import numpy

ARRAY = 78  # "N": msgpack [dtype text, shape list, bytes in C order]
HEAD_MAX = 1024  # dtype and shape of an array fit in this many bytes; a dtype text longer than that is none of numpy's
BIN_MARKS = {0xC4: 1, 0xC5: 2, 0xC6: 4}  # msgpack's bin formats -> how many bytes of length follow

WHAT_FITS = "use None, bool, int (64 bits), float, str, bytes, lists, maps and numpy arrays"


def pack(value: Any) -> bytes:
    """The bytes of a value: None, bool, int (64 bits), float, str, bytes, list, tuple (comes back as list), dict, numpy
    array or numpy scalar (comes back as a Python number).

    Raises InvalidArgument for anything else; it names the type.
    """
    try:
        packed: bytes = msgpack.packb(value, default=_pack_other)
    except (TypeError, ValueError, OverflowError) as fault:  # UnicodeEncodeError (lone surrogates) is a ValueError
        raise InvalidArgument(f"this value cannot travel: {fault}", WHAT_FITS) from fault
    return packed


def unpack(data: bytes | memoryview) -> Any:
    """The value of bytes that `pack` made. Arrays are read-only views of memory of their own, copied once.

    Raises ProtocolError if the bytes are no such value.
    """
    try:
        return msgpack.unpackb(data, ext_hook=_unpack_other, strict_map_key=False)
    except ProtocolError:
        raise
    except Exception as fault:  # msgpack raises a dozen kinds; all of them mean that the bytes are no value
        raise ProtocolError(
            f"these bytes are no value: {type(fault).__name__}: {fault}", "pack it with msgpack"
        ) from fault


def _pack_other(value: Any) -> Any:
    # Who has an array has imported numpy: this module need not.
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(value, numpy.ndarray):
            return msgpack.ExtType(ARRAY, pack_array(value))
        if isinstance(value, numpy.generic) and value.dtype.kind in "biufSU":
            return value.item()
    if isinstance(value, (memoryview, bytearray)):
        return bytes(value)
    kind = type(value)
    raise InvalidArgument(f"a {kind.__module__}.{kind.__qualname__} cannot travel", WHAT_FITS)


def pack_array(array: numpy.ndarray[Any, Any]) -> bytes:
    """The data of extension type 78. Raises InvalidArgument for dtypes that are not plain numbers, texts or bytes."""
    if array.dtype.hasobject or array.dtype.fields is not None:
        raise InvalidArgument(
            f"an array of dtype {array.dtype} cannot travel", "use a dtype of plain numbers, texts or bytes"
        )
    import numpy

    # ascontiguousarray would make a vector out of a number, hence the shape of the original.
    plain = numpy.ascontiguousarray(array)
    head = b"\x93" + msgpack.packb(array.dtype.str) + msgpack.packb(array.shape)
    # Dates and other dtypes export no buffer of their own, their bytes do. One copy: into the frame.
    return b"".join((head, b"\xc6", plain.nbytes.to_bytes(4, "big"), plain.reshape(-1).view(numpy.uint8).data))


def unpack_array(data: bytes) -> numpy.ndarray[Any, Any]:
    """The array that extension data stands for: a view of `data`, nothing is copied. Raises ProtocolError."""
    import numpy

    head = msgpack.Unpacker(max_buffer_size=HEAD_MAX)
    head.feed(data[:HEAD_MAX])
    try:
        if head.read_array_header() != 3:
            raise ValueError("it must be [dtype, shape, bytes]")
        dtype, shape, mark = numpy.dtype(head.unpack()), head.unpack(), head.tell()
        width = BIN_MARKS[data[mark]]
        start = mark + 1 + width
        size = int.from_bytes(data[mark + 1 : start], "big")
        if dtype.hasobject or size != len(data) - start:
            raise ValueError(f"dtype {dtype}, {len(data) - start} of {size} bytes")
        flat = numpy.frombuffer(data, numpy.uint8, offset=start)
        return flat.view(dtype).reshape(shape) if size else numpy.empty(shape, dtype)
    except Exception as fault:  # whatever numpy or msgpack raise here, the bytes are at fault
        raise ProtocolError(f"extension 78 holds no array: {type(fault).__name__}: {fault}") from fault


def _unpack_other(code: int, data: bytes) -> Any:
    if code == ARRAY:
        return unpack_array(data)
    raise ProtocolError(f"extension type {code} is unknown", f"only {ARRAY} (numpy arrays) is in use")
