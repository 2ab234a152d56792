"""A queue or a topic: a log of batches, its groups, its limits, and what of it is kept."""

from __future__ import annotations

from typing import Any

from ..peers.errors import QueueFull
from .cell_map import CellMap
from .dependents import Dependents, Held
from .extents import Extent, Extents, Known, Reader
from .groups import Group
from .keys import KeyOrder
from .notes import Notes
from .options import QUEUE, Options
from .outcomes import Outcomes
from .ranges import RangeSet
from .rate import Rate
from .uniques import Uniques

DROP_MAX = 256  # extents dropped within one command; the rest is swept in commands of their own, so no turn is long
NAMES = 64  # ids or keys in an extent that take as long to read as an extent without any


class Queue:
    """One queue (a single group named "") or topic (any number of groups)."""

    def __init__(
        self,
        id: int,
        name: str,
        kind: str,
        options: Options,
        created_ms: int,
        reader: Reader,
        known: Known,
        next_offset: int = 0,
    ) -> None:
        self.id = id
        self.name = name
        self.kind = kind
        self.options = options
        self.created_ms = created_ms
        self.paused = False
        self.next = next_offset
        self.dropped = next_offset  # extents below this are gone
        self.bytes = 0
        self.extents = Extents(id, known)
        self.outcomes = Outcomes(id, reader)
        self.notes = Notes(id, reader)
        self.holes = RangeSet()  # extents that were dropped above `dropped`, for all of their messages had ended
        self.next_group_id = 0
        self.groups: dict[str, Group] = {}
        if kind == QUEUE:
            self.new_group("", next_offset)
        self.trimmed = next_offset  # topics: messages below this are past their retention
        self.deleted = False
        self.has_properties = False  # whether any message ever had some: only then is it worth a look
        self.uniques = Uniques(id, reader)
        self.dependents = Dependents()  # what waits for jobs of this queue
        self.held: CellMap[Held] = CellMap(1, lambda packed: Held(*packed))  # its batches that wait, by first offset
        self.rate = Rate()
        self.shelved: dict[tuple[int, bytes], bytes | None] = {}  # (group id, cell) of groups that are gone

    def new_group(self, name: str, start: int) -> Group:
        """A new group under a free name, that begins at offset `start`."""
        group = Group(name, start, self.next_group_id, KeyOrder() if self.options.ordered_by else None)
        self.next_group_id += 1
        self.groups[name] = group
        return group

    def forget_group(self, name: str) -> None:
        """The group goes, and what the disk knows of its shelf with the next checkpoint."""
        group = self.groups.pop(name)
        group.shelf.clear()
        self.shelved |= {(group.id, cell): packed for cell, packed in group.shelf.take_cells().items()}

    def take_shelves(self) -> dict[tuple[int, bytes], bytes | None]:
        """What changed on the shelves, by (group id, cell); None: it is gone."""
        changed, self.shelved = self.shelved, {}
        for group in self.groups.values():
            if self.deleted:
                group.shelf.clear()
            changed |= {(group.id, cell): packed for cell, packed in group.shelf.take_cells().items()}
        return changed

    @property
    def keeps_from(self) -> int:
        """Messages below this offset are needed by nobody."""
        if self.deleted:
            return self.next
        return self.groups[""].floor if self.kind == QUEUE else self.trimmed

    def check_room(self, count: int, size: int) -> None:
        """Raises QueueFull if a batch would go over a limit."""
        options = self.options
        if options.max_messages is not None:
            held = self.groups[""].open_count(self.next)
            if held + count > options.max_messages:
                raise QueueFull(
                    f"queue {self.name} holds {held} of at most {options.max_messages} messages: no room for {count}",
                    "try again when some are done, or raise max_messages",
                )
        if options.max_bytes is not None and self.bytes + size > options.max_bytes:
            raise QueueFull(
                f"queue {self.name} holds {self.bytes} of at most {options.max_bytes} bytes: no room for {size}",
                "try again when some are done, or raise max_bytes",
            )

    def append(
        self,
        home: int,
        start: int,
        count: int,
        total: int,
        size: int,
        stamp_ms: int,
        plain: bool,
        note: dict[str, Any] | None,
        properties: dict[str, Any] | None = None,
        keys: tuple[str | None, ...] | None = None,
    ) -> int:
        """Add messages that lie in log entry `home`. Returns the offset of the first one."""
        first = self.next
        self.extents.append(Extent(first, count, home, start, total, size, stamp_ms, plain, note, properties, keys))
        if properties is not None:
            self.has_properties = True
        self.next = first + count
        self.bytes += size
        return first

    def drop_done(self) -> tuple[list[tuple[Extent, bool]], bool]:
        """Drop about DROP_MAX extents that nobody needs, each with: True if its row is on disk. And: are there more?"""
        keeps_from = self.keeps_from
        gone: list[tuple[Extent, bool]] = []
        spent = 0
        while self.dropped < keeps_from:
            if self.holes and self.holes.start == self.dropped:
                self.dropped = self.holes.pop_first()[1]
                continue
            extent = self.extents.at(self.dropped)
            if extent.end > keeps_from:
                break
            if spent >= DROP_MAX:
                return gone, True
            names = len(extent.keys or ()) + len((extent.properties or {}).get("ids", ()))
            spent += 1 + names // NAMES
            gone.append((extent, self.extents.drop(extent)))
            self.bytes -= extent.size
            self.dropped = extent.end
        return gone, False

    def drop_between(self, first: int, end: int) -> list[tuple[Extent, bool]]:
        """Drop the extents over [first, end), which have just ended, of which every message has. As `drop_done`."""
        acked = self.groups[""].acked
        gone: list[tuple[Extent, bool]] = []
        for extent, _, _ in list(self.extents.between(first, end)):
            if (stop := acked.end_at(extent.first)) is not None and extent.end <= stop:
                gone.append((extent, self.extents.drop(extent)))
                self.bytes -= extent.size
                self.holes.add(extent.first, extent.end)
        return gone

    def oldest_ms(self, now_ms: int) -> int | None:
        """Age of the oldest message that is kept and not done; None if there is none."""
        first = max(self.keeps_from, self.dropped)
        return max(0, now_ms - self.extents.at(first).stamp_ms) if first < self.next else None
