"""The thin shell around the session core: a socket, a lock, and whoever waits does the work.

Leader and followers. A thread that must wait for an answer becomes the leader: it sends, polls the socket and hears all
answers, also those of the others, who wait on a condition until their answer is there or the leader leaves and one of
them takes over. So a lone thread that sends and waits is never switched. The background thread "penstock-io" leads
when nobody else has for a while: for answers nobody waits for, timers, pings and reconnects. While others lead, it
looks ever more seldom: waking it in each round trip would cost more than the rest.

The lock guards the session core and the socket and everything of producers and consumers. zmq's descriptor is edge
triggered: whoever is going to poll it reads the socket empty first, and whoever touches the socket while another one
polls does so before letting go of the lock (`_pump`).
"""

from __future__ import annotations

import logging
import math
import os
import random
import select
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from ..peers.errors import Closed, InvalidArgument, PenstockError
from .bell import Bell
from .infos import Staleness
from .link import Link
from .pump import POLL_MAX_MS, Pump
from .requests import Request
from .session import Session, State

TICK_MS = 5  # the background thread keeps away from a connection that was in use within this time
NAP_MAX_MS = 25  # how long it looks away at most, when it finds again and again that others lead
DEEP_MS = 50  # when another thread has led for this long, the background thread sleeps until that one leaves
CALL_SLACK_MS = 30_000  # how much longer than `retry_for` a call waits for a daemon that is there and does not answer
BYE_MS = 2_000

log = logging.getLogger("penstock")


Consistency = Literal["primary", "local"]


