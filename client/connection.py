"""The thin shell around the session core: a socket, a lock, and whoever waits does the work.

Leader and followers. A thread that must wait for an answer becomes the leader: it sends, polls the socket and hears all
answers, also those of the others, who wait on a condition until their answer is there or the leader leaves and one of
them takes over. So a lone thread that sends and waits is never switched. The background thread "penstock-io" leads
when nobody else has for a while: for answers nobody waits for, timers, pings and reconnects.

The lock guards the session core and the socket and everything of producers and consumers. zmq's descriptor is edge
triggered: whoever has touched the socket reads it empty before letting go of the lock (`_pump`).
"""

from __future__ import annotations

import logging
import os
import random
import select
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import zmq

from ..peers.errors import Closed, PenstockError, ProtocolError
from .bell import Bell
from .link import Link
from .requests import Request
from .session import Session, State

TICK_S = 0.005  # the background thread keeps away from a connection that was in use within this time
DEEP_S = 0.05  # when another thread has led for this long, the background thread sleeps until that one leaves
POLL_MAX_MS = 5_000
CALL_SLACK_MS = 30_000  # how much longer than `retry_for` a call waits for a daemon that is there and does not answer
BYE_MS = 2_000

log = logging.getLogger("penstock")


class Timer(Protocol):
    """Something of the client that has to do something at `due_ms`."""

    due_ms: int

    def tick(self, now_ms: int) -> None: ...


