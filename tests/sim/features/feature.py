"""What a feature brings to the world: queues, clients, and what has to hold of its ledger when all is over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..clients import Client
from ..ledger import Ledger


class Feature(NamedTuple):
    """`founds`: (op, args) that make what it needs. `judge`: sentences, one for each promise that was broken."""

    name: str
    founds: tuple[tuple[str, dict[str, Any]], ...]
    clients: tuple[type[Client], ...]
    judge: Callable[[Ledger], Iterable[str]]


def queue(name: str, **options: Any) -> tuple[str, dict[str, Any]]:
    return "create", {"name": name, "kind": "queue", "options": options}
