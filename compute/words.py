"""What a job tells while it runs: how far it is, and lines of its log. Held back for a while, it stays small."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

TEXT_MAX = 500  # characters of the text of a progress
LINE_MAX = 2_000  # characters
LINES_MAX = 999  # what the daemon keeps of one job, with room for the line that says how many were left out
LINES_BYTES = 63 << 10


class Words:
    """The latest `progress` of one job, (fraction, text), and the latest lines of its log; `left_out`: how many were
    before these."""

    __slots__ = ("_lines", "_size", "left_out", "progress")

    def __init__(self) -> None:
        self.progress: tuple[float, str] | None = None
        self.left_out = 0
        self._lines: deque[str] = deque()
        self._size = 0

    def add(self, progress: tuple[float, str] | None, lines: Iterable[str] = (), left_out: int = 0) -> None:
        """Something later. Progress takes the place of what was told of it before, lines follow the others."""
        if progress is not None:
            self.progress = progress
        self.left_out += left_out
        for line in lines:
            self._lines.append(line)
            self._size += len(line.encode())
        while len(self._lines) > LINES_MAX or self._size > LINES_BYTES:
            self._size -= len(self._lines.popleft().encode())
            self.left_out += 1

    @property
    def said(self) -> list[str]:
        """The lines that are here."""
        return list(self._lines)

    @property
    def lines(self) -> list[str]:
        """The lines, the first of which says if some were left out."""
        return [*([f"... {self.left_out} lines were left out"] if self.left_out else []), *self._lines]

    def pack(self) -> list[Any]:
        return [self.progress, self.said, self.left_out]

    @classmethod
    def unpack(cls, packed: Any) -> Words:
        """What `pack` packed."""
        words = cls()
        progress, lines, left_out = packed
        words.add(None if progress is None else (progress[0], progress[1]), lines, left_out)
        return words


def clean(text: str, size_max: int) -> str:
    """Text as it can travel: not too long, and nothing in it that UTF-8 cannot say."""
    return text[:size_max].encode(errors="replace").decode()
