"""Local reads: one node says what it knows, also when it knows no primary. What they must show is in `checks.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from penstock.client.requests import Request
from penstock.client.session import Session

from ..clients import Client
from ..ledger import Ledger
from ..machine import address_of
from .feature import Feature

if TYPE_CHECKING:
    from ..world import World

NAMES = ("work", "jobs", "events")


class Bystander(Client):
    """Asks one node, over and over."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        node = self.random.choice(list(world.seats))
        hello = {"version": 1, "client": name, "read_only": True}
        self.session = Session([address_of(node)[0]], hello, 60_000, world.random, world.now_ms)
        self._due_ms = 0

    def act(self, now_ms: int) -> int:
        if self.under_way < 3 and now_ms >= self._due_ms:
            op, args = self._question()
            self.ask(op, args, self._told, counted=False)
            self._due_ms = now_ms + self.random.randrange(1, 2 * self.world.pace_ms)
        return max(self._due_ms, now_ms + 100)

    def _question(self) -> tuple[str, dict[str, Any]]:
        name = self.random.choice(NAMES)
        return self.random.choice(
            (
                ("describe", {"name": name}),
                ("describe", {"name": name}),
                ("read", {"topic": NAMES[-1], "start": "earliest", "messages": 10}),
                ("job_status", {"queue": "jobs", "offsets": [0, 1, 2, 3]}),
                ("status", {}),
            )
        )

    def _told(self, request: Request) -> None:
        """The world has looked at the answer when it left."""


def judge(ledger: Ledger) -> Iterator[str]:
    yield from ()


LOCAL_READS = Feature("local reads", (), (Bystander, Bystander), judge)
