"""Who speaks: hello and bye, and which connection belongs to which session. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random
from typing import Any

from ..peers import messages as m
from ..peers import wire
from ..peers.errors import InvalidArgument, ProtocolError, SessionExpired, shown
from . import requests as ask
from .desk import Desk
from .sessions import WINDOW, Session
from .upkeep import Upkeep

TOKEN = re.compile(r"([0-9a-f]{1,16})-([0-9a-f]{16})")
CONNECTIONS_MAX = 10_000  # of ended sessions


@dataclass
class Connection:
    """A client's DEALER, known by its routing id."""

    session: int


class Greeter:
    """The connections of a node."""

    def __init__(self, desk: Desk, upkeep: Upkeep, random: Random, about: dict[str, Any]) -> None:
        self.desk = desk
        self.upkeep = upkeep
        self.random = random
        self.about = about
        self._connections: dict[bytes, Connection] = {}

    def session_of(self, route: bytes, op: str) -> Session:
        """Who speaks on this connection. Raises ProtocolError before hello, SessionExpired after the session."""
        connection = self._connections.get(route)
        if connection is None:
            raise ProtocolError(f"{shown(op)} before hello", "say hello first")
        session = self.desk.state.sessions.get(connection.session)
        if session is None:
            raise SessionExpired("the session has ended", "say hello without a session, to open a new one")
        self.upkeep.heard[session.id] = self.desk.now_ms
        return session

    def hello(self, route: bytes, request: wire.Request) -> None:
        """Open a session, or resume one."""
        args, sequence, desk = request.args, request.sequence, self.desk
        version = args.get("version")
        if version != wire.VERSION:
            raise ProtocolError(
                f"version is {shown(version)}; this daemon speaks {wire.VERSION}", "use a client that fits"
            )
        client = ask.text(args, "client", 1000, "")
        token = args.get("session")
        if token is None:
            secret = f"{self.random.getrandbits(64):016x}"
            desk.propose(0, 0, m.OpenSession(secret, client, max(0, sequence)))
            session = desk.state.sessions[desk.state.applied]
        else:
            session = self._resume(token)
            if sequence > 0 and session.recall(sequence) is None:
                desk.propose(session.id, sequence, m.Count())
        self._connections[route] = Connection(session.id)
        self.upkeep.heard[session.id] = desk.now_ms
        desk.reply(route, sequence, self.welcome(session))

    def welcome(self, session: Session | None) -> dict[str, Any]:
        """The answer to a hello. Without a session: to one who only reads."""
        limits = self.desk.limits
        return {
            "session": None if session is None else session.token, "last": 0 if session is None else session.last,
            "node": self.about["node"], "cluster": self.about["cluster"], "primary": self.about["primary"],
            "limits": {
                "max_message": limits.max_message, "max_batch": limits.max_batch, "window": WINDOW,
                "session_timeout_ms": limits.session_timeout_ms, "parked": limits.parked,
            },
        }  # fmt: skip

    def _resume(self, token: object) -> Session:
        if type(token) is not str:
            raise InvalidArgument(f"session is {shown(token)}", "give the text that an earlier hello was answered with")
        match = TOKEN.fullmatch(token)
        session = self.desk.state.sessions.get(int(match[1], 16)) if match else None
        if session is None or match is None or session.secret != match[2]:
            raise SessionExpired("there is no such session, or it has ended", "say hello without a session")
        return session

    def bye(self, route: bytes, session: Session, sequence: int) -> bool:
        """End the session. False: it said so before, and is answered as then."""
        if sequence <= 0:
            raise ProtocolError(f"bye changes state, its sequence is {sequence}", "count it: positive sequences")
        known = session.recall(sequence)
        fresh = known is None
        if known is None:
            known = self.desk.propose(session.id, sequence, m.EndSession(session.id, False))
        self.desk.answer(route, sequence, known)
        return fresh

    def forget(self, session_id: int) -> None:
        """The session has ended."""
        self.upkeep.heard.pop(session_id, None)
        if len(self._connections) > CONNECTIONS_MAX + 2 * len(self.upkeep.heard):
            # Its connection is told SessionExpired when it speaks again; thousands of dead ones need not be remembered.
            alive = self.desk.state.sessions
            self._connections = {route: it for route, it in self._connections.items() if it.session in alive}
