"""Steps: what a method of the client asks and waits for, one thing after the other, whoever waits.

They are a generator that yields a step and is resumed when that is over; what went wrong with it is raised inside. So
the same steps serve a client that waits in its thread (`Connection.run`) and one that awaits (`AsyncConnection.run`).
A step is a `Request` (resumed with it, answered), a `Tell` (a request for whose answer nobody waits), `Together`
(several requests at once) or a `Wait` (resumed with True, or False if the time ran out first).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from ..peers.units import Duration, duration_ms
from .requests import Request, Tell

T = TypeVar("T")

LATE_MS = 1_000  # how much later than its deadline an answer may come before nobody waits for it any more


class Wait(NamedTuple):
    """Until `ready()`, which looks at something that answers of the daemon, timers or `Channel.notify` change."""

    ready: Callable[[], object]
    timeout_s: float | None = None


class Together(NamedTuple):
    """Asked at once, and all answered; the first error of them is raised."""

    requests: Sequence[Request]


Step: TypeAlias = Request | Together | Wait
Steps: TypeAlias = Generator[Step, Any, T]


class Deadline:
    """When something has to be over. `timeout` counts from now; None: never."""

    def __init__(self, timeout: Duration | None, what: str = "timeout") -> None:
        self.timeout_s = None if timeout is None else duration_ms(timeout, what) / 1000
        self._end_s = None if self.timeout_s is None else time.monotonic() + self.timeout_s

    def bound(self, request: Request) -> None:
        """Have the request fail with Timeout if it is not answered by then, or hardly later."""
        if self._end_s is not None:
            request.deadline_ms = math.ceil(self._end_s * 1000) + LATE_MS  # by the clock of `Channel.now_ms`

    @property
    def over(self) -> bool:
        return self._end_s is not None and time.monotonic() >= self._end_s

    @property
    def left_s(self) -> float | None:
        """How much time is left; None: any."""
        return None if self._end_s is None else max(0.0, self._end_s - time.monotonic())

    def wait_ms(self, longest_ms: int) -> int:
        """How long the daemon may park a request: until the deadline, and at most `longest_ms`."""
        left_s = self.left_s
        return longest_ms if left_s is None else min(longest_ms, math.ceil(left_s * 1000))


def within(deadline: Deadline, steps: Steps[T]) -> Steps[T]:
    """The same steps, but for the patience with a daemon that does not answer: it ends with the deadline."""
    try:
        step = next(steps)
        while True:
            match step:
                case Tell():  # what is to be tidied up behind is not bound by it
                    pass
                case Request():
                    deadline.bound(step)
                case Together():
                    for request in step.requests:
                        deadline.bound(request)
            try:
                answer = yield step
            except BaseException as fault:
                step = steps.throw(fault)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
