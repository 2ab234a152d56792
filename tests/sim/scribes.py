"""A client who writes down how the jobs of a queue end, and where in the log they did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.client.requests import Request

from .clients import Client

if TYPE_CHECKING:
    from .world import World


class Scribe(Client):
    """Sees all outcomes of `watched`, a step of the log at a time."""

    is_replaceable = False  # what it saw would be lost with it

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.after = 0

    def act(self, now_ms: int) -> int:
        if not self.under_way:
            args = {"queue": self.watched, "after": self.after, "limit": 1, "wait_ms": 1000}
            self.ask("outcomes", args, self._ended, counted=False)
        return now_ms + 200

    def _ended(self, request: Request) -> None:
        if request.error is not None:
            return
        self.after = request.body["next"]
        for first, count, status, reason in request.body["outcomes"]:
            for offset in range(first, first + count):
                self.world.ledger.ended[self.watched, offset].append(f"{status}: {reason}")
                self.world.ledger.ended_at[self.watched, offset] = self.after
