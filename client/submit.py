"""Jobs as messages: packed, cut into batches, sent, and handed back as `Job`s."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..peers import values
from ..peers.errors import PenstockError
from .connection import Connection
from .headers import TASK, Header
from .jobs import Job
from .producer import Producer

SUBMIT_BYTES = 4 * 2**20  # of arguments in one batch
SUBMIT_MAX = 5_000


def submit_many(connection: Connection, producer: Producer, many_args: Iterable[Any], task: str | None) -> list[Job]:
    """Send them and wait until all are durable. Raises the first refusal, after all have their answers."""
    header = None if task is None else {TASK: task}
    receipts = []
    packed = [values.pack(args) for args in many_args]
    for batch in batches(packed, min(SUBMIT_MAX, connection.session.max_batch)):
        headers: list[Header] | None = None if header is None else [header] * len(batch)
        receipts.append((producer.send_packed(batch, headers), len(batch)))
    jobs: list[Job] = []
    refusal: PenstockError | None = None
    for receipt, count in receipts:
        try:
            first = receipt.wait()
            jobs += [Job(connection, producer.queue, first + i, receipt.log_index) for i in range(count)]
        except PenstockError as fault:
            refusal = refusal or fault
    if refusal is not None:
        raise refusal
    return jobs


def batches(packed: list[bytes], count_max: int) -> Iterator[list[bytes]]:
    """Slices of at most `count_max` and, unless one alone is larger, SUBMIT_BYTES."""
    first = size = 0
    for index, data in enumerate(packed):
        if index > first and (index - first >= count_max or size + len(data) > SUBMIT_BYTES):
            yield packed[first:index]
            first, size = index, 0
        size += len(data)
    if packed:
        yield packed[first:]
