"""Fixtures for pytest: put `pytest_plugins = ["penstock.testing.fixtures"]` into the conftest.py at the root of your
tests, or import the fixtures that you want into any conftest.py.

They are no plugin that pytest loads by itself: `client` is a name that many suites have already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ..client import Client
from .broker import Broker


@pytest.fixture
def broker() -> Iterator[Broker]:
    """A broker for one test. Write a fixture of this name to have another one, such as `Broker(nodes=3)`."""
    with Broker() as broker:
        yield broker


@pytest.fixture
def client(broker: Broker) -> Client:
    """A client of `broker`, which ends with it."""
    return broker.connect()


@pytest.fixture
def crash_primary(broker: Broker) -> Callable[[], None]:
    """Call it to crash the node of `broker` that serves: another one takes over, or it comes back itself."""
    return broker.crash_primary
