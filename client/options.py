"""The options of queues and topics, as users give them and as they travel."""

from __future__ import annotations

from enum import Enum
from typing import Any

from ..peers.units import duration_ms, size_bytes


class Keep(Enum):
    """The mark of an option that was not given: None means "no limit"."""

    KEEP = "keep"


KEEP = Keep.KEEP


def pack_options(
    max_messages: int | Keep | None = KEEP,
    max_bytes: int | str | Keep | None = KEEP,
    max_failures: int | Keep | None = KEEP,
    retry_delay: float | str | Keep = KEEP,
    result_ttl: float | str | Keep = KEEP,
    retention: float | str | Keep | None = KEEP,
) -> dict[str, Any]:
    """The options that were given. Raises InvalidArgument for what is no duration or size."""
    options: dict[str, Any] = {}
    if max_messages is not KEEP:
        options["max_messages"] = max_messages
    if max_bytes is not KEEP:
        options["max_bytes"] = None if max_bytes is None else size_bytes(max_bytes, "max_bytes")
    if max_failures is not KEEP:
        options["max_failures"] = max_failures
    if retry_delay is not KEEP:
        options["retry_delay_ms"] = duration_ms(retry_delay, "retry_delay")
    if result_ttl is not KEEP:
        options["result_ttl_ms"] = duration_ms(result_ttl, "result_ttl")
    if retention is not KEEP:
        options["retention_ms"] = None if retention is None else duration_ms(retention, "retention")
    return options
