"""What a checkpoint holds has a number: a daemon that would misread the rows of another version refuses them."""

from typing import Any

import msgpack
from kit.world import Client, World

from penstock.broker.dependents import Awaited, Held, ParentEnd
from penstock.broker.extents import Extent, Outcome
from penstock.broker.groups import Span
from penstock.broker.notes import Note
from penstock.broker.rows import FORMAT, TABLES
from penstock.broker.shelf_cells import FIELDS
from penstock.testing.memory import MemoryDisk

# What a start relies on. Has it changed? Then give broker.rows.FORMAT the next number, and write that and the change
# here; options of queues, commands, and fields at their end need none, for those who lack them have defaults.
SHAPES = {
    5: {
        "tables": "log extents outcomes steps state pins notes cells",
        "meta": "addresses applied disks last_event next_queue_id parent_ends schedules shares stamp_ms",
        "queue": 19,
        "group": 10,
        "lease": 6,
        "session": 7,
        "extent": "first count home start total size stamp_ms plain note properties keys",
        "outcome": "first count home start each status reason attempt failures stamp_ms dead_offset submitted_ms "
        "started_ms owner",
        "note": "first end failures error progress lines dropped again",
        "held": "end left on_failure due_ms",
        "awaited": "left times",
        "parent_end": 4,
        "span": 4,
        "spot": 7,
    }
}


def shape() -> dict[str, Any]:
    """That of what is written now: of one queue with a job in hand, and whose session that is."""
    disk = MemoryDisk()
    world = World(disk)
    client = Client(world, "ana")
    client.do("create", name="jobs", kind="queue")
    client.append("jobs", b"x")
    client.pull("jobs")
    disk.commit(world.node.close(world.now_ms).writes)
    meta, (queue,), (session, *_) = disk.rows()
    assert meta is not None
    fields = msgpack.unpackb(queue)
    (group,) = fields[-1]
    (lease,) = group[-1]
    return {
        "tables": b" ".join(TABLES).decode(),
        "meta": " ".join(sorted(msgpack.unpackb(meta))),
        "queue": len(fields),
        "group": len(group),
        "lease": len(lease),
        "session": len(msgpack.unpackb(session)),
        "extent": " ".join(Extent._fields),
        "outcome": " ".join(Outcome._fields),
        "note": " ".join(Note._fields),
        "held": " ".join(Held._fields),
        "awaited": " ".join(Awaited._fields),
        "parent_end": len(ParentEnd._fields),
        "span": len(Span._fields),
        "spot": FIELDS,
    }


def test_who_changes_what_a_checkpoint_holds_gives_the_disk_format_another_number() -> None:
    assert shape() == SHAPES[FORMAT]
