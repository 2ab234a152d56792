"""What a primary has said and may not send until a majority holds what it speaks of, and confirms it as the primary."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

Frames = list[bytes]
Message = tuple[bytes, Frames]


class Held(NamedTuple):
    """The messages of one turn: true once `index` is committed and broadcast `round` is confirmed."""

    index: int  # type: ignore[assignment]
    round: int
    messages: list[Message]


class Outbox:
    """Messages leave in the order of their turns. A cluster of one confirms at once, so nothing stays here."""

    def __init__(self) -> None:
        self._held: deque[Held] = deque()

    def __len__(self) -> int:
        return len(self._held)

    def put(self, index: int, round: int, messages: list[Message]) -> None:
        if messages:
            self._held.append(Held(index, round, messages))

    def release(self, commit: int, confirmed_round: int) -> list[Message]:
        """What may leave now."""
        free: list[Message] = []
        while self._held and self._held[0].index <= commit and self._held[0].round <= confirmed_round:
            free += self._held.popleft().messages
        return free

    def discard(self) -> list[Message]:
        """We are primary no more: nobody knows what will become of what these speak of."""
        lost = [message for held in self._held for message in held.messages]
        self._held.clear()
        return lost
