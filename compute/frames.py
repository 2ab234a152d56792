"""What runner, ranks and helpers say to each other: a header that everyone reads, a payload that only the ends open."""

from __future__ import annotations

import socket
import struct
from enum import IntEnum
from typing import Any, NamedTuple

import msgpack

from .notes import Notes

_HEADER = struct.Struct("<BHIQIId")  # kind, rank, chunk, batch, first, size, seconds
_LENGTH = struct.Struct("<I")


class Kind(IntEnum):
    JOBS = 1  # payload [task, bodies, notes]: one by one or (batch task) in one call; seconds: the time limit, 0: none
    ALONE = 2  # the same, but each job in a call of its own
    COLLECTIVE = 3  # payload [task, bodies (one), notes, ranks, keep]: run it together with these ranks
    RESULTS = 4  # payload [results, faults]: `size` jobs from `first` on have ended
    MEMBER = 5  # payload [results, faults]: this rank has ended its part of a collective job
    OVER = 6  # all members have ended, one of them in an error: forget the communicator
    STARTED = 7  # a collective job begins now
    DROP = 8  # forget what has not begun
    DROPPED = 9  # these jobs had not begun
    READY = 10  # payload {"ranks": pids, "helpers": pids, "hosts": names}
    STOP = 11  # end cleanly
    HELPER = 12  # payload: pid of a helper that took the place of a dead one
    TOLD = 13  # payload [[place, progress, lines, left_out], ...]: what running jobs say of themselves
    KILL = 14  # the job at `first` was cancelled, and its time to end by itself is over


class Frame(NamedTuple):
    """One message, about `size` jobs from place `first` of their batch on. In results, `rank` and `seconds` say where
    and how long they ran."""

    kind: Kind
    chunk: int = 0
    batch: int = 0
    first: int = 0
    size: int = 0
    rank: int = 0
    seconds: float = 0.0
    payload: bytes | memoryview = b""

    def encode(self) -> bytes:
        header = _HEADER.pack(self.kind, self.rank, self.chunk, self.batch, self.first, self.size, self.seconds)
        return b"".join((header, self.payload))


class Fault(NamedTuple):
    """Why one job failed. `error` is a packed error map; a `final` one would fail again however often it were tried."""

    place: int
    error: bytes
    final: bool = False


def decode(data: bytes | bytearray) -> Frame:
    kind, rank, chunk, batch, first, size, seconds = _HEADER.unpack_from(data)
    return Frame(Kind(kind), chunk, batch, first, size, rank, seconds, memoryview(data)[_HEADER.size :])


class Jobs(NamedTuple):
    """Some jobs of one task."""

    task: str
    bodies: list[bytes]
    notes: Notes

    def cut(self, first: int, end: int) -> Jobs:
        return Jobs(self.task, self.bodies[first:end], self.notes.cut(first, end))


def pack_jobs(jobs: Jobs) -> bytes:
    return bytes(msgpack.packb(jobs))


def unpack_jobs(payload: bytes | memoryview) -> Jobs:
    task, bodies, notes = unpack(payload)
    return Jobs(task, bodies, Notes(*notes))


def pack_results(results: list[bytes | None], faults: list[Fault]) -> bytes:
    return bytes(msgpack.packb([results, faults]))


def unpack_results(payload: bytes | memoryview) -> tuple[list[bytes | None], list[Fault]]:
    """The packed results in the order of the jobs (None where a job failed) and the faults, by place in the batch."""
    results, faults = unpack(payload)
    return results, [Fault(*fault) for fault in faults]


def pack(value: Any) -> bytes:
    return bytes(msgpack.packb(value))


def unpack(payload: bytes | memoryview) -> Any:
    return msgpack.unpackb(payload, strict_map_key=False)


def write(stream: socket.socket, frame: Frame) -> None:
    data = frame.encode()
    stream.sendall(_LENGTH.pack(len(data)) + data if len(data) < 65536 else _LENGTH.pack(len(data)))
    if len(data) >= 65536:
        stream.sendall(data)


def read(stream: socket.socket) -> Frame | None:
    """The next frame; None if the other end is gone, also in the middle of one."""
    length = _read_exactly(stream, _LENGTH.size)
    data = None if length is None else _read_exactly(stream, _LENGTH.unpack(length)[0])
    return None if data is None else decode(data)


def _read_exactly(stream: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        try:
            got = stream.recv_into(view)
        except ConnectionResetError:
            return None
        if got == 0:
            return None
        view = view[got:]
    return data
