"""Small rows of several kinds, told apart by how their keys begin: the shelves of groups, and the ids of messages."""

from __future__ import annotations

from .extents import Reader
from .groups import Group
from .queues import Queue

SHELF = b"h"  # then the queue, the group, and the chunk of the shelf
SOME = 1_000  # cells read at a time


def take_cells(queue: Queue) -> dict[bytes, bytes | None]:
    """What changed of a queue since the last checkpoint; None: it goes."""
    cells = queue.uniques.take_changes()
    for (group_id, chunk), packed in queue.take_shelves().items():
        cells[_of_group(queue.id, group_id) + chunk.to_bytes(8, "big")] = packed
    return cells


def restore_shelf(reader: Reader, queue_id: int, group: Group) -> None:
    """Fill the shelf of a group with what the disk has of it."""
    prefix = _of_group(queue_id, group.id)
    after = b""
    while some := reader.cells(prefix, after, SOME):
        for key, packed in some:
            group.shelf.restore(int.from_bytes(key[len(prefix) :], "big"), packed)
        after = some[-1][0]


def _of_group(queue_id: int, group_id: int) -> bytes:
    return SHELF + queue_id.to_bytes(4, "big") + group_id.to_bytes(4, "big")
