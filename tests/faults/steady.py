"""Nobody is disturbed: while something is done to one node, the others keep their primary."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import penstock
from faults.crew import LIMIT_S


class Look(NamedTuple):
    """What a node says of itself."""

    primary: int | None
    term: int
    slow_commits: int


@contextlib.contextmanager
def steady(nodes: Mapping[int, str]) -> Iterator[Callable[[], None]]:
    """Meanwhile none of these nodes (id: endpoint) gets another primary or a higher term; what is yielded looks.

    One excuse counts: this machine's own disk stood still for one of them. Who waits for it is silent, and replaced.
    """
    before = {node: look(endpoint) for node, endpoint in nodes.items()}

    def check() -> None:
        now = {node: look(endpoint) for node, endpoint in nodes.items()}
        excused = any(now[node].slow_commits != was.slow_commits for node, was in before.items())
        alike = all(now[node][:2] == was[:2] for node, was in before.items())
        assert alike or excused, (before, now)

    yield check
    check()


def look(endpoint: str) -> Look:
    """Wait until it answers: a busy machine may let one question go unanswered for a while."""
    with penstock.connect(endpoint, read_only=True, retry_for=LIMIT_S) as client:
        info, counters = client.cluster(), client.status()["counters"]
    return Look(info.primary, info.term, counters["slow_commits"])
