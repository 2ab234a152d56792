"""Small rows of several kinds, told apart by how their keys begin: shelves, ids of messages, and who waits for whom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .cell_map import CellMap
from .extents import Reader
from .groups import Group
from .queues import Queue
from .shelf_cells import chunks_of

SHELF = b"h"  # then the queue, the group, and the cell of the shelf
HELD, AWAITED = b"w", b"a"  # then the queue: its batches that wait, and what of it is waited for
SOME = 1_000  # cells read at a time


def take_cells(queue: Queue) -> dict[bytes, bytes | None]:
    """What changed of a queue since the last checkpoint; None: it goes."""
    cells = queue.uniques.take_changes()
    for (group_id, cell), packed in queue.take_shelves().items():
        cells[_of_group(queue.id, group_id) + cell] = packed
    for prefix, kept in _families(queue):
        cells |= kept.take_changes(prefix)
    return cells


def restore_shelf(reader: Reader, queue_id: int, group: Group) -> None:
    """Fill the shelf of a group with what the disk has of it."""
    prefix = _of_group(queue_id, group.id)
    for number, packed, gone in chunks_of(_read(reader, prefix)):
        group.shelf.restore(number, packed, gone)


def restore_families(reader: Reader, queue: Queue) -> None:
    """Who waits for whom, as far as the disk knows."""
    for prefix, kept in _families(queue):
        kept.restore(_read(reader, prefix))
    queue.dependents.restored()


def _families(queue: Queue) -> tuple[tuple[bytes, CellMap[Any]], ...]:
    """With what the keys of their cells begin, and the maps."""
    id = queue.id.to_bytes(4, "big")
    return (HELD + id, queue.held), (AWAITED + id, queue.dependents.awaited)


def _read(reader: Reader, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    after = b""
    while some := reader.cells(prefix, after, SOME):
        yield from ((key[len(prefix) :], value) for key, value in some)
        after = some[-1][0]


def _of_group(queue_id: int, group_id: int) -> bytes:
    return SHELF + queue_id.to_bytes(4, "big") + group_id.to_bytes(4, "big")
