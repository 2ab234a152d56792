"""What the model knows: queues, leases, sessions, and what the last commands left for the node to do."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from ..peers.errors import NotFound
from ..peers.messages import Address
from .cells import take_cells
from .dependents import ParentEnd
from .events import TEXT_MAX, TYPES, Told
from .extents import Extent, Known, Outcome, Reader
from .groups import Group, Lease
from .options import QUEUE, Options
from .queues import Queue
from .schedules import Schedules
from .sessions import Session

FORGET_MAX = 256  # steps of outcomes forgotten within one command


RIPENS = 0  # as the `lease` of a timer: a delayed message may be given, or one outlives its time
RATED = -1  # a rate allows for more


class Timer(NamedTuple):
    """Something falls due at `due_ms`: the end of a lease, or (`lease` RIPENS or RATED) something of a group."""

    due_ms: int
    lease: int
    queue: str
    group: str


class Gone:
    """What was dropped since the last checkpoint; it leaves the disk with the next one, for a replay needs it.

    `rows`: how many rows and entries that are, about.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.extents: list[tuple[int, int]] = []  # (queue id, first offset)
        self.steps: list[tuple[int, int, list[int]]] = []  # (queue id, home, first offsets of its outcomes)
        self.homes: set[int] = set()  # log entries that nothing points at any more
        self.queues: list[int] = []
        self.sessions: list[int] = []


