"""One node, one turn at a time: what was heard goes in, what must be durable and what is then said comes out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from random import Random
from typing import Any, NamedTuple

from ..peers import messages as m
from ..peers import wire
from ..peers.raft.core import APPLY_BYTES, Raft
from ..peers.raft.words import Word
from . import checkpoint, cluster
from . import requests as ask
from .clients import Clients, Tools
from .cron import Calendar
from .desk import Counters, Desk, Disk, Limits
from .events import Ring
from .greeting import Greeter
from .model import Model
from .outbox import Message, Outbox
from .pace import Pace
from .planning import Planner
from .trim import KEPT_ENTRIES
from .upkeep import Upkeep
from .waiting import Waiting

WAIT_MAX_MS = 60_000
FLOOR_STEP = 50_000  # entries that a checkpoint deletes, at most
GONE_MAX = 25_000  # rows that wait to be deleted: then a checkpoint is due, lest its turn be long
UNCOMMITTED_MAX = 4_000  # entries; then clients are not heard until the majority has caught up
UNCOMMITTED_BYTES = 64 << 20  # or so many bytes of them


class Turn(NamedTuple):
    """In this order: `early` may leave at once, `writes` becomes durable, then `words` and `messages` leave."""

    early: list[Word]  # to all nodes, by broadcast
    writes: checkpoint.Writes
    words: list[tuple[int, Word]]  # to one node each
    messages: list[Message]  # to clients: (route, frames)
    snapshots: list[int]  # nodes that lack what is no longer in the log
    crash: bool  # a drill: end the process as kill -9 would
    deposed: bool  # the model ran ahead of the log: `reset` it from disk after the writes


class Node:
    """One of the cluster, or all of it. `about`: what hello and status tell; `addresses`: those in the configuration.

    The primary applies its proposals at once and keeps what it says of them in the outbox until a majority holds them.
    A replica applies what is committed, and sends clients to the primary.
    """

    def __init__(
        self,
        model: Model,
        raft: Raft,
        disk: Disk,
        random: Random,
        limits: Limits,
        about: dict[str, Any],
        now_ms: int,
        addresses: Mapping[int, m.Address] | None = None,
        calendar: Calendar | None = None,
    ) -> None:
        self.about = about
        self.raft = raft
        self.random = random
        self.addresses = dict(addresses or {})
        self.calendar = calendar or Calendar()
        self.counters = Counters()
        self._skew_ms = 0  # how much the clock of the log is ahead of ours
        self.clients = Clients(raft, about, _bounds(limits, model), now_ms)
        self.pace = Pace(raft.tail.floor, raft.tail.last - model.state.applied, now_ms)
        self.floor_max = 1 << 62  # entries above this are kept, for a node that is sent a snapshot
        self.outbox = Outbox()
        self.ring = Ring(model.state.last_event)
        self._office = 0  # the term in which the model is a primary's; 0: it is a replica's
        self._put_off: list[Message] = []  # heard while the model was none to be shown
        self._sure = 0  # up to here the model was shown: one that begins anew is shown only behind that
        self._settling = False  # a checkpoint is due, and waits until everything that was proposed is committed
        self._furnish(model, disk, limits, now_ms)

    def _furnish(self, model: Model, disk: Disk, limits: Limits, now_ms: int) -> None:
        if not model.state.addresses:  # until the first change of members they are those of the configuration
            model.state.addresses = dict(self.addresses)
        self.desk = Desk(model, self.raft, disk, limits, self.counters, now_ms)
        self.upkeep = Upkeep(model.state, now_ms)
        self.planner = Planner(model.state, self.calendar)
        greeter = Greeter(self.desk, self.upkeep, self.random, self.about)
        self.clients.bounds = _bounds(limits, model)
        self.waiting = Waiting(self.desk, self.clients.bounds, self.ring)
        self.clients.furnish(Tools(self.desk, greeter, self.waiting, self.planner))

    def reset(self, model: Model, now_ms: int) -> None:
        """Begin anew with a model of what is committed; the log goes on."""
        tail = self.raft.tail
        tail.applied = model.state.applied
        self._sure = tail.commit
        self.pace = Pace(tail.floor, tail.last - tail.applied, now_ms)
        self.ring.reset(model.state.last_event)
        self._furnish(model, self.desk.disk, self.desk.limits, now_ms)

    def change_limits(self, limits: Limits) -> None:
        """From the next turn on."""
        self.desk.limits = limits
        self.raft.tail.cache_bytes = limits.cache_bytes
        self.clients.bounds = self.waiting.bounds = _bounds(limits, self.desk.model)

    @property
    def is_crowded(self) -> bool:
        """Whether clients are better not heard for now: too much waits for the majority, or nothing may be proposed."""
        if self._settling or self.clients.successor or self.raft.transferee:
            return True
        # Only a primary adds to it: one that was deposed with so much has to tell clients where to go.
        tail = self.raft.tail
        return bool(self._office) and (
            tail.last - tail.commit > UNCOMMITTED_MAX or tail.bytes_after(tail.commit) > UNCOMMITTED_BYTES
        )

    # -- a turn -------------------------------------------------------------------------------------------------------

    def begin(self, now_ms: int) -> Turn:
        """The first turn. A cluster of one need not wait for an election."""
        if self.raft.is_alone:
            self.raft.stand(now_ms)
        return self.turn(now_ms, ())

    def turn(
        self,
        now_ms: int,
        heard: Sequence[Message],
        lost: Sequence[bytes] = (),
        words: Sequence[Word] = (),
        broken: Sequence[int] = (),
        drained: bool = True,
    ) -> Turn:
        """Carry out everything heard. Nothing it says may leave before its writes are durable.

        `lost`: routes on which something of the last turn could not be said. `words`: what other nodes say. `broken`:
        nodes to which the connection broke. `drained`: nothing that was heard was left behind.
        """
        self.counters.turns += 1
        self.counters.heard += len(heard)
        if self._put_off:
            heard, self._put_off = [*self._put_off, *heard], []
        for word in words:
            self.raft.step(word, now_ms)
            if word.sender == self.raft.primary:
                self.clients.heard_primary_ms = now_ms
        for node in broken:
            self.raft.lost(node, now_ms)
        if drained or self.raft.is_primary:  # after a pause of ours, what waits in the sockets is no silence of others
            self.raft.tick(now_ms)
        self.desk.begin(now_ms + self._skew_ms)
        self.clients.clock_ms = now_ms
        self.clients.tell_trimmed()
        if self._office and (self._office != self.raft.term or not self.raft.is_primary):
            return self._step_down(now_ms, heard)
        if self.raft.is_primary:
            self._preside(now_ms, heard, lost)
        else:
            self._turn_away(heard, shows=self.desk.state.applied >= self._sure)
        return self._end_turn(now_ms)

    def _preside(self, now_ms: int, heard: Sequence[Message], lost: Sequence[bytes]) -> None:
        if not self._office:
            self._take_office(now_ms)
        desk = self.desk
        if self.clients.successor and not self.raft.transferee:
            if self.clients.successor in self.raft.members.voters:  # else it was removed within the turn that chose it
                self.raft.transfer(self.clients.successor, now_ms)
            self.clients.successor = 0
        if self.raft.transferee:
            return
        if lost:
            self.waiting.take_back(lost)
        self.waiting.begin()
        for route, frames in heard:
            self.clients.hear(route, frames)
        if self.raft.is_settled and not self._settling:  # before, nobody knows what is committed: no lease may end
            if self.raft.members.learners and (promotion := self._promotion(now_ms)) is not None:
                desk.propose(0, 0, promotion)
            due = self.upkeep.due(desk.now_ms, desk.limits.session_timeout_ms)
            for command in chain(due, self.planner.due(desk.now_ms)):
                desk.propose(0, 0, command)
                if isinstance(command, m.EndSession):
                    self.clients.end_session(command.session)
        self.waiting.wake()
        self.waiting.time_out()
        self.upkeep.take_timers()
        self.waiting.tell()
        if desk.messages and not self.raft.is_alone:
            self.raft.ask_round()  # what is read must be the word of the primary of now

    def _promotion(self, now_ms: int) -> m.SetMembers | None:
        return cluster.promotion(self.raft, self.desk.state, self.clients.disks, now_ms)

    def _take_office(self, now_ms: int) -> None:
        """Newly elected: the model takes in the whole log. All of it will be committed with our first entry."""
        state, tail = self.desk.state, self.raft.tail
        while state.applied < tail.last:
            for entry in tail.entries(state.applied + 1, APPLY_BYTES):
                self.desk.model.apply(entry)
            self._forget_effects()
        # Our clock may be behind that of the last primary: stamps go on from the last one, and never stand still.
        self._skew_ms = max(0, state.stamp_ms - now_ms)
        self._furnish(self.desk.model, self.desk.disk, self.desk.limits, now_ms + self._skew_ms)
        self.desk.begin(now_ms + self._skew_ms)
        self._office = self.raft.term

    def _step_down(self, now_ms: int, heard: Sequence[Message]) -> Turn:
        """Deposed. What was said and not sent may never become true: those who wait for it ask the next primary."""
        self._office, self._settling, self._skew_ms, self.clients.successor = 0, False, 0, 0
        unsent = [(route, wire.parse_reply(frames).sequence) for route, frames in self.outbox.discard()]
        for route, sequence in unsent + self.waiting.drain():
            self.desk.refuse(route, sequence, self.clients.elsewhere())
        self._turn_away(heard, shows=False)  # the model ran ahead of what is committed
        return self._end_turn(now_ms, deposed=True)

    def _turn_away(self, heard: Sequence[Message], shows: bool) -> None:
        """Send clients to the primary. Who reads here is answered once the model `shows` what is committed."""
        self._put_off = [(route, frames) for route, frames in heard if not self.clients.turn_away(route, frames, shows)]

    def wait_ms(self, now_ms: int) -> int:
        """How long the node may sleep if nothing is heard."""
        if self._put_off:
            return 0
        due_ms = self.raft.next_ms()
        tail = self.raft.tail
        if self._office and self._settling and self.desk.state.applied <= tail.commit:
            return 0  # our own fsync was the last one to count: clients wait for the checkpoint
        if not self._office and tail.applied < tail.commit:
            return 0  # more than one turn may apply was committed
        if self.clients.trim.is_ready or (self.clients.trim.is_wanted and not self._settling):
            return 0
        if self._office:
            due_ms = min(due_ms, min(self.upkeep.next_due_ms(), self.planner.next_due_ms()) - self._skew_ms)
            deadline_ms = self.waiting.next_deadline_ms()
            if deadline_ms is not None:
                due_ms = min(due_ms, deadline_ms - self._skew_ms)
        return max(0, min(due_ms - now_ms, WAIT_MAX_MS))

    def durable(self) -> list[Message]:
        """The writes of the last turn are on disk. Returns what that sets free to be sent to clients."""
        self.raft.stable(self.raft.tail.last)  # of a replica, too: only then it is truncated there, or forgotten here
        if self.raft.is_alone or not self._office:
            return []
        return self.outbox.release(self.raft.tail.commit, self.raft.confirmed_round)

    def close(self, now_ms: int) -> Turn:
        """The last turn: parked requests are answered, and the model goes to disk, so that the next start is quick."""
        self.desk.begin(now_ms + self._skew_ms)
        self.waiting.close()
        return self._end_turn(now_ms, last=True)

    def _end_turn(self, now_ms: int, deposed: bool = False, last: bool = False) -> Turn:
        desk, limits, raft, state = self.desk, self.desk.limits, self.raft, self.desk.state
        ready = raft.take(now_ms, state.applied if self._office else None)
        if not deposed:
            for entry in ready.committed:
                if entry.index > state.applied:
                    desk.model.apply(entry)
            if not self._office:
                self._forget_effects()
        self.pace.note(ready.entries, now_ms)
        taken = None
        room_bytes = 0 if desk.full else desk.room_bytes
        most = limits.checkpoint_entries, limits.checkpoint_bytes
        trim = self.clients.trim
        crowded = state.gone.rows >= GONE_MAX
        wanted = last or trim.is_wanted or crowded or self.pace.is_due(now_ms, *most, room_bytes)
        settled = state.applied <= raft.tail.commit
        self._settling = bool(wanted and not settled and self._office)
        if wanted and settled and not deposed:
            # The very last thing of a turn: from here on the model reads from disk what this writes.
            taken = checkpoint.take(desk.model, self._consensus())
            self.pace.done(now_ms)
            trim.made(state.applied, raft.tail.floor, min(self._trimmed_floor(), self.floor_max))
        messages = desk.messages
        if self._office:
            self.outbox.put(raft.tail.last, raft.round, messages)
            messages = self.outbox.release(raft.tail.commit, raft.confirmed_round)
        writes = checkpoint.Writes(ready.truncate_from, ready.entries, ready.hard, taken)
        return Turn(ready.early, writes, ready.words, messages, ready.snapshots, self.clients.crash, deposed)

    def _trimmed_floor(self) -> int:
        """How short the log may be: who lags behind its floor is sent a snapshot."""
        return self.desk.state.applied - (0 if self.raft.is_alone else KEPT_ENTRIES)

    def _consensus(self) -> checkpoint.Consensus:
        """What stays known of the log up to the new floor, which is about to go."""
        tail = self.raft.tail
        applied = self.desk.state.applied
        floor = applied if self.raft.is_alone else self.pace.floor(applied)
        if self.clients.trim.is_wanted:
            floor = max(floor, self._trimmed_floor())
        # Not all at once: every entry that goes is looked at, and the turn must end before the next heartbeat is due.
        floor = max(tail.floor, min(floor, self.floor_max, tail.floor + FLOOR_STEP))
        tail.raise_floor(floor)
        term = self.raft.tail.term_at(floor)
        assert term is not None, floor
        upto = [at for at in self.raft.history if at[0] <= floor]
        above = [at for at in self.raft.history if floor < at[0] <= applied]
        return checkpoint.Consensus(floor, term, upto[-1:] + above)

    def _forget_effects(self) -> None:
        state = self.desk.state
        state.woken.clear()
        state.ended.clear()
        state.timers.clear()
        self.ring.take(state.events)


def _bounds(limits: Limits, model: Model) -> ask.Bounds:
    return ask.Bounds(limits.max_message, limits.max_batch, limits.lease_max_ms, model.state.queues)
