"""How what a job tells leaves the process that runs it: gathered, twice a second at most, and before its result."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ..peers.errors import InvalidArgument
from .cancels import Cancels
from .frames import Frame, Kind, pack, unpack
from .words import Words

TELL_S = 0.5  # at most so often; what comes in between waits


class Teller:
    """Gathers words. `send` takes the frames.

    `by_timer`: a thread sends what waits for its time. Without (where only the main thread may send), it waits until
    the main thread says something again, or until the job ends.
    """

    def __init__(self, send: Callable[[Frame], None], cancels: Cancels, by_timer: bool) -> None:
        self.lock = threading.RLock()  # of `send`, too
        self._send = send
        self._cancels = cancels
        self._by_timer = by_timer
        self._words: dict[int, dict[int, Words]] = {}  # by batch and place
        self._due_s = 0.0
        self._timer: threading.Timer | None = None
        self._pid = os.getpid()

    def voice(self, batch: int) -> JobVoice:
        """That of the jobs of a batch."""
        return JobVoice(self, batch)

    def say(self, batch: int, place: int, progress: tuple[float, str] | None, lines: Sequence[str] = ()) -> None:
        """It is sent now, or soon."""
        if os.getpid() != self._pid:
            raise InvalidArgument("a process that a task has started cannot speak for its job", "let the task tell it")
        with self.lock:
            self._words.setdefault(batch, {}).setdefault(place, Words()).add(progress, lines)
            left_s = self._due_s - time.monotonic()
            if not self._by_timer and threading.current_thread() is not threading.main_thread():
                return
            if left_s <= 0:
                self.flush()
            elif self._by_timer and self._timer is None:
                self._timer = threading.Timer(left_s, self.flush)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """All that was said leaves now: a result that is sent after this comes after it."""
        if not self._words:
            return
        with self.lock, suppress(OSError):  # the rank is gone: it takes this process with it, and hears no more words
            if self._timer is not None:
                self._timer.cancel()
            words, self._words, self._timer = self._words, {}, None
            self._due_s = time.monotonic() + TELL_S
            for batch, said in words.items():
                payload = pack([[place, *each.pack()] for place, each in said.items()])
                self._send(Frame(Kind.TOLD, batch=batch, size=len(said), payload=payload))

    def cancelled(self, batch: int, place: int) -> bool:
        return self._cancels.holds(batch, place)


class JobVoice:
    """What `CurrentJob` speaks with, for the jobs of one batch."""

    __slots__ = ("_batch", "_teller")

    def __init__(self, teller: Teller, batch: int) -> None:
        self._teller = teller
        self._batch = batch

    def progress(self, place: int, fraction: float, text: str) -> None:
        self._teller.say(self._batch, place, (fraction, text))

    def log(self, place: int, lines: Sequence[str]) -> None:
        self._teller.say(self._batch, place, None, lines)

    def cancelled(self, place: int) -> bool:
        return self._teller.cancelled(self._batch, place)


class ListeningVoice:
    """That of a rank which is not the first one of a collective job: it hears, and leaves the speaking to that one."""

    __slots__ = ("_batch", "_cancels")

    def __init__(self, cancels: Cancels, batch: int) -> None:
        self._cancels = cancels
        self._batch = batch

    def progress(self, place: int, fraction: float, text: str) -> None:
        pass

    def log(self, place: int, lines: Sequence[str]) -> None:
        pass

    def cancelled(self, place: int) -> bool:
        return self._cancels.holds(self._batch, place)


def words_of(payload: bytes | memoryview) -> list[tuple[int, Words]]:
    """What a frame of told words says, by place in its batch."""
    told: list[list[Any]] = unpack(payload)
    return [(place, Words.unpack(packed)) for place, *packed in told]
