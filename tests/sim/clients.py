"""A simulated client: the production session core on channels of the world's. What it has to do is its workload.

A channel is what TCP gives: in order and whole until it breaks, and what is on its way then is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from faults.history import Event

from penstock.client.requests import Request
from penstock.client.session import Session

from .machine import address_of

if TYPE_CHECKING:
    from .world import World

NODES_KNOWN = 9
RETRY_FOR_MS = (3_000, 60_000, 60_000)


class Channel:
    """One connection of a client to one life of a node."""

    def __init__(self, client: Client, link: int, node: int, life: int, route: bytes) -> None:
        self.client = client
        self.link = link
        self.node = node
        self.life = life
        self.route = route
        self.stands = True  # False: broken
        self.is_hole = False  # what is said on it is never heard, and nobody is told
        self.there_ms = self.back_ms = 0  # when what was said last arrives


class Client:
    """One process. Workloads derive from it: `act` asks for what is to be done next."""

    is_replaceable = True  # killed, another one of its kind takes its place
    is_ready = True  # nothing of what it does stands in the way of the end
    watched = ""  # the queue of which it has to see all outcomes

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.random = world.random
        endpoints = [address_of(node)[0] for node in range(1, NODES_KNOWN + 1)]  # also of those that are yet to come
        retry_for_ms = self.random.choice(RETRY_FOR_MS)
        self.session = Session(endpoints, {"version": 1, "client": name}, retry_for_ms, world.random, world.now_ms)
        self.channel: Channel | None = None
        self.is_alive = True
        self.under_way = 0  # requests of ours
        self._link = 0
        self._links = 0
        self._alarm_ms = -1
        self._alarm = 0

    # -- what a workload does -----------------------------------------------------------------------------------------

    def act(self, now_ms: int) -> int:
        """Ask for what is due. Returns when there is more to do."""
        raise NotImplementedError

    def ask(
        self,
        op: str,
        args: Mapping[str, Any],
        then: Callable[[Request], None],
        payload: bytes | None = None,
        counted: bool = True,
    ) -> None:
        """Ask the cluster; `then` hears the answer, or that there is none to be had."""

        def done(request: Request) -> None:
            self.under_way -= 1
            if self.is_alive:
                then(request)

        self.under_way += 1
        request = Request(op, args, payload, counted=counted, wait_ms=int(args.get("wait_ms", 0)), then=done)
        self.session.ask(request, self.world.now_ms)

    def note(self, kind: str, queue: str, ids: list[str], **more: Any) -> None:
        actor = more.pop("actor", self.name)
        self.world.record.append(Event(actor, self.world.now_ms, kind, queue, ids, **more))

    # -- what the world does with it ----------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something came, or fell due."""
        if not self.is_alive:
            return
        now_ms, session = self.world.now_ms, self.session
        session.tick(now_ms)
        self._finish()
        due_ms = self.act(now_ms)
        self._finish()
        self._carry_out()
        self._wake_at(min(due_ms, max(session.next_ms(now_ms), now_ms + 1)))

    def _finish(self) -> None:
        finished = self.session.finished
        while finished:
            request = finished.pop(0)
            if request.then is not None:
                request.then(request)

    def _carry_out(self) -> None:
        session, world = self.session, self.world
        if session.link != self._link:
            self._link = session.link
            if self.channel is not None:
                self.channel.stands = False
                self.channel = None
            if session.endpoint is not None:
                self._links += 1
                node = int(session.endpoint.rpartition(":")[2])
                self.channel = world.dial(self, session.link, node, f"{self.name}/{self._links}".encode())
        sends, session.sends[:] = list(session.sends), []
        if self.channel is not None:
            for frames in sends:
                world.say(self.channel, frames)

    def _wake_at(self, at_ms: int) -> None:
        if at_ms != self._alarm_ms:
            self._alarm += 1
            self._alarm_ms = at_ms
            self.world.at(max(at_ms, self.world.now_ms + 1), self._ring, self._alarm)

    def _ring(self, alarm: int) -> None:
        if alarm == self._alarm:
            self._alarm_ms = -1
            self.wake()

    def connected(self, channel: Channel) -> None:
        if self.is_alive and channel is self.channel and channel.stands:
            self.session.connected(self.world.now_ms)
            self.wake()

    def broken(self, channel: Channel) -> None:
        """The channel broke, or could not be made."""
        channel.stands = False
        if self.is_alive and channel is self.channel:
            self.session.disconnected(self.world.now_ms, "the connection broke")
            self.wake()

    def hear(self, channel: Channel, frames: list[bytes]) -> None:
        if self.is_alive and channel is self.channel and channel.stands:
            self.session.heard(frames, self.world.now_ms)
            self.wake()

    def die(self) -> None:
        """As kill -9: its session stays behind."""
        self.is_alive = False
        if self.channel is not None:
            self.channel.stands = False
