"""The session core joined to its socket: sends, hears, runs what is due. It knows no threads: the lock is held."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import zmq

from ..peers.errors import ProtocolError
from .link import Link
from .session import READY, Session

POLL_MAX_MS = 5_000  # timers are looked at no later than this

log = logging.getLogger("penstock")


class Timer(Protocol):
    """Something of the client that has to do something at `due_ms`."""

    due_ms: int

    def tick(self, now_ms: int) -> None: ...


class Pump:
    """Carries frames between a session and its link, and makes and closes links as the session asks."""

    def __init__(self, session: Session) -> None:
        self.timers: list[Timer] = []
        self.on_session_lost: list[Callable[[], None]] = []
        self.link: Link | None = None
        self.before_close: Callable[[Link], None] | None = None  # called with a link whose descriptors end
        self.tick_ms = 0  # when the timers are to be looked at
        self.pumping = False  # what is asked meanwhile leaves with the rest
        self._session = session
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._number = 0  # of the link, as the session counts them
        self._epoch = 0

    def turn(self, now_ms: int) -> bool:
        """Send what is to be sent, hear all that has come, run what is due. True: a request got its answer."""
        session = self._session
        heard = False
        self.pumping = True
        try:
            if now_ms >= self.tick_ms or session.state is not READY:
                self._run_timers(now_ms)
            looking = True
            while looking or session.sends or session.finished or session.link != self._number:
                if session.link != self._number:
                    self._relink(now_ms)
                if session.sends:
                    self._transmit(now_ms)
                    looking = True
                if looking and self.link is not None:
                    self._hear(self.link, now_ms)
                looking = False
                if session.epoch != self._epoch:
                    self._renew_epoch()
                if session.finished:
                    heard = True
                    self._finish()
        finally:
            self.pumping = False
        return heard

    def post(self, now_ms: int) -> None:
        """Send, and do not listen."""
        session = self._session
        self.pumping = True
        try:
            while session.sends and session.link == self._number:
                self._transmit(now_ms)
        finally:
            self.pumping = False

    def hear_events(self, link: Link, now_ms: int) -> None:
        """Learn what happened to the connection, if it is still this one."""
        while link is self.link and (why := link.event()) is not None:
            if why:
                self._hear(link, now_ms)  # what came before the loss still counts
                self._session.disconnected(now_ms, f"{link.endpoint}: {why}")
            else:
                self._session.connected(now_ms)

    def end(self) -> None:
        """After the last turn of a closed session."""
        self.context.term()

    def _transmit(self, now_ms: int) -> None:
        session, link = self._session, self.link
        if link is None:
            return
        sends, session.sends = session.sends, []
        try:
            for frames in sends:
                link.send(frames)
        except zmq.Again:
            session.disconnected(now_ms, f"{link.endpoint}: the connection was lost")
        except BaseException:
            # Half a message may be under way: the rest of it must never be taken for the next one.
            session.disconnected(now_ms, "sending was interrupted")
            raise

    def _hear(self, link: Link, now_ms: int) -> None:
        session, number = self._session, self._number
        while session.link == number and (frames := link.receive()) is not None:
            try:
                session.heard(frames, now_ms)
            except ProtocolError as fault:
                log.warning("%s: %s", link.endpoint, fault)
                session.disconnected(now_ms, str(fault))
            if session.under_way == 0:
                return  # nothing comes before something is asked; to make sure of it costs as much as a message

    def _finish(self) -> None:
        finished, self._session.finished = self._session.finished, []
        for request in finished:
            if request.then is not None:
                request.then(request)

    def _run_timers(self, now_ms: int) -> None:
        self._session.tick(now_ms)
        for timer in list(self.timers):
            if timer.due_ms <= now_ms:
                timer.tick(now_ms)
        self.tick_ms = min((timer.due_ms for timer in self.timers), default=now_ms + POLL_MAX_MS)
        self.tick_ms = min(self.tick_ms, self._session.next_ms(now_ms), now_ms + POLL_MAX_MS)

    def _renew_epoch(self) -> None:
        if self._epoch:
            log.warning("the session ended at the daemon, and its leases with it: a new one was opened")
            for tell in self.on_session_lost:
                tell()
        self._epoch = self._session.epoch

    def _relink(self, now_ms: int) -> None:
        """Have the connection that the session asks for."""
        session = self._session
        while session.link != self._number:
            self._number = session.link
            if self.link is not None:
                if self.before_close is not None:
                    self.before_close(self.link)
                self.link.close()
                self.link = None
            if session.endpoint is not None:
                try:
                    self.link = Link(self.context, session.endpoint)
                except zmq.ZMQError as fault:
                    session.disconnected(now_ms, f"{session.endpoint}: {fault}")
            if self.link is not None:
                self.hear_events(self.link, now_ms)
        self.tick_ms = min(self.tick_ms, session.next_ms(now_ms))
