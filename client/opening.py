"""How a client comes to be: its arguments are checked, and one node has answered."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

from ..peers import wire
from ..peers.errors import InvalidArgument
from ..peers.units import Duration, duration_ms
from . import calls
from .async_client import AsyncClient
from .async_connection import AsyncConnection
from .awaiting import Opening, like
from .client import Client
from .connection import Connection

DEFAULT_ENDPOINT = "tcp://127.0.0.1:7470"
SCHEMES = ("tcp://", "ipc://")


def connect(
    endpoint: str | Sequence[str] | None = None,
    user: str | None = None,
    password: str | None = None,
    *,
    retry_for: Duration = "25s",
    read_only: bool = False,
    name: str | None = None,
) -> Client:
    """A client, connected. `endpoint`: one address of a node, or those of several ("tcp://host:port", "ipc:///path");
    None: those in the environment's PENSTOCK_ENDPOINT, with spaces between, as the command line and a task in a pool
    have them, or else tcp://127.0.0.1:7470.

    `retry_for` (seconds, "1m" or a timedelta): how long each request looks for a daemon that can serve it, with rising
    pauses, before it fails with Timeout, or NoQuorum where nodes answer but none is the primary. `read_only`: any node
    will do, and answers reads from its own copy, which may be old (`Client.staleness`); everything else is refused.
    `name` tells people at the daemon who you are, as in the history of a job: the host and the number of the process,
    if it is None. Raises Timeout if nobody answers, NoQuorum, Unauthenticated, InvalidArgument.
    """
    connection = Connection(*_checked(endpoint, user, password, retry_for, read_only, name))
    try:
        connection.call("ping", {})
    except BaseException:
        connection.close()
        raise
    return Client(connection)


@like(connect)
def connect_async(
    endpoint: str | Sequence[str] | None = None,
    user: str | None = None,
    password: str | None = None,
    *,
    retry_for: Duration = "25s",
    read_only: bool = False,
    name: str | None = None,
) -> Opening[AsyncClient]:
    async def connected() -> AsyncClient:
        connection = AsyncConnection(*_checked(endpoint, user, password, retry_for, read_only, name))
        try:
            await connection.run(calls.ask("ping"))
        except BaseException:
            await connection.close()
            raise
        return AsyncClient(connection)

    return Opening(connected)


def _checked(
    endpoint: str | Sequence[str] | None,
    user: str | None,
    password: str | None,
    retry_for: Duration,
    read_only: bool,
    name: str | None,
) -> tuple[list[str], dict[str, Any], int]:
    """What a connection is made of. Raises InvalidArgument."""
    if endpoint is None:
        endpoint = os.environ.get("PENSTOCK_ENDPOINT", "").split() or DEFAULT_ENDPOINT
    endpoints = [endpoint] if isinstance(endpoint, str) or not isinstance(endpoint, Sequence) else list(endpoint)
    if not endpoints or not all(isinstance(each, str) and each.startswith(SCHEMES) for each in endpoints):
        raise InvalidArgument(f"endpoint is {endpoint!r}", 'give one such as "tcp://127.0.0.1:7470", or a list of them')
    if name is not None and not isinstance(name, str):
        raise InvalidArgument(f"name is of type {type(name).__name__}", "give text")
    hello: dict[str, Any] = {"version": wire.VERSION, "client": name or f"{socket.gethostname()}:{os.getpid()}"}
    if user is not None:
        hello["user"], hello["password"] = user, password
    if read_only:
        hello["read_only"] = True
    return endpoints, hello, duration_ms(retry_for, "retry_for")
