"""What values in daemon.toml may be: readers of (value, key), which refuse with the key and what would be right."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from ..peers.errors import InvalidArgument
from ..peers.units import duration_ms, size_bytes

PUBLIC_KEY = re.compile(r"[0-9A-Za-z.:+=^!/*?&<>()\[\]{}@%$#-]{40}")  # in Z85
IPC_PATH_MAX = 107  # bytes; the kernel cuts longer socket paths, and then nobody finds the socket
Reader = Callable[[Any, str], Any]


def refuse(key: str, value: object, right: str) -> InvalidArgument:
    return InvalidArgument(f"{key} is {value!r}", right)


def integer(low: int, high: int) -> Reader:
    def read(value: Any, key: str) -> int:
        if type(value) is not int or not low <= value <= high:
            raise refuse(key, value, f"give an integer from {low} to {high}")
        return value

    return read


def one_of(*choices: str) -> Reader:
    def read(value: Any, key: str) -> str:
        if value not in choices:
            raise refuse(key, value, "give one of " + ", ".join(f'"{choice}"' for choice in choices))
        return str(value)

    return read


def text(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise refuse(key, value, "give a text that is not empty")
    return value


def flag(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise refuse(key, value, "give true or false")
    return value


def texts(value: Any, key: str) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) and item.strip() for item in items):
        raise refuse(key, value, "give a text or a list of texts")
    return tuple(items)


def size(low: int) -> Reader:
    def read(value: Any, key: str) -> int:
        size = size_bytes(value, key)
        if size < low:
            raise refuse(key, value, f"give at least {low} bytes")
        return size

    return read


def duration(low_ms: int) -> Reader:
    def read(value: Any, key: str) -> int:
        length_ms = duration_ms(value, key)
        if length_ms < low_ms:
            raise refuse(key, value, f"give at least {low_ms} ms")
        return length_ms

    return read


def endpoints(value: Any, key: str) -> tuple[str, ...]:
    endpoints = texts(value, key)
    if not endpoints:
        raise refuse(key, value, 'give at least one endpoint, such as "tcp://127.0.0.1:7470"')
    for endpoint in endpoints:
        _check_endpoint(endpoint, key)
    return endpoints


def public_key(value: Any, key: str) -> str:
    if not isinstance(value, str) or not PUBLIC_KEY.fullmatch(value):
        raise refuse(key, value, "give the 40 characters that `penstock init` shows on that node")
    return value


def endpoint(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise refuse(key, value, 'give an endpoint, such as "tcp://127.0.0.1:7471"')
    _check_endpoint(value, key)
    return value


def _check_endpoint(endpoint: str, key: str) -> None:
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc" and rest:
        if len(rest.encode()) > IPC_PATH_MAX:
            raise refuse(key, endpoint, f"the path of an ipc socket has at most {IPC_PATH_MAX} bytes")
        return
    host, _, port = rest.rpartition(":")
    if scheme == "tcp" and host and (port == "*" or (port.isdecimal() and int(port) < 65536)):
        return
    raise refuse(key, endpoint, 'give "tcp://HOST:PORT" (PORT may be *: any free one) or "ipc://PATH"')


def reachable(endpoint: str) -> bool:
    """Can another machine reach this endpoint? A host name counts as reachable, unless it is localhost."""
    if not endpoint.startswith("tcp://"):
        return False
    host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True
