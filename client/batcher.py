"""When a producer's messages leave, and in which batches. Pure: no sockets, no clock.

A batch leaves when it is full, when nothing of this producer is under way and it has lingered long enough, or when
somebody waits for it. So a lone message goes at once, and under load batches grow by themselves while the one before
is under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..peers.errors import InvalidArgument, PenstockError
from .headers import Header
from .properties import Shape

BATCH_MAX = 1_000  # messages
BATCH_BYTES = 256 * 2**10
FLYING_MAX = 16  # batches under way
FLYING_BYTES = 16 * 2**20
MESSAGE_OVERHEAD = 16  # bytes that a message costs in memory and on the wire beside its body, roughly


class Batch:
    """Messages that travel together. Once `done`, it has the `offset` of its first message, or an `error`."""

    __slots__ = (
        "bodies",
        "born_ms",
        "done",
        "error",
        "full",
        "headers",
        "log_index",
        "max_bytes",
        "max_messages",
        "offset",
        "sent",
        "shape",
        "size",
        "times",
        "told",
        "wanted",
    )

    def __init__(
        self,
        shape: Shape | None = None,
        born_ms: int = 0,
        max_messages: int = BATCH_MAX,
        max_bytes: int = BATCH_BYTES,
    ) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[Header] | None = None  # None: no message has any
        self.shape = shape  # None: its messages have no properties
        self.times: list[int] = []  # one for each message, if the shape has a clock
        self.size = 0
        self.max_messages, self.max_bytes = max_messages, max_bytes
        self.full = False  # it must leave before another message comes
        self.born_ms = born_ms
        self.wanted = False  # somebody waits for it: no lingering
        self.sent = False
        self.done = False
        self.offset = -1
        self.log_index = 0  # outcomes of its messages come after this place in the log
        self.error: PenstockError | None = None
        self.told = False  # somebody has seen the error

    def add(self, body: bytes, size: int, header: Header = None) -> int:
        """Add a message of `size` bytes. Which one of the batch it is, from 0 on."""
        bodies = self.bodies
        index = len(bodies)
        bodies.append(body)
        if header is not None:
            self._add_header(index, header)
        self.size = total = self.size + size + MESSAGE_OVERHEAD
        if total >= self.max_bytes or index + 1 >= self.max_messages:
            self.full = True
        return index

    def _add_header(self, index: int, header: Header) -> None:
        if self.headers is None:
            self.headers = [None] * index
        else:
            self.headers += [None] * (index - len(self.headers))
        self.headers.append(header)

    def all_headers(self) -> list[Header] | None:
        """One header for each message, or None if there is none."""
        if self.headers is not None:
            self.headers += [None] * (len(self.bodies) - len(self.headers))
        return self.headers

    def properties(self) -> Mapping[str, Any]:
        """What the request says of its messages."""
        if self.shape is None:
            return {}
        args, clock = self.shape
        if not clock:
            return args
        return {**args, clock: self.times[0] if len(set(self.times)) == 1 else self.times}


class Batcher:
    """The open batch of a producer and what is under way."""

    def __init__(self, linger_ms: int = 0, batch_max: int = BATCH_MAX, batch_bytes: int = BATCH_BYTES) -> None:
        if batch_max < 1 or batch_bytes < 1:
            raise InvalidArgument("batch_max and batch_bytes must be at least 1")
        self.open: Batch | None = None
        self.flying: list[Batch] = []
        self.flying_bytes = 0
        self._linger_ms = linger_ms
        self._max, self._bytes = batch_max, batch_bytes

    def begin(self, shape: Shape | None = None, now_ms: int = 0) -> Batch:
        """A new open batch; there is none."""
        self.open = batch = Batch(shape, now_ms, self._max, self._bytes)
        return batch

    def due(self, now_ms: int) -> Batch | None:
        """The open batch, if it shall leave now."""
        batch = self.open
        if batch is None:
            return None
        if batch.wanted or batch.full:
            return batch
        return batch if not self.flying and now_ms - batch.born_ms >= self._linger_ms else None

    def due_ms(self) -> int | None:
        """When the open batch has lingered long enough; None if something else must happen first."""
        return self.open.born_ms + self._linger_ms if self.open is not None and not self.flying else None

    def crowded(self) -> bool:
        """Is so much under way that the sender has to wait?"""
        return len(self.flying) >= FLYING_MAX or self.flying_bytes >= FLYING_BYTES

    def left(self, batch: Batch) -> None:
        """It is under way."""
        if batch is self.open:
            self.open = None
        batch.sent = True
        self.flying.append(batch)
        self.flying_bytes += batch.size

    def landed(self, batch: Batch, offset: int, log_index: int, error: PenstockError | None) -> None:
        """It has its answer. The messages themselves are let go: a receipt may live on for long."""
        self.flying.remove(batch)
        self.flying_bytes -= batch.size
        batch.bodies, batch.headers, batch.shape, batch.times = [], None, None, []
        batch.offset, batch.log_index = offset, log_index
        batch.error, batch.done = error, True