class Connection:
    """Asks requests and waits for their answers, from any number of threads. Hold `lock` where a method says so."""

    def __init__(self, endpoints: Sequence[str], hello: Mapping[str, Any], retry_for_ms: int) -> None:
        self.lock = threading.RLock()
        self.dead: PenstockError | None = None
        self.retry_for_ms = retry_for_ms
        self.timers: list[Timer] = []
        self.on_session_lost: list[Callable[[], None]] = []
        self.session = Session(endpoints, hello, retry_for_ms, random.Random(), self.now_ms())
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._link: Link | None = None
        self._link_number = 0
        self._epoch = 0
        self._changed = threading.Condition(self.lock)
        self._followers = 0
        self._leader: int | None = None  # the identity of a thread
        self._led_since = self._touched = 0.0
        self._tick_ms = 0
        self._pumping = False
        self._io_sleeps = False
        self._wake_app, self._wake_io = Bell(), Bell()
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
        self.session.ask(request, self.now_ms())
        if request.deadline_ms is not None:
            self.hurry(request.deadline_ms)
        if not self._pumping:
            self._pump()
            self._touched = time.monotonic()

    def end_wait(self, request: Request) -> None:
        """Have a parked request answered now. The lock is held."""
        self.session.end_wait(request, self.now_ms())
        if not self._pumping:
            self._pump()

    @property
    def stands(self) -> bool:
        """Is there a daemon that hears us, as far as is known?"""
        return self.session.state is State.READY

    def wait(self, ready: Callable[[], object], timeout_s: float | None) -> bool:
        """Work, or wait for the thread that works, until `ready()`. False: the time ran out first. The lock is held
        once."""
        if ready():
            return True
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        me = threading.get_ident()
        while not ready():
            if self.dead is not None:
                raise self.dead
            left_s = None if deadline is None else deadline - time.monotonic()
            if left_s is not None and left_s <= 0:
                return False
            # A signal handler may wait inside of a wait of its own thread: it leads in its place.
            if self._leader in (None, me, self._io.ident):
                self._lead(me, ready, deadline)
            else:
                self._followers += 1
                try:
                    self._changed.wait(left_s)
                finally:
                    self._followers -= 1
        return True

    def call(
        self,
        op: str,
        args: Mapping[str, Any],
        payload: bytes | None = None,
        *,
        counted: bool = False,
        wait_ms: int = 0,
    ) -> Request:
        """Ask and wait. Returns the answered request; raises its error. Not with the lock held."""
        self.check()
        deadline_ms = self.now_ms() + wait_ms + self.retry_for_ms + CALL_SLACK_MS
        request = Request(op, args, payload, counted=counted, wait_ms=wait_ms, deadline_ms=deadline_ms)
        with self.lock:
            self.ask(request)
            self.wait(lambda: request.done, None)
        if request.error is not None:
            raise request.error
        return request

    def check(self) -> None:
        """Raises Closed if the client is closed or was made before a fork."""
        if self.dead is not None:
            raise self.dead

    def hurry(self, at_ms: int) -> None:
        """Have the timers looked at no later than this. The lock is held."""
        if at_ms < self._tick_ms:
            self._tick_ms = at_ms
            self._wake_leader()

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
        with self.lock:
            if self.session.state is State.READY:
                bye = Request("bye", {}, counted=True)
                self.ask(bye)
                self.wait(lambda: bye.done, BYE_MS / 1000)
            self._end(Closed("the client is closed", "connect again"))
        if threading.current_thread() is not self._io:
            self._io.join()
        self._context.term()

    # -- the leader ------------------------------------------------------------------------------------------------

    def _lead(self, me: int, ready: Callable[[], object], deadline: float | None) -> None:
        """Pump until ready, deposed, or out of time. The lock is held, but not while polling."""
        is_io = me == self._io.ident
        if self._leader is not None and self._leader != me:
            self._wake_io.ring()
        bell = self._wake_io if is_io else self._wake_app
        nested = self._leader == me
        if not nested:
            self._leader, self._led_since = me, time.monotonic()
        poll, link = self._poll_for(bell), self._link
        # The socket has been read empty by whoever touched it last, so its descriptor tells of everything new.
        try:
            while not ready() and self._leader == me and self.dead is None:
                if self._link is not link:
                    poll, link = self._poll_for(bell), self._link
                timeout_ms = self._poll_ms(deadline)
                if timeout_ms < 0:
                    return
                self.lock.release()
                try:
                    woken = poll.poll(timeout_ms)
                finally:
                    self.lock.acquire()
                self._look(woken, link, bell)
                self._pump()
                if is_io and time.monotonic() - self._touched < TICK_S:
                    return
        finally:
            if nested:
                bell.ring()  # what the wait below waits for may have come meanwhile
            elif self._leader == me:
                self._leave(is_io)

    def _leave(self, is_io: bool) -> None:
        self._leader = None
        if self._followers:
            self._changed.notify_all()
        if not is_io:
            self._touched = time.monotonic()
            if self._io_sleeps:
                self._io_sleeps = False
                self._wake_io.ring()

    def _poll_for(self, bell: Bell) -> select.poll:
        poll = select.poll()
        poll.register(bell.fd, select.POLLIN)
        if self._link is not None:
            self._link.watch(poll)
        return poll

    def _poll_ms(self, deadline: float | None) -> float:
        timeout_ms: float = max(0, min(POLL_MAX_MS, self._tick_ms - self.now_ms()))
        if deadline is None:
            return timeout_ms
        left_ms = (deadline - time.monotonic()) * 1000
        return min(timeout_ms, left_ms) if left_ms > 0 else -1

    def _look(self, woken: list[tuple[int, int]], link: Link | None, bell: Bell) -> None:
        for fd, _ in woken:
            if fd == bell.fd:
                bell.hush()
            elif link is not None and link is self._link and fd == link.fds[1]:
                self._hear_events(link)

    def _hear_events(self, link: Link) -> None:
        while link is self._link and (why := link.event()) is not None:
            if why:
                self._hear(link)  # what came before the loss still counts
                self.session.disconnected(self.now_ms(), f"{link.endpoint}: {why}")
            else:
                self.session.connected(self.now_ms())

    # -- the pump --------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Send what is to be sent, hear all that has come, run what is due. The lock is held."""
        session = self.session
        heard = False
        self._pumping = True
        try:
            now_ms = self.now_ms()
            if now_ms >= self._tick_ms or session.state is not State.READY:
                self._run_timers(now_ms)
            looking = True
            while looking or session.sends or session.finished or session.link != self._link_number:
                if session.link != self._link_number:
                    self._relink()
                if session.sends:
                    self._transmit()
                    looking = True
                if looking and self._link is not None:
                    self._hear(self._link)
                looking = False
                if session.epoch != self._epoch:
                    self._renew_epoch()
                if session.finished:
                    heard = True
                    self._finish()
        finally:
            self._pumping = False
        if heard:
            if self._followers:
                self._changed.notify_all()
            if self._leader is not None and self._leader != self._io.ident:
                self._wake_leader()

    def _transmit(self) -> None:
        session, link = self.session, self._link
        if link is None:
            return
        sends, session.sends = session.sends, []
        try:
            for frames in sends:
                link.send(frames)
        except zmq.Again:
            session.disconnected(self.now_ms(), f"{link.endpoint}: the connection was lost")
        except BaseException:
            # Half a message may be under way: the rest of it must never be taken for the next one.
            session.disconnected(self.now_ms(), "sending was interrupted")
            raise

    def _hear(self, link: Link) -> None:
        session, number = self.session, self._link_number
        while session.link == number and (frames := link.receive()) is not None:
            try:
                session.heard(frames, self.now_ms())
            except ProtocolError as fault:
                log.warning("%s: %s", link.endpoint, fault)
                session.disconnected(self.now_ms(), str(fault))

    def _finish(self) -> None:
        finished, self.session.finished = self.session.finished, []
        for request in finished:
            if request.then is not None:
                request.then(request)

    def _run_timers(self, now_ms: int) -> None:
        self.session.tick(now_ms)
        for timer in list(self.timers):
            if timer.due_ms <= now_ms:
                timer.tick(now_ms)
        self._tick_ms = min((timer.due_ms for timer in self.timers), default=now_ms + POLL_MAX_MS)
        self._tick_ms = min(self._tick_ms, self.session.next_ms(now_ms), now_ms + POLL_MAX_MS)

    def _renew_epoch(self) -> None:
        if self._epoch:
            log.warning("the session ended at the daemon, and its leases with it: a new one was opened")
            for tell in self.on_session_lost:
                tell()
        self._epoch = self.session.epoch

    def _relink(self) -> None:
        """Have the connection that the session asks for."""
        session = self.session
        while session.link != self._link_number:
            self._link_number = session.link
            if self._link is not None:
                self._link.close()
                self._link = None
            if session.endpoint is not None:
                try:
                    self._link = Link(self._context, session.endpoint)
                except zmq.ZMQError as fault:
                    session.disconnected(self.now_ms(), f"{session.endpoint}: {fault}")
            if self._link is not None:
                self._hear_events(self._link)
        self._tick_ms = min(self._tick_ms, session.next_ms(self.now_ms()))
        self._wake_leader()  # it polls descriptors of yesterday

    def _wake_leader(self) -> None:
        leader = self._leader
        if leader is not None and leader != threading.get_ident():
            (self._wake_io if leader == self._io.ident else self._wake_app).ring()

    # -- the background thread -------------------------------------------------------------------------------------

    def _io_loop(self) -> None:
        try:
            while self.dead is None:
                deep = False
                with self.lock:
                    now = time.monotonic()
                    if self._leader is None and now - self._touched >= TICK_S:
                        self._lead(threading.get_ident(), lambda: False, None)
                    elif self._leader is not None and now - self._led_since > DEEP_S:
                        deep = self._io_sleeps = True
                if deep:
                    self._wake_io.wait()
                elif self.dead is None:
                    time.sleep(TICK_S)
        except BaseException as fault:
            # Nobody would hear answers or renew leases any more: better an error in every call than silence.
            log.exception("the background thread of the client failed")
            with self.lock:
                self._end(Closed(f"the client failed: {fault!r}", "this is a fault of Penstock"))

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


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for connection in list(_connections):
        connection.forked()


os.register_at_fork(after_in_child=_after_fork_in_child)
