"""Virtual time: a calendar of what happens when, and the story of what happened last."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Any

from .checks import show

HISTORY = 80


class Timeline:
    """`run_until` plays what was put down with `at`, in the order of time, and of asking where that is the same."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.history: deque[tuple[int, str, str, Any]] = deque(maxlen=HISTORY)
        self._calendar: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, at_ms: int, what: Callable[..., None], *arguments: Any) -> None:
        self._count += 1
        heapq.heappush(self._calendar, (at_ms, self._count, what, arguments))

    def run_until(self, end_ms: int) -> None:
        calendar = self._calendar
        while calendar and calendar[0][0] <= end_ms:
            self.now_ms, _, what, arguments = heapq.heappop(calendar)
            what(*arguments)
        self.now_ms = end_ms

    def note(self, who: int | str, what: str, about: Any = None) -> None:
        self.history.append((self.now_ms, str(who or "-"), what, about))

    def story(self) -> str:
        """The last events, one a line."""
        lines = []
        for at_ms, who, what, about in self.history:
            if type(about) is tuple and len(about) == 2 and isinstance(about[1], tuple):
                about = f"{about[0]}: {show(about[1])}"
            elif about is not None and not isinstance(about, str):
                about = show(about)
            lines.append(f"{at_ms / 1000:9.3f}  {who}  {what} {about or ''}")
        return "\n".join(lines)
