"""Requests that may wait: pulls, for messages; reads of outcomes, for jobs to end; watches, for events. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..peers import messages as m
from ..peers.errors import InvalidArgument, NotFound, PenstockError, shown
from . import reads
from . import requests as ask
from .delivery import pieces_of
from .desk import Desk
from .events import PATTERNS_MAX, Place, Ring, cursor, place_of, types_of
from .explain import IDLE_MS, Consumers
from .groups import Group, Piece
from .parking import Parked, Parking
from .queues import Queue
from .sessions import Session
from .state import RATED, Timer

PULL_BYTES = 4 << 20
GRANTS_MAX = 20_000  # queues; then those without a recent one are forgotten
EVENTS_MAX = 1000  # in one answer
WATCH = ("", "watch")  # where those who watch wait: no queue has this name


class Waiting:
    """Answers at once what can be, parks the rest, and looks again when the model says that something came."""

    def __init__(self, desk: Desk, bounds: ask.Bounds, ring: Ring) -> None:
        self.desk = desk
        self.bounds = bounds
        self.ring = ring
        self._told = ring.last  # up to there, those who watch know
        self._pulls = Parking()
        self._reads = Parking()
        self._rated: dict[int, int] = {}  # by queue id: when its rate allows one more; there is a timer for it
        self._grants: dict[int, int] = {}  # by queue id: when a lease was granted last
        self._given: list[tuple[bytes, int, int]] = []  # (route, session, lease) of the last turn's deliveries

    def __len__(self) -> int:
        return len(self._pulls) + len(self._reads)

    # -- pulls --------------------------------------------------------------------------------------------------------

    def pull(self, route: bytes, session: Session, sequence: int, args: dict[str, Any]) -> None:
        state = self.desk.state
        queue = state.queue(ask.name_of(args, "queue"))
        group = state.group(queue, ask.name_of(args, "group", ""))
        args = {
            "queue_id": queue.id,
            "messages": ask.integer(args, "messages", 1, 10**9),
            "size_max": ask.integer(args, "bytes", 1, 2**40, PULL_BYTES),
            "lease_ms": ask.lease_ms(args, self.bounds, 30_000),
            "wait_ms": ask.integer(args, "wait_ms", 0, ask.WAIT_MAX_MS, 0),
        }
        self._pulls.remove(session.id, sequence)  # its former self, if it is asked again
        lease_id = session.leases.get(sequence)
        if lease_id is not None:  # asked again: the delivery was lost on the way
            lease = state.leases[lease_id]
            self._deliver(route, sequence, lease.id, lease.ends_ms, pieces_of(state, lease))
            return
        key = (queue.name, group.name)
        parked = Parked(key, "pull", route, session.id, sequence, args, self.desk.now_ms + args["wait_ms"])
        if self._pulls.first(key) is None and self._try_pull(parked):
            return
        self._park_or_answer(self._pulls, parked)

    def _try_pull(self, parked: Parked) -> bool:
        """Grant and deliver, if anything is ready. Raises NotFound if the queue or the group is gone."""
        desk, state, args = self.desk, self.desk.state, parked.args
        queue_name, group_name = parked.key
        queue = state.queue(queue_name)
        if queue.id != args["queue_id"]:  # within one turn: what is there now is another one
            raise NotFound(f"the queue or topic {queue_name} was deleted", "its name was taken anew: pull again")
        group = state.group(queue, group_name)
        room = self._room(queue, group)
        if queue.paused or room <= 0 or not group.has_ready(queue.next, desk.now_ms):
            return False
        count = min(args["messages"], room)
        command = m.Pull(queue_name, group_name, parked.sequence, count, args["size_max"], args["lease_ms"])
        # Not counted: a pull that is asked again is known by the lease it was given.
        answer = desk.propose(parked.session, 0, command).body
        if answer["lease"] is None:
            return False
        self._deliver(parked.route, parked.sequence, answer["lease"], answer["ends_ms"], answer["pieces"])
        self._given.append((parked.route, parked.session, answer["lease"]))
        self._grants[queue.id] = desk.now_ms
        return True

    def _room(self, queue: Queue, group: Group) -> int:
        """How many messages may be given now, by all limits."""
        desk, options = self.desk, queue.options
        room = desk.limits.in_flight_max - group.leased
        if options.max_leased is not None:
            room = min(room, options.max_leased - group.leased)
        if options.rate is not None and room > 0:
            room = min(room, queue.rate.allowance(options.rate, desk.now_ms))
            if room <= 0 and self._rated.get(queue.id, 0) <= desk.now_ms:
                # Nothing else may happen to the queue until then; one timer is enough for all who ask meanwhile.
                next_ms = self._rated[queue.id] = max(desk.now_ms + 1, queue.rate.next_ms(options.rate))
                desk.state.timers.append(Timer(next_ms, RATED, queue.name, group.name))
        return room

    def _deliver(self, route: bytes, sequence: int, lease: int, ends_ms: int, pieces: list[Piece]) -> None:
        ranges, payload = reads.delivery(pieces, self.desk.payload)
        self.desk.counters.delivered += sum([some[1] for some in ranges])
        self.desk.reply(route, sequence, {"lease": lease, "ends_ms": ends_ms, "ranges": ranges}, payload)

    def consumers(self, name: str) -> Consumers:
        """Who is there to take messages of a queue, as far as this node knows."""
        waiting = len(self._pulls.all((name, "")))
        queue = self.desk.state.queue(name)
        return Consumers(waiting, self._grants.get(queue.id), self.desk.limits.in_flight_max)

    def take_back(self, lost: Sequence[bytes]) -> None:
        """Deliveries that could not be sent: nobody has them, so their messages need not wait for the lease to end."""
        routes = set(lost)
        for route, session, lease in self._given:
            if route in routes and lease in self.desk.state.leases:
                self.desk.propose(session, 0, m.Release(lease, None))
        for parking in (self._pulls, self._reads):
            parking.remove_routes(routes)

    def begin(self) -> None:
        """A new turn."""
        self._given.clear()
        if len(self._grants) > GRANTS_MAX:
            self._grants = {id: at for id, at in self._grants.items() if at > self.desk.now_ms - IDLE_MS}

    # -- reads that wait ----------------------------------------------------------------------------------------------

    def read(self, route: bytes, session: Session, sequence: int, op: str, args: dict[str, Any]) -> None:
        wait_ms = ask.integer(args, "wait_ms", 0, ask.WAIT_MAX_MS, 0)
        self._reads.remove(session.id, sequence)
        if op == "read":
            args = reads.placed(self.desk.state, args)
        key = (ask.name_of(args, "topic" if op == "read" else "queue"),)
        parked = Parked(key, op, route, session.id, sequence, args, self.desk.now_ms + wait_ms)
        if not self._try_read(parked):
            self._park_or_answer(self._reads, parked)

    def call(self, route: bytes, session: Session, sequence: int, args: dict[str, Any]) -> None:
        """The message of a call is in its queue: wait for its outcome. Asked again, it waits again."""
        self._reads.remove(session.id, sequence)
        wait_ms = ask.integer(args, "wait_ms", 0, ask.WAIT_MAX_MS, 0)
        answer, queue = session.calls[sequence]
        wanted = {"queue": queue, "offset": answer.body["offset"]}
        parked = Parked((queue,), "call", route, session.id, sequence, wanted, self.desk.now_ms + wait_ms)
        if self._served(self._reads, parked):
            return
        if self._is_crowded(session.id):  # the message is there: an error would be a lie
            self._answer_nothing(parked)
        else:
            self._park_or_answer(self._reads, parked)

    def _try_read(self, parked: Parked) -> bool:
        desk = self.desk
        found = reads.WAITING_READS[parked.op](desk.state, parked.args, desk.now_ms, desk.payload)
        if found is None:
            return False
        desk.reply(parked.route, parked.sequence, found.body, found.payload)
        return True

    # -- events -------------------------------------------------------------------------------------------------------

    def watch(self, route: bytes, session: Session, sequence: int, args: dict[str, Any]) -> None:
        """Events behind a cursor; parked until there is one."""
        patterns = args.get("patterns")
        if type(patterns) is not tuple or not 0 < len(patterns) <= PATTERNS_MAX or {*map(type, patterns)} != {str}:
            raise InvalidArgument(
                f"patterns is {shown(patterns)}", f'give a list of 1 to {PATTERNS_MAX} texts such as "job.*"'
            )
        self.ring.take(self.desk.state.events)
        args = {
            "types": types_of(patterns),
            "after": self._place(args.get("after")),
            "limit": ask.integer(args, "limit", 1, EVENTS_MAX, 100),
            "wait_ms": ask.integer(args, "wait_ms", 0, ask.WAIT_MAX_MS, 0),
        }
        self._reads.remove(session.id, sequence)
        parked = Parked(WATCH, "watch", route, session.id, sequence, args, self.desk.now_ms + args["wait_ms"])
        if not self._try_watch(parked):
            self._park_or_answer(self._reads, parked)

    def _place(self, after: object) -> Place:
        if after is None:
            return self.ring.floor
        return self.ring.last if after == "now" else place_of(after)

    def _try_watch(self, parked: Parked) -> bool:
        args, ring = parked.args, self.ring
        whole = ring.holds(args["after"])
        found, args["after"] = ring.after(min(args["after"], ring.last), args["types"], args["limit"])
        if not found and whole:
            return False  # and what was looked at is not looked at again
        events = [event.to_body() for event in found]
        body = {"events": events, "next": cursor(args["after"]), "dropped": not whole}
        self.desk.reply(parked.route, parked.sequence, body)
        return True

    def tell(self) -> None:
        """Those who watch are told what this turn brought. The very last thing of a turn that may add to it."""
        self.ring.take(self.desk.state.events)
        if self.ring.last > self._told:
            self._told = self.ring.last
            for parked in self._reads.all(WATCH):
                self._served(self._reads, parked)

    # -- parking ------------------------------------------------------------------------------------------------------

    def _park_or_answer(self, parking: Parking, parked: Parked) -> None:
        if parked.deadline_ms <= self.desk.now_ms:
            self._answer_nothing(parked)
            return
        if self._is_crowded(parked.session):
            limit = self.desk.limits.parked
            raise InvalidArgument(f"this session has {limit} waiting requests already", "wait for their answers first")
        parking.add(parked)

    def _is_crowded(self, session: int) -> bool:
        return self._pulls.count(session) + self._reads.count(session) >= self.desk.limits.parked

    def wake(self) -> None:
        """Those who wait for what this turn brought. Grants are proposed here, so they share the turn's commit."""
        state = self.desk.state
        while state.woken:
            (name, group), _ = state.woken.popitem()
            for key in [(name, group)] if group is not None else self._pulls.keys_of(name):
                while (parked := self._pulls.first(key)) is not None and self._served(self._pulls, parked):
                    pass
            if group is None:  # a topic: those who read it without a group
                for parked in self._reads.all((name,)):
                    self._served(self._reads, parked)
        for name in state.ended:
            for parked in self._reads.all((name,)):
                self._served(self._reads, parked)
        state.ended.clear()

    def _served(self, parking: Parking, parked: Parked) -> bool:
        attempt = {"pull": self._try_pull, "watch": self._try_watch}.get(parked.op, self._try_read)
        try:
            if not attempt(parked):
                return False
        except PenstockError as fault:  # what it waits for was deleted
            self.desk.refuse(parked.route, parked.sequence, fault)
        parking.remove(parked.session, parked.sequence)
        return True

    def time_out(self) -> None:
        """Those whose wait is over. After `wake`: what a waiting request asks about is still there."""
        for parking in (self._pulls, self._reads):
            for parked in parking.due(self.desk.now_ms):
                self._answer_nothing(parked)

    def next_deadline_ms(self) -> int | None:
        deadlines = (self._pulls.next_deadline_ms(), self._reads.next_deadline_ms())
        return min((at for at in deadlines if at is not None), default=None)

    def end_session(self, session_id: int) -> None:
        self._pulls.end_session(session_id)
        self._reads.end_session(session_id)

    def close(self) -> None:
        """The node stops: every wait is over."""
        for parked in self._pulls.drain() + self._reads.drain():
            self._answer_nothing(parked)

    def drain(self) -> list[tuple[bytes, int]]:
        """Take out everyone: (route, sequence)."""
        return [(parked.route, parked.sequence) for parked in self._pulls.drain() + self._reads.drain()]

    def _answer_nothing(self, parked: Parked) -> None:
        desk = self.desk
        if parked.op == "pull":
            body: dict[str, Any] = {"lease": None, "ends_ms": 0, "ranges": []}
        elif parked.op == "watch":
            body = {"events": [], "next": cursor(parked.args["after"]), "dropped": False}
        else:
            body = reads.nothing_yet(parked.op, parked.args, desk.state, desk.now_ms)
        desk.reply(parked.route, parked.sequence, body)
