"""The shell around the session core for an event loop: no thread, no task, one call of the loop at a time.

zmq is touched in one place only, `_turn`, which the loop calls: soon after something was asked, when a descriptor of
the link is readable, and when a timer is due. zmq's descriptor is edge triggered: each turn therefore reads the socket
empty (`Pump.turn`) before the loop polls again, and whoever asks only has a turn come soon. So what is asked by many
tasks in one round of the loop leaves together, and a task that only sends cannot keep the loop from the others: it has
to wait for room, and what it waits for is heard by the loop.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import zmq

from ..peers.errors import Closed, InvalidArgument, PenstockError
from .channel import Channel
from .link import Link
from .requests import Request, Tell
from .steps import Step, Steps, Together, Wait

log = logging.getLogger("penstock")

T = TypeVar("T")


class AsyncConnection(Channel):
    """Asks requests and awaits their answers, from any number of tasks of the loop that it was made in."""

    def __init__(self, endpoints: Sequence[str], hello: Mapping[str, Any], retry_for_ms: int) -> None:
        super().__init__(endpoints, hello, retry_for_ms)
        self._loop = asyncio.get_running_loop()
        self._waiters: dict[asyncio.Future[None], Callable[[], object]] = {}
        self._polled: list[Link] = []  # the link whose descriptors the loop polls, if there is one
        self._soon: asyncio.Handle | None = None  # the turn that comes soon
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0  # when that is
        self._work.before_close = self._unwatch
        # Left to the collector, a context would wait for ever for its sockets to be closed.
        weakref.finalize(self, _release, self._work.context, self._polled).atexit = False
        self._turn_soon()

    # -- for producers, consumers and the client ----------------------------------------------------------------------

    def ask(self, request: Request) -> None:
        session = self.session
        now_ms = self.now_ms()
        session.ask(request, now_ms)
        if request.deadline_ms is not None:
            self.hurry(request.deadline_ms)
        if session.under_way == 1:  # from now on something is to be heard
            self.hurry(now_ms + session.check_ms)
        if not self._work.pumping:
            self._turn_soon()

    def listen(self) -> None:
        """The loop does."""

    def end_wait(self, request: Request) -> None:
        self._from_anywhere(lambda: self._end_wait(request))

    def hurry(self, at_ms: int) -> None:
        if at_ms < self._work.tick_ms:
            self._work.tick_ms = at_ms
            if not self._work.pumping and self.dead is None:
                self._set_timer()

    def notify(self) -> None:
        self._from_anywhere(self._wake)

    async def run(self, steps: Steps[T]) -> T:
        """Take the steps. Raises what they raise; if the task is cancelled, that is raised in the steps, too."""
        if asyncio.get_running_loop() is not self._loop:
            raise InvalidArgument("this client belongs to another event loop", "connect in the loop that uses it")
        try:
            step = next(steps)
            while True:
                try:
                    answer = await self._take(step)
                except GeneratorExit:  # the loop has gone: nothing can be awaited any more
                    steps.close()
                    raise
                except BaseException as fault:
                    step = steps.throw(fault)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    async def close(self) -> None:
        """Say bye if the daemon is there, and fail what is unanswered with Closed."""
        try:
            await self.run(self.bye())
        finally:
            self.end()

    def end(self) -> None:
        if self.dead is None:
            if self._local is not None:
                self._local.end()
            self._end(Closed("the client is closed", "connect again"))

    # -- steps -----------------------------------------------------------------------------------------------------

    async def _take(self, step: Step) -> object:
        match step:
            case Wait():
                return await self._wait(step.ready, step.timeout_s)
            case Together():
                await self._answers(step.requests)
            case Tell():
                self.tell(step)
            case Request():
                await self._answers([step])
        return step

    async def _wait(self, ready: Callable[[], object], timeout_s: float | None) -> bool:
        """Until `ready()`. False: the time ran out first."""
        end_s = None if timeout_s is None else self._loop.time() + timeout_s
        while not ready():
            self.check()
            if end_s is not None and self._loop.time() >= end_s:
                return False
            future = self._loop.create_future()
            timer = None if end_s is None else self._loop.call_at(end_s, _ring, future)
            self._waiters[future] = ready
            try:
                await future
            finally:
                self._waiters.pop(future, None)
                if timer is not None:
                    timer.cancel()
        return True

    async def _answers(self, requests: Sequence[Request]) -> None:
        """Ask all of them at once, and wait for their answers. Raises the first error."""
        self.check()
        future = self._loop.create_future()
        left = len(requests)

        def answered(_: Request) -> None:
            nonlocal left
            left -= 1
            if not left:
                _ring(future)

        for request in requests:
            request.then = answered
            self._limit(request)
            self.ask(request)
        try:
            if left:
                await future
        except BaseException:
            self._forget(requests)
            raise
        for request in requests:
            self._read(request)

    def _forget(self, requests: Sequence[Request]) -> None:
        """Nobody waits for them any more: what is parked at the daemon leaves its place there."""
        for request in requests:
            request.then = self._orphaned
            if request.done:
                self._orphaned(request)
            elif request.wait_ms and self.dead is None:
                self._end_wait(request)

    def _orphaned(self, request: Request) -> None:
        if request.orphaned is not None and request.error is None:
            for more in request.orphaned(request):
                self.ask(more)

    def _end_wait(self, request: Request) -> None:
        self.session.end_wait(request, self.now_ms())
        if not self._work.pumping:
            self._turn_soon()

    def _from_anywhere(self, do: Callable[[], None]) -> None:
        """In the loop, soon: also from other threads and from signal handlers, which may be in the midst of a turn."""
        if self.dead is None:
            self._loop.call_soon_threadsafe(do)

    # -- turns -----------------------------------------------------------------------------------------------------

    def _turn_soon(self) -> None:
        if self._soon is None and self.dead is None:
            self._soon = self._loop.call_soon(self._turn)

    def _turn(self, link: Link | None = None) -> None:
        """Hear what happened to the link, send, hear, run what is due, and wake those whom it concerns."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self.dead is not None:
            return
        try:
            now_ms = self.now_ms()
            if link is not None:
                self._work.hear_events(link, now_ms)
            heard = self._work.turn(now_ms)
            self._watch()
            self._set_timer()
            if heard:
                self._wake()
        except BaseException as fault:
            # Nobody would hear answers or renew leases any more: better an error in every call than silence.
            log.exception("the client failed")
            self._end(Closed(f"the client failed: {fault!r}", "this is a fault of Penstock"))
            if not isinstance(fault, Exception):
                raise

    def _wake(self) -> None:
        for future, ready in list(self._waiters.items()):
            if self.dead is not None or ready():
                self._waiters.pop(future, None)
                _ring(future)

    def _set_timer(self) -> None:
        """Have a turn no later than the timers need one. A timer that comes too early does no harm: it is set again."""
        at_ms = self._work.tick_ms
        if self._timer is not None:
            if self._timer_ms <= at_ms:
                return
            self._timer.cancel()
        self._timer_ms = at_ms
        self._timer = self._loop.call_later(max(1, at_ms - self.now_ms()) / 1000, self._timed)

    def _timed(self) -> None:
        self._timer = None
        self._turn()

    def _watch(self) -> None:
        """Have the loop poll the present link."""
        link = self._work.link
        if link is not None and link not in self._polled:
            self._polled.append(link)
            messages, events = link.fds
            self._loop.add_reader(messages, self._turn)
            self._loop.add_reader(events, self._turn, link)

    def _unwatch(self, link: Link) -> None:
        """It is about to be closed: a loop that polls a closed descriptor would take the next one of its number for
        it."""
        if link in self._polled:
            self._polled.remove(link)
            for fd in link.fds:
                self._loop.remove_reader(fd)

    def _end(self, error: PenstockError) -> None:
        """Fail everything with `error`."""
        self.dead = error
        for handle in (self._soon, self._timer):
            if handle is not None:
                handle.cancel()
        self._soon = self._timer = None
        try:
            self.session.close(error)
            self._work.turn(self.now_ms())
        finally:
            self._wake()
        self._work.end()


def _release(context: zmq.Context[zmq.Socket[bytes]], links: list[Link]) -> None:
    """The end of a client that nobody closed."""
    if not context.closed:
        warnings.warn(
            "an AsyncClient was not closed: leave its `async with`, or close it", ResourceWarning, stacklevel=2
        )
        for link in links:
            link.close()
        context.term()


def _ring(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
