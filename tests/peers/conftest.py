"""Nodes that end with their test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kit.peers import Node


@pytest.fixture
def make() -> Iterator[Callable[..., Node]]:
    made: list[Node] = []

    def make(*args: Any, **options: Any) -> Node:
        made.append(Node(*args, **options))
        return made[-1]

    yield make
    for node in made:
        node.close()