class Connection:
    """Asks requests and waits for their answers, from any number of threads. Hold `lock` where a method says so."""

    def __init__(self, endpoints: Sequence[str], hello: Mapping[str, Any], retry_for_ms: int) -> None:
        self.lock = threading.RLock()
        self.dead: PenstockError | None = None
        self.retry_for_ms = retry_for_ms
        self.staleness: Staleness | None = None  # of the latest answer, where a node answers from its own copy
        self._endpoints, self._hello = list(endpoints), dict(hello)
        self._local: Connection | None = None
        self.session = Session(endpoints, hello, retry_for_ms, random.Random(), self.now_ms())
        self._work = Pump(self.session)
        self.timers, self.on_session_lost = self._work.timers, self._work.on_session_lost
        self._polled: Link | None = None  # the link that `_polls` are for
        self._changed = threading.Condition(self.lock)
        self._followers = 0
        self._leader: int | None = None  # the identity of a thread
        self._led_since_ms = self._touched_ms = self._pumped_ms = 0
        self._led = False  # since the background thread looked the last time, others have led
        self._io_sleeps = False
        self._io_looks_ms = 0  # when the background thread looks if it has to lead
        self._wake_app, self._wake_io = Bell(), Bell()
        self._polls: dict[Bell, select.poll] = {}  # for the present link: to make one costs as much as to use it
        self._io = threading.Thread(target=self._io_loop, name="penstock-io", daemon=True)
        self._io.start()
        _connections.add(self)

    @staticmethod
    def now_ms() -> int:
        """The clock of requests and timers."""
        return time.monotonic_ns() // 1_000_000

    # -- for producers, consumers and the client ----------------------------------------------------------------------

    def ask(self, request: Request) -> None:
        """Send a request; do not wait. The lock is held."""
        session = self.session
        self._touched_ms = now_ms = self.now_ms()
        session.ask(request, now_ms)
        if request.deadline_ms is not None:
            self.hurry(request.deadline_ms)
        if self._work.pumping:
            return
        if session.under_way == 1:  # from now on something is to be heard
            self.hurry(now_ms + session.check_ms)
        if self._leader is None and session.under_way == 1:
            self._work.post(now_ms)  # nothing can have come, and nobody polls: whoever waits for the answer listens
        else:
            self._pump()

    def listen(self) -> None:
        """Hear what has come, unless somebody does so already. The lock is held."""
        if self._leader is None and not self._work.pumping:
            self._pump()

    def end_wait(self, request: Request) -> None:
        """Have a parked request answered now. The lock is held."""
        self.session.end_wait(request, self.now_ms())
        if not self._work.pumping:
            self._pump()

    @property
    def stands(self) -> bool:
        """Is there a daemon that hears us, as far as is known?"""
        return self.session.state is State.READY

    def wait(self, ready: Callable[[], object], timeout_s: float | None) -> bool:
        """Work, or wait for the thread that works, until `ready()`. False: the time ran out first. The lock is held
        once."""
        deadline_ms = None if timeout_s is None else self.now_ms() + math.ceil(timeout_s * 1000)
        me = threading.get_ident()
        while not ready():
            if self.dead is not None:
                raise self.dead
            # A signal handler may wait inside of a wait of its own thread: it leads in its place.
            if self._leader is None or self._leader in (me, self._io.ident):
                if not self._lead(me, ready, deadline_ms):
                    return False
            elif not self._follow(deadline_ms):
                return False
        return True

    def call(
        self,
        op: str,
        args: Mapping[str, Any],
        payload: bytes | None = None,
        *,
        counted: bool = False,
        wait_ms: int = 0,
        single: bool = False,
    ) -> Request:
        """As `do`, of a request made of these."""
        return self.do(Request(op, args, payload, counted=counted, wait_ms=wait_ms, single=single))

    def do(self, request: Request) -> Request:
        """Ask and wait. Returns the answered request; raises its error. Not with the lock held."""
        self.check()
        request.deadline_ms = self.now_ms() + request.wait_ms + self.retry_for_ms + CALL_SLACK_MS
        with self.lock:
            self.ask(request)
            self.wait(lambda: request.done, None)
        if request.error is not None:
            raise request.error
        if "lag_ms" in request.body:
            self.staleness = Staleness(request.body["applied"], request.body["lag_ms"])
        return request

    def tell(self, request: Request) -> None:
        """Ask, and wait for nothing. Not with the lock held."""
        self.check()
        with self.lock:
            self.ask(request)

    def do_all(self, requests: Sequence[Request]) -> None:
        """Ask all of them at once, and wait for their answers. Raises the first error. Not with the lock held."""
        self.check()
        with self.lock:
            for request in requests:
                request.deadline_ms = self.now_ms() + request.wait_ms + self.retry_for_ms + CALL_SLACK_MS
                self.ask(request)
            self.wait(lambda: all(request.done for request in requests), None)
        for request in requests:
            if request.error is not None:
                raise request.error

    def local(self) -> Connection:
        """One over which whichever node is reached answers reads from its own copy. Not with the lock held."""
        self.check()
        if self.session.read_only:
            return self
        with self.lock:
            if self._local is None:
                self._local = Connection(self._endpoints, {**self._hello, "read_only": True}, self.retry_for_ms)
            return self._local

    @property
    def last_staleness(self) -> Staleness | None:
        """That of the latest local read. None: there was none."""
        return self.staleness if self._local is None else self._local.staleness

    def check(self) -> None:
        """Raises Closed if the client is closed or was made before a fork."""
        if self.dead is not None:
            raise self.dead

    def hurry(self, at_ms: int) -> None:
        """Have the timers looked at no later than this. The lock is held."""
        if at_ms < self._work.tick_ms:
            self._work.tick_ms = at_ms
            if self._leader is not None:
                self._wake_leader()
            elif at_ms < self._io_looks_ms:
                self._wake_io.ring()

    def notify(self) -> None:
        """Have everybody who waits look at what they wait for. The lock is held."""
        # Also if this is a signal handler on the thread of the leader: it goes on polling afterwards.
        (self._wake_io if self._leader == self._io.ident else self._wake_app).ring()
        if self._followers:
            self._changed.notify_all()

    def close(self) -> None:
        """Say bye if the daemon is there, fail what is unanswered with Closed, end the background thread."""
        if self.dead is not None:
            return
        if self._local is not None:
            self._local.close()
        with self.lock:
            if self.session.state is State.READY and not self.session.read_only:
                bye = Request("bye", {}, counted=True)
                self.ask(bye)
                self.wait(lambda: bye.done, BYE_MS / 1000)
            self._end(Closed("the client is closed", "connect again"))
        if threading.current_thread() is not self._io:
            self._io.join()
        self._work.end()

    # -- the leader ------------------------------------------------------------------------------------------------

    def _lead(self, me: int, ready: Callable[[], object], deadline_ms: int | None) -> bool:
        """Pump until ready or deposed. False: out of time. The lock is held, but not while polling."""
        is_io = me == self._io.ident
        if self._leader is not None and self._leader != me:
            self._wake_io.ring()
        bell = self._wake_io if is_io else self._wake_app
        nested = self._leader == me
        self._leader = me
        try:
            self._pump()
            if not nested:
                self._led_since_ms = self._pumped_ms
            while not ready() and self._leader == me and self.dead is None:
                timeout_ms = max(0, min(POLL_MAX_MS, self._work.tick_ms - self._pumped_ms))
                if deadline_ms is not None:
                    if deadline_ms <= self._pumped_ms:
                        return False
                    timeout_ms = min(timeout_ms, deadline_ms - self._pumped_ms)
                link = self._work.link
                # One that is in use cannot be used again: a signal handler gets its own.
                poll = self._new_poll(bell) if nested else self._polls.get(bell) or self._new_poll(bell)
                self.lock.release()
                try:
                    woken = poll.poll(timeout_ms)
                finally:
                    self.lock.acquire()
                self._look(woken, link, bell)
                self._pump()
                if is_io and self._pumped_ms - self._touched_ms < TICK_MS:
                    break
        finally:
            if nested:
                bell.ring()  # what the wait below waits for may have come meanwhile
            elif self._leader == me:
                self._leave(is_io)
        return True

    def _leave(self, is_io: bool) -> None:
        self._leader = None
        if self._followers:
            self._changed.notify_all()
        if not is_io:
            self._touched_ms = self._pumped_ms
            self._led = True
            if self._io_sleeps:
                self._io_sleeps = False
                self._wake_io.ring()

    def _follow(self, deadline_ms: int | None) -> bool:
        """Wait for the leader to hear something, or to leave. False: out of time. The lock is held."""
        left_ms = None if deadline_ms is None else deadline_ms - self.now_ms()
        if left_ms is not None and left_ms <= 0:
            return False
        self._followers += 1
        try:
            self._changed.wait(None if left_ms is None else left_ms / 1000)
        finally:
            self._followers -= 1
        return True

    def _new_poll(self, bell: Bell) -> select.poll:
        poll = self._polls[bell] = select.poll()
        poll.register(bell.fd, select.POLLIN)
        if self._work.link is not None:
            self._work.link.watch(poll)
        return poll

    def _look(self, woken: list[tuple[int, int]], link: Link | None, bell: Bell) -> None:
        for fd, _ in woken:
            if fd == bell.fd:
                bell.hush()
            elif link is not None and fd == link.fds[1]:
                self._work.hear_events(link, self.now_ms())

    def _pump(self) -> None:
        """Send, hear, run what is due, and tell those whom it concerns. The lock is held."""
        pump = self._work
        self._pumped_ms = now_ms = self.now_ms()
        heard = pump.turn(now_ms)
        if pump.link is not self._polled:
            self._polled = pump.link
            self._polls.clear()
            self._wake_leader()  # it polls descriptors of yesterday
        if heard:
            if self._followers:
                self._changed.notify_all()
            if self._leader is not None and self._leader != self._io.ident:
                self._wake_leader()

    def _wake_leader(self) -> None:
        leader = self._leader
        if leader is not None and leader != threading.get_ident():
            (self._wake_io if leader == self._io.ident else self._wake_app).ring()

    # -- the background thread -------------------------------------------------------------------------------------

    def _io_loop(self) -> None:
        nap_ms: int | None = TICK_MS
        try:
            while self.dead is None:
                with self.lock:
                    nap_ms = self._nap_ms(nap_ms or TICK_MS)
                    self._io_looks_ms = self._pumped_ms + (nap_ms or DEEP_MS)
                if self.dead is None:
                    self._wake_io.wait(nap_ms)
        except BaseException as fault:
            # Nobody would hear answers or renew leases any more: better an error in every call than silence.
            log.exception("the background thread of the client failed")
            with self.lock:
                self._end(Closed(f"the client failed: {fault!r}", "this is a fault of Penstock"))

    def _nap_ms(self, nap_ms: int) -> int | None:
        """Lead if nobody else does, then tell how long not to look. None: until the leader leaves."""
        now_ms = self.now_ms()
        led, self._led = self._led, False
        if self._leader is None and now_ms - self._touched_ms >= TICK_MS:
            self._lead(threading.get_ident(), lambda: False, None)
        elif self._leader is not None and now_ms - self._led_since_ms > DEEP_MS:
            self._io_sleeps = True
            return None
        elif led:
            return min(2 * nap_ms, NAP_MAX_MS)
        return TICK_MS

    def _end(self, error: PenstockError) -> None:
        """Fail everything with `error`. The lock is held."""
        self.session.close(error)
        self._pump()
        self.dead = error
        self._wake_io.ring()
        self._wake_app.ring()
        self._changed.notify_all()

    def forked(self) -> None:
        """This is the child of a fork: the sockets and the background thread are the parent's."""
        self.dead = Closed("this client was made in the parent process", "connect again after the fork")


def reader(connection: Connection, consistency: Consistency) -> Connection:
    """Over which connection to read. Raises InvalidArgument."""
    if consistency not in ("primary", "local"):
        raise InvalidArgument(f"consistency is {consistency!r}", 'give "primary" or "local"')
    return connection if consistency == "primary" else connection.local()


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for connection in list(_connections):
        connection.forked()


os.register_at_fork(after_in_child=_after_fork_in_child)
