"""A thread that waits for jobs, since waiting for them and hearing the ranks at once takes two."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ..peers.errors import Closed, PenstockError
from .source import Source

log = logging.getLogger("penstock")

TAKE_MAX = 4096  # one batch: bounds a frame, and how long the ranks wait for its first job
WAIT_S = 0.5  # bounds how long a stop waits for this thread
RETRY_S = 1.0  # after an error that may pass


class Feeder:
    """Takes jobs while there is room for them. `ear` is readable when there are some, or when it has ended."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._changed = threading.Condition()
        self._limit = 0
        self._taken = 0
        self._step = 1
        self._stopping = False
        self._batches: deque[Sequence[Any]] = deque()
        self.ear, self._bell = socket.socketpair()
        self.ear.setblocking(False)
        self.error: PenstockError | None = None
        self.first_ms: int | None = None  # when the first job came
        self._thread = threading.Thread(target=self._run, name="penstock-feeder", daemon=True)
        self._thread.start()

    @property
    def taken(self) -> int:
        """How many jobs it took in all its life."""
        return self._taken

    def allow(self, limit: int, step: int = 1) -> None:
        """Take until `taken` is `limit`, but not fewer than `step` at a time: each taking costs a request."""
        with self._changed:
            self._limit, self._step = limit, step
            self._changed.notify()

    def batches(self) -> list[Sequence[Any]]:
        """What it has taken since the last call."""
        with suppress(BlockingIOError):
            self.ear.recv(4096)
        found = []
        while self._batches:
            found.append(self._batches.popleft())
        return found

    def stop(self) -> None:
        """Take no more. What was taken is still in `batches`."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def join(self) -> None:
        self._thread.join()
        self._bell.close()

    def close(self) -> None:
        self.ear.close()

    def _run(self) -> None:
        try:
            while (room := self._room()) > 0:
                try:
                    batch = self._source.take(min(room, TAKE_MAX), WAIT_S)
                except PenstockError as error:
                    if not error.retryable or isinstance(error, Closed):
                        raise
                    self._rest(error)
                    continue
                if batch:
                    self.first_ms = self.first_ms or time.time_ns() // 1_000_000
                    self._taken += len(batch)
                    self._batches.append(batch)
                    self._bell.send(b"!")
        except PenstockError as error:
            self.error = error
            self._bell.send(b"!")

    def _room(self) -> int:
        """How many to take; waits until there is room. 0: stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._limit - self._taken >= self._step)
            return 0 if self._stopping else self._limit - self._taken

    def _rest(self, error: PenstockError) -> None:
        log.warning("%s: %s; trying again", error.code, error)
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, timeout=RETRY_S)