class State:
    """The state, and the few changes to it that several commands share."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.known = Known(reader)
        self.applied = 0
        self.stamp_ms = 0
        self.next_queue_id = 1
        self.queues: dict[str, Queue] = {}
        self.by_id: dict[int, Queue] = {}  # deleted ones too, until they are swept
        self.unswept: dict[int, Queue] = {}  # those with more to drop than one command may
        self.leases: dict[int, Lease] = {}
        self.sessions: dict[int, Session] = {}
        self.addresses: dict[int, Address] = {}  # of all nodes that ever belonged
        self.disks: dict[int, int] = {}  # of the members, as of the last change of them
        self.parent_ends: deque[ParentEnd] = deque()  # that children are yet to be told of
        self.shares: dict[int, int] = {}  # log entries that more than one extent points at: how many more
        self.schedules = Schedules()
        self.last_event = (0, -1)  # the place of the latest one: (log entry, number in it)
        # What the last commands did, for the node to take. None of it is state.
        self.events: list[Told] = []
        # A set that keeps its order: (queue, group) where something may have become ready, or that is gone. Group None:
        # all those of the topic, however many, at the price of one.
        self.woken: dict[tuple[str, str | None], None] = {}
        self.ended: dict[str, None] = {}  # queues where jobs ended
        self.timers: list[Timer] = []
        self.touched_queues: set[int] = set()
        self.touched_sessions: set[int] = set()
        self.gone = Gone()
        self._claimed = 0  # the last log entry that something pointed at, within its own command
        self.cells: dict[bytes, bytes | None] = {}  # to be written with the next checkpoint, by key; None: it goes

    def queue(self, name: str) -> Queue:
        """The queue or topic of that name. Raises NotFound."""
        queue = self.queues.get(name)
        if queue is None:
            raise NotFound(f"there is no queue or topic {name!r}", "create it first, or look at the list for its name")
        return queue

    def group(self, queue: Queue, name: str) -> Group:
        """The group of that name. Raises NotFound."""
        group = queue.groups.get(name)
        if group is None:
            if queue.kind == QUEUE:
                raise NotFound(f"queue {queue.name} has no group {name!r}", "groups are for topics; leave it out")
            hint = "create the group first" if name else "name the group that reads: a topic is read by groups"
            raise NotFound(f"topic {queue.name} has no group {name!r}", hint)
        return group

    def new_queue(self, name: str, kind: str, options: Options) -> Queue:
        """A new queue or topic under a free name."""
        queue = Queue(self.next_queue_id, name, kind, options, self.stamp_ms, self.reader, self.known)
        self.next_queue_id += 1
        self.queues[name] = queue
        self.by_id[queue.id] = queue
        self.touched_queues.add(queue.id)
        self.emit(f"{kind}.created", name)
        return queue

    def end_lease(self, lease: Lease) -> None:
        """The lease is over. Its messages are the caller's to place."""
        lease.group.leased -= sum(span.end - span.first for span in lease.spans)
        lease.spans = []
        self.forget_lease(lease)

    def forget_lease(self, lease: Lease) -> None:
        """An empty lease leaves the books."""
        del self.leases[lease.id]
        self.touched_queues.add(lease.queue_id)
        session = self.sessions.get(lease.session)
        if session is not None:
            session.leases.pop(lease.pull, None)

    def finish(self, queue: Queue, group: Group, first: int, end: int, status: str = "done") -> None:
        """Messages are terminal: what was kept for them goes, and what waits for them is told. `drop` comes after."""
        if group.finish(first, end):
            self.wake_group(queue.name, group.name)
        if queue.kind != QUEUE:
            return
        if group.floor < first:  # else it goes with everything below the floor
            self._let_go(queue, queue.drop_between(first, end))
        if queue.dependents:
            self.parent_ends += queue.dependents.ended(first, end, status)

    def arm(self, queue: Queue, group: Group, now_ms: int) -> None:
        """See to it that the primary looks at the group when its next message ripens, or outlives its time."""
        shelf = group.shelf
        for due_ms in (shelf.next_due_ms(now_ms), shelf.next_expiry_ms(now_ms)):
            if due_ms is not None and now_ms < due_ms and (group.armed_ms is None or due_ms < group.armed_ms):
                group.armed_ms = due_ms
                self.timers.append(Timer(due_ms, RIPENS, queue.name, group.name))

    def drop(self, queue: Queue) -> None:
        """Drop what nobody needs of a queue; what is too much for one command is left to Sweep."""
        gone, more = queue.drop_done()
        self._let_go(queue, gone)
        more = queue.notes.sweep() or more
        if queue.deleted and not more:
            more = self.forget(queue, self.applied) or self._sweep_ids(queue)
            if not more:
                self.cells |= take_cells(queue)
                del self.by_id[queue.id]
                self.gone.queues.append(queue.id)
        if more:
            self.unswept[queue.id] = queue
        else:
            self.unswept.pop(queue.id, None)
        self.touched_queues.add(queue.id)

    def _sweep_ids(self, queue: Queue) -> bool:
        """Forget some ids of a deleted queue. True: there are more."""
        self.gone.rows += 2 * queue.uniques.sweep()
        return queue.uniques.count > 0

    def _let_go(self, queue: Queue, dropped: list[tuple[Extent, bool]]) -> None:
        """Extents were dropped, each with: True if its row is on disk."""
        for extent, on_disk in dropped:
            if on_disk:
                self.gone.extents.append((queue.id, extent.first))
                self.gone.rows += 1
            self.release_home(extent.home)

    def claim(self) -> None:
        """An extent, or the step of a queue, begins to point at the log entry of the present command."""
        if self._claimed == self.applied:
            self.hold(self.applied)
        self._claimed = self.applied

    def hold(self, home: int) -> None:
        """One extent more points at a log entry that something points at already."""
        self.shares[home] = self.shares.get(home, 0) + 1

    def release_home(self, home: int) -> None:
        """One extent or step less points at a log entry; without any, the entry goes."""
        more = self.shares.get(home)
        if more is None:
            self.gone.homes.add(home)
            self.gone.rows += 1
        elif more == 1:
            del self.shares[home]
        else:
            self.shares[home] = more - 1

    def forget(self, queue: Queue, home: int) -> bool:
        """Forget outcomes up to step `home`, FORGET_MAX of them. True: there are more."""
        outcomes = queue.outcomes
        steps: list[tuple[int, list[Outcome]]] = []
        more = False
        for step_home, step in outcomes.steps_after(0):
            if step_home > home:
                break
            if len(steps) == FORGET_MAX:
                more = True
                break
            steps.append((step_home, step))
        for step_home, step in steps:
            for outcome in step:
                queue.notes.drop(outcome.first, outcome.first + outcome.count)
            if step_home in outcomes.steps:
                outcomes.drop_recent(step_home)
            else:
                self._drop_step(queue, step_home, step)
            self.release_home(step_home)
            outcomes.raise_floor(step_home)
        if queue.notes.sweep():
            self.unswept[queue.id] = queue
        self.touched_queues.add(queue.id)
        return more

    def _drop_step(self, queue: Queue, home: int, step: list[Outcome]) -> None:
        """A step that lies on disk goes there."""
        self.gone.steps.append((queue.id, home, [outcome.first for outcome in step]))
        self.gone.rows += 1 + len(step)

    def forget_outcome(self, queue: Queue, outcome: Outcome, offset: int) -> None:
        """Forget how one job ended, before its time, and what is noted of it."""
        queue.notes.drop(offset, offset + 1)
        step = queue.outcomes.forget(outcome, offset)
        if step is not None:
            if step:
                self._drop_step(queue, outcome.home, step)
            self.release_home(outcome.home)
        self.drop(queue)

    def wake(self, queue: Queue) -> None:
        """Parked pulls of all groups should look again."""
        self.woken[queue.name, "" if queue.kind == QUEUE else None] = None

    def wake_group(self, queue: str, group: str) -> None:
        """Parked pulls of one group should look again."""
        self.woken[queue, group] = None

    def emit(self, type: str, queue: str | None = None, first: int = 0, count: int = 0, **more: Any) -> None:
        """Tell those who watch. Once for a range, never for each message; after the last check that may refuse."""
        assert type in TYPES, type
        index, number = self.last_event
        self.last_event = place = (self.applied, number + 1 if index == self.applied else 0)
        if more:
            for key, value in more.items():
                if value.__class__ is str and len(value) > TEXT_MAX:
                    more[key] = value[:TEXT_MAX]
        self.events.append((place, type, self.stamp_ms, queue, first, count, more))
