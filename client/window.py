"""Which requests are under way, which wait for a place among them, and how they are numbered. Pure.

A request is *waiting* until it gets a sequence and is sent, then *outstanding* until its reply. Counted ones wait for
room in the window, the others for a place among the parked ones; neither holds up the other.
"""

from __future__ import annotations

from collections import deque
from itertools import chain

from ..peers import wire
from ..peers.errors import TooLarge
from .requests import LEASE_OPS, Request

FRAME_SLACK_BYTES = 2**20  # a frame may be this much larger than the limit of the daemon, which then says so


class Window:
    """The requests of a session that have no answer yet."""

    def __init__(self) -> None:
        self.size, self.parked_max = 1, 1  # how many counted and how many parked ones may be under way
        self.frame_max = 2**26  # bytes; of anything larger by more than the slack the daemon cuts the connection
        self.outstanding: dict[int, Request] = {}  # in the order of their sending
        self.timed: set[Request] = set()  # those that have a deadline
        self._waiting: deque[Request] = deque()
        self._waiting_free: deque[Request] = deque()
        self._counted = self._parked = 0  # how many of the outstanding ones
        self._next_counted, self._next_free = 1, -1

    def count_from(self, sequence: int) -> None:
        """A new session has begun: this is its first sequence."""
        self._next_counted = sequence

    def open_for(self, request: Request) -> bool:
        """May it be sent at once?"""
        if request.counted and not request.wait_ms:
            return not self._waiting and self._counted < self.size
        return not request.wait_ms or self._parked < self.parked_max

    def wait(self, request: Request) -> None:
        """Have it wait for its turn, which comes with `next`."""
        self._line_of(request).append(request)

    def _line_of(self, request: Request) -> deque[Request]:
        # A counted one that the daemon parks (a call) is remembered there beyond the window: it waits with the parked.
        return self._waiting if request.counted and not request.wait_ms else self._waiting_free

    @property
    def anyone_waits(self) -> bool:
        """May `next` have something?"""
        return bool(self._waiting or self._waiting_free)

    def next(self) -> Request | None:
        """Take the next one that waits and has room."""
        if self._waiting and self._counted < self.size:
            return self._waiting.popleft()
        if self._waiting_free and (not self._waiting_free[0].wait_ms or self._parked < self.parked_max):
            return self._waiting_free.popleft()
        return None

    def send(self, request: Request, link: int, now_ms: int) -> list[bytes]:
        """It is under way from now on. Returns its frames. Raises InvalidArgument for what cannot travel, and TooLarge;
        then it is not under way, and has used no sequence."""
        sequence = self._next_counted if request.counted else self.free_sequence()
        frames = wire.request(request.op, sequence, request.args, request.payload)
        if (largest := max(len(frames[1]), len(frames[-1]))) > self.frame_max + FRAME_SLACK_BYTES:
            # Sent, it would cut the connection, be asked again on the next one, and so for ever.
            raise TooLarge(f"{request.op!r} has {largest} bytes, the daemon takes {self.frame_max}", "say less at once")
        request.frames = frames
        request.sequence = sequence
        if request.counted:
            self._next_counted += 1
        if request.wait_ms:
            self._parked += 1
        elif request.counted:
            self._counted += 1
        request.link = link
        request.sent_ms = now_ms
        self.outstanding[sequence] = request
        return frames

    def free_sequence(self) -> int:
        """One for a request that is not counted."""
        self._next_free -= 1
        return self._next_free + 1

    def settle(self, request: Request) -> None:
        """It has been answered, one way or the other: its place is free."""
        del self.outstanding[request.sequence]
        if request.wait_ms:
            self._parked -= 1
        elif request.counted:
            self._counted -= 1
        if request.deadline_ms is not None:
            self.timed.discard(request)

    def abandon(self, request: Request) -> None:
        """Nobody waits for it any more. If it was sent and counted, a ping takes its place in the numbering."""
        if request.sequence == 0:
            self._line_of(request).remove(request)
        elif request.counted:
            request.payload = None
            request.frames = wire.request("ping", request.sequence, {})
        else:
            self.settle(request)

    def expire(self, refused: Request | None, link: int) -> list[Request]:
        """The session is over; what was certainly not done waits for the next one. Returns those of unknown fate.

        `refused` is the request that told so, on the connection `link`; None: it was the hello.
        """
        again: list[Request] = []
        unknown: list[Request] = []
        surely_undone = False
        for request in self.outstanding.values():
            # The daemon takes what one connection brings in order: what came after a refused one was refused too.
            surely_undone = surely_undone or request is refused
            if request.done:
                continue
            if not request.counted or (surely_undone and request.link == link and request.op not in LEASE_OPS):
                request.sequence = 0
                again.append(request)
            else:
                unknown.append(request)
        self.outstanding.clear()
        self._counted = self._parked = 0
        for request in reversed(again):
            self._line_of(request).appendleft(request)
        return unknown

    def expected_since_ms(self, now_ms: int, *, parked: bool) -> int:
        """Since when the oldest answer has been due; `now_ms` if there is none. `parked`: those that the daemon parks
        are due only when their time is up."""
        each = self.outstanding.values()
        return min((r.sent_ms + (r.wait_ms if parked else 0) for r in each), default=now_ms)

    def unanswered(self) -> list[Request]:
        """All of them, outstanding ones first."""
        return list(chain(self.outstanding.values(), self._waiting, self._waiting_free))

    def clear(self) -> None:
        """Forget them all."""
        self.outstanding.clear()
        self._waiting.clear()
        self._waiting_free.clear()
        self.timed.clear()
