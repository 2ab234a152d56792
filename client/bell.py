"""A bell that wakes a thread out of a poll."""

from __future__ import annotations

import contextlib
import os
import select
import weakref


class Bell:
    """Wakes a thread that polls `fd`. May be rung from anywhere, also from a signal handler."""

    def __init__(self) -> None:
        self.fd, self._writer = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._writer, False)
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLIN)
        # Not at the end of the program: the system closes them, and threads may still wait for this bell.
        weakref.finalize(self, _close, self.fd, self._writer).atexit = False

    def ring(self) -> None:
        # Full: it has been rung 65536 times and not been heard yet. That will do.
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"!")

    def hush(self) -> None:
        """Be silent until it is rung again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 65536)

    def wait(self, timeout_ms: int | None = None) -> None:
        """Sleep until it rings, or until the time is over."""
        if self._poll.poll(timeout_ms):
            self.hush()


def _close(reader: int, writer: int) -> None:
    os.close(reader)
    os.close(writer)
