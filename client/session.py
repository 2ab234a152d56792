"""The session core: what to send, when to send it again, and what an answer means. It knows no sockets and no clock.

Theory of operation. The shell tells what happened (`ask`, `connected`, `disconnected`, `heard`, `tick`), then empties
the outlets: `sends` (messages for the present connection), `finished` (requests that have their answer) and `link`
with `endpoint` (which connection there should be; a higher `link` means: close the one you have, and open one if
`endpoint` is not None).

The requests themselves are in the `Window`. After each reconnect all outstanding ones are sent again, unchanged and in
order; the daemon answers what it knows already from memory. A counted request that nobody waits for any more must still
fill its place in the numbering: its frames are replaced by a counted `ping`, which does nothing, or brings back the
answer if the original had arrived.

When a session has ended, a request that was refused for that reason, and those sent after it on the same connection,
were certainly not done, and are asked again in the new session. Counted requests whose fate is unknown fail with
SessionExpired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from random import Random
from typing import Any

from ..peers import wire
from ..peers.errors import (
    Closed,
    InvalidArgument,
    NoQuorum,
    PenstockError,
    ProtocolError,
    SessionExpired,
    Timeout,
    TooLarge,
    from_body,
)
from .patience import SILENCE_MS, Next, Patience
from .requests import ELSEWHERE, HEALING, HELLO_FIRST, Request
from .route import Route
from .window import Window
from .wording import in_words_of_python

DROPPED_MS = 3 * SILENCE_MS  # others were answered and this one was not: its reply was dropped on the way
ANOTHER = "take a client that is not read_only"
IDLE_CHECK_MS = 60_000
PATIENCE_CHECK_MS = 1_000  # how often to look for requests that have waited too long for a connection


class State(Enum):
    IDLE = "idle"  # no connection; the next try is at retry_ms
    CONNECTING = "connecting"
    GREETING = "greeting"  # hello is out
    READY = "ready"
    CLOSED = "closed"


READY = State.READY  # an enumeration's attribute is looked up at thrice the price of a name, in each round trip


class Session:
    """A conversation with the cluster that survives connections. See the top of this file."""

    def __init__(
        self, endpoints: Sequence[str], hello: Mapping[str, Any], retry_for_ms: int, random: Random, now_ms: int
    ) -> None:
        self.sends: list[list[bytes]] = []
        self.finished: list[Request] = []
        self.link = 0
        self.endpoint: str | None = None
        self.state = State.IDLE
        self.id: str | None = None
        self.epoch = 0  # how many sessions there were: leases of an earlier one are lost
        self.timeout_ms = 60_000
        self.max_message, self.max_batch = 64 * 2**20, 10_000
        self.read_only = bool(hello.get("read_only"))
        self._route = Route(endpoints, random)
        self._hello = dict(hello)
        self._retry_for_ms = retry_for_ms
        self._window = Window()
        self._retry_ms = now_ms
        self._deadline_ms = 0  # of connecting and greeting
        self._lost_ms = now_ms  # since when there is no connection that serves
        self._sent_ms = now_ms
        self._patience = Patience(self._route.lone, now_ms)
        self._why = "nobody has answered yet"
        self._no_quorum: NoQuorum | None = None  # said by a node since the connection was lost

    # -- what happens ----------------------------------------------------------------------------------------------

    def ask(self, request: Request, now_ms: int) -> None:
        """Send it as soon as there is a connection and room in the window."""
        request.asked_ms = now_ms
        if self.state is State.CLOSED:
            self._finish(request, Closed("the client is closed", "connect again"))
            return
        if self.read_only and request.counted:
            self._finish(request, InvalidArgument(f"this client only reads, {request.op!r} writes", ANOTHER))
            return
        if request.deadline_ms is not None:
            self._window.timed.add(request)
        if self.state is READY and self._window.open_for(request):
            self._send(request, now_ms)
        else:
            self._window.wait(request)

    def end_wait(self, request: Request, now_ms: int) -> None:
        """Have the daemon answer a parked request now: asked again, it takes the place of its former self."""
        if request.done or request.args.get("wait_ms") == 0:
            return
        request.args = {**request.args, "wait_ms": 0}
        if request.sequence:
            request.frames = wire.request(request.op, request.sequence, request.args, request.payload)
            if self.state is State.READY:
                self.sends.append(request.frames)
                self._sent_ms = now_ms

    def connected(self, now_ms: int) -> None:
        """The present connection stands: greet."""
        if self.state is State.CONNECTING:
            self._greet(now_ms)

    def disconnected(self, now_ms: int, why: str) -> None:
        """The present connection is gone, or could not be made."""
        if self.state not in (State.IDLE, State.CLOSED):
            self._why = why
            self._drop(now_ms)

    def heard(self, frames: Sequence[bytes], now_ms: int) -> None:
        """A message came. Raises ProtocolError if it is none of ours; then treat the connection as lost."""
        sequence, status, body, payload = wire.parse_reply(frames)
        self._patience.heard(now_ms)
        if sequence == 0 and self.state is State.GREETING:
            self._greeted(status, body, now_ms)
            return
        request = self._window.outstanding.get(sequence)
        if request is None:
            return  # the answer to a probe, or the second answer to something that was asked twice
        if status == "ok":
            self._route.served()
            self._patience.answered()
            self._window.settle(request)
            if not request.done:
                request.body, request.data = body, payload
                request.done = True
                self.finished.append(request)
        else:
            self._refused(request, in_words_of_python(from_body(status, body), request.args), now_ms)
        if self._window.anyone_waits:
            self._send_waiting(now_ms)

    def tick(self, now_ms: int) -> None:
        """Time has passed: reconnect, ping, give up. Call it at `next_ms` or earlier."""
        if self.state is State.CLOSED:
            return
        self._end_timed(now_ms)
        if self.state is State.READY:
            self._tick_ready(now_ms)
            return
        self._end_impatient(now_ms)
        if self.state is State.IDLE:
            if now_ms >= self._retry_ms:
                self._connect(now_ms)
        elif now_ms >= self._deadline_ms:
            self._why = f"{self.endpoint} did not answer to being called"
            self._drop(now_ms, silent=True)

    def close(self, error: PenstockError) -> None:
        """The end: whatever is unanswered fails with `error`."""
        self.state = State.CLOSED
        self._hang_up()
        for request in self._window.unanswered():
            self._finish(request, error)
        self._window.clear()

    @property
    def under_way(self) -> int:
        """How many requests have no answer yet; -1 while there is no connection that serves."""
        return len(self._window.outstanding) if self.state is READY else -1

    @property
    def check_ms(self) -> int:
        """How often `tick` wants to be called while something is under way."""
        return self._patience.check_ms

    def next_ms(self, now_ms: int) -> int:
        """When `tick` has something to do at the earliest."""
        timed = min((r.deadline_ms or 0 for r in self._window.timed), default=now_ms + IDLE_CHECK_MS)
        match self.state:
            case State.READY:
                quiet = self.check_ms if self._window.outstanding else IDLE_CHECK_MS
                return min(timed, self._sent_ms + self.timeout_ms // 3, now_ms + quiet)
            case State.IDLE:
                return min(timed, self._retry_ms)
            case State.CONNECTING | State.GREETING:
                return min(timed, self._deadline_ms, now_ms + PATIENCE_CHECK_MS)
            case State.CLOSED:
                return now_ms + IDLE_CHECK_MS

    # -- connections -----------------------------------------------------------------------------------------------

    def _connect(self, now_ms: int) -> None:
        self.link += 1
        self.endpoint = self._route.take(now_ms)
        self.sends.clear()
        self.state = State.CONNECTING
        self._deadline_ms = now_ms + self._patience.connect_ms(now_ms - self._lost_ms)

    def _drop(self, now_ms: int, silent: bool = False) -> None:
        was_ready = self.state is State.READY
        self.state = State.IDLE
        if was_ready:
            self._lost_ms = now_ms
            self._end_single()
        self._hang_up()
        pause_ms = self._route.failed(now_ms, was_ready=was_ready, silent=silent)
        self._retry_ms = now_ms + pause_ms
        if pause_ms == 0:
            self._connect(now_ms)

    def _hang_up(self) -> None:
        self.link += 1
        self.endpoint = None
        self.sends.clear()

    def _greet(self, now_ms: int) -> None:
        self.state = State.GREETING
        self._deadline_ms = now_ms + self._patience.connect_ms(now_ms - self._lost_ms)
        args = self._hello if self.id is None else {**self._hello, "session": self.id}
        self.sends.append(wire.request("hello", 0, args))

    def _greeted(self, status: str, body: Mapping[str, Any], now_ms: int) -> None:
        if status == "SessionExpired" and self.id is not None:
            self._expire(None)
            self._greet(now_ms)
        elif status == "ok":
            self._welcome(body, now_ms)
        else:
            error = from_body(status, body)
            self._why = str(error)
            if status in HEALING:
                if isinstance(error, NoQuorum):
                    self._no_quorum = error
                self._route.refused(getattr(error, "endpoint", None))
            else:
                self._fail_all(error)
            self._drop(now_ms)

    def _welcome(self, body: Mapping[str, Any], now_ms: int) -> None:
        try:
            session, last, limits = body["session"], int(body["last"]), body["limits"]
            self._window.size, self._window.parked_max = int(limits["window"]), int(limits["parked"])
            self.timeout_ms = int(limits["session_timeout_ms"])
            self.max_message, self.max_batch = int(limits["max_message"]), int(limits["max_batch"])
            self._window.frame_max = self.max_message
        except (KeyError, TypeError, ValueError) as fault:
            raise ProtocolError(f"the answer to hello lacks or garbles {fault}") from fault
        if session != self.id:
            if not isinstance(session, str):
                raise ProtocolError(f"the answer to hello has the session {session!r}")
            self.id = session
            self.epoch += 1
            self._window.count_from(last + 1)
        self.state = State.READY
        self._sent_ms = now_ms
        self._no_quorum = None
        for request in self._window.outstanding.values():
            request.sent_ms = now_ms
            self.sends.append(request.frames)
        self._send_waiting(now_ms)

    # -- requests --------------------------------------------------------------------------------------------------

    def _send_waiting(self, now_ms: int) -> None:
        while self.state is State.READY and (request := self._window.next()) is not None:
            self._send(request, now_ms)

    def _send(self, request: Request, now_ms: int) -> None:
        try:
            self.sends.append(self._window.send(request, self.link, now_ms))
        except (InvalidArgument, TooLarge) as fault:
            self._finish(request, fault)
        else:
            self._sent_ms = now_ms

    def _finish(self, request: Request, error: PenstockError) -> None:
        self._window.timed.discard(request)
        if not request.done:
            request.done, request.error = True, error
            self.finished.append(request)

    def _refused(self, request: Request, error: PenstockError, now_ms: int) -> None:
        if error.code == "SessionExpired" or error.hint == HELLO_FIRST:
            # The daemon forgets a session together with the connections that spoke for it.
            self._expire(request)
            self._drop(now_ms)
        elif error.code in ELSEWHERE:  # it was not taken: also if it was given up, its place has yet to be filled
            self._elsewhere(request, error, now_ms)
        else:
            self._window.settle(request)
            self._finish(request, error)

    def _elsewhere(self, request: Request, error: PenstockError, now_ms: int) -> None:
        if request.refused_ms is None:
            request.refused_ms = now_ms
        if now_ms - request.refused_ms >= self._retry_for_ms:
            self._give_up(request, error)
        self._why = str(error)
        self._route.refused(getattr(error, "endpoint", None))
        self._drop(now_ms)

    def _expire(self, refused: Request | None) -> None:
        """The session is over. `refused` is the request that told so; None: it was the hello."""
        gone = SessionExpired(
            "the session ended before the answer came, so it is unknown if this was done", "look before you ask again"
        )
        for request in self._window.expire(refused, self.link):
            self._finish(request, gone)
        self.id = None

    # -- patience --------------------------------------------------------------------------------------------------

    def _tick_ready(self, now_ms: int) -> None:
        if now_ms - self._sent_ms >= self.timeout_ms // 3:
            self._probe(now_ms)
        if now_ms - self._window.expected_since_ms(now_ms, parked=True) > DROPPED_MS:
            self.disconnected(now_ms, f"{self.endpoint} left a request unanswered")  # asking again is harmless
            return
        # In a cluster a parked request must not wait out its time at a primary that is frozen.
        match self._patience.judge(self._window.expected_since_ms(now_ms, parked=self._route.lone), now_ms):
            case Next.PROBE:
                self._probe(now_ms)
            case Next.LEAVE:
                self._why = f"{self.endpoint} has been silent"
                self._drop(now_ms, silent=True)
            case Next.WAIT:
                pass

    def _probe(self, now_ms: int) -> None:
        self.sends.append(wire.request("ping", self._window.free_sequence(), {}))
        self._sent_ms = now_ms

    def _end_timed(self, now_ms: int) -> None:
        for request in [r for r in self._window.timed if r.deadline_ms is not None and now_ms >= r.deadline_ms]:
            waited_s = (now_ms - request.asked_ms) / 1000
            self._give_up(request, Timeout(f"no answer to {request.op!r} within {waited_s:.3g} s", self._why_not()))

    def _end_impatient(self, now_ms: int) -> None:
        """Without a connection, each request waits `retry_for`, counted from the loss or from when it was asked."""
        for request in self._window.unanswered():
            if now_ms - max(self._lost_ms, request.asked_ms) >= self._retry_for_ms and not request.done:
                self._give_up(request, self._nobody(request.op))

    def _nobody(self, op: str) -> PenstockError:
        waited_s, names = self._retry_for_ms / 1000, ", ".join(self._route.endpoints)
        if self._no_quorum is not None:
            message = f"{op!r} found no primary within {waited_s:g} s: {self._no_quorum.message}"
            return NoQuorum(message, "start the nodes that are down")
        return Timeout(f"{op!r} found no daemon at {names} within {waited_s:g} s", self._why)

    def _end_single(self) -> None:
        """What must not be asked of another node fails with the connection."""
        for request in [each for each in self._window.outstanding.values() if each.single]:
            self._window.settle(request)
            self._finish(request, Closed(f"{self.endpoint}: the connection was lost before the answer came"))

    def _why_not(self) -> str:
        return "" if self.state is State.READY else f"not connected: {self._why}"

    def _give_up(self, request: Request, error: PenstockError) -> None:
        self._finish(request, error)
        self._window.abandon(request)

    def _fail_all(self, error: PenstockError) -> None:
        for request in self._window.unanswered():
            if not request.done:
                self._give_up(request, error)
