"""Which jobs in hand were cancelled, and when those that still run are to be killed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

AGAIN_S = 1.0  # at the earliest, a kill is asked for again: the job may have begun only now


@dataclass(slots=True)
class _Cancelled:
    message: Any  # kept, so that its id stays its own
    place: tuple[int, int] | None  # in which batch, and where; None: not with the world
    due_s: float


@dataclass(slots=True)
class CancelledJobs:
    """Pure bookkeeping, by the identity of the messages."""

    grace_s: float
    _jobs: dict[int, _Cancelled] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def add(self, message: Any, place: tuple[int, int] | None, now_s: float) -> float:
        """It was cancelled, and may run until then."""
        due_s = now_s + self.grace_s
        self._jobs[id(message)] = _Cancelled(message, place, due_s)
        return due_s

    def holds(self, message: Any) -> bool:
        return id(message) in self._jobs

    def due_s(self, message: Any) -> float | None:
        """Until when it may run; None: it was not cancelled."""
        found = self._jobs.get(id(message))
        return None if found is None else found.due_s

    def others(self, messages: Iterable[Any]) -> list[Any]:
        """Those that were not cancelled."""
        return [message for message in messages if id(message) not in self._jobs]

    def drop(self, messages: Sequence[Any]) -> int:
        """These are not in hand any more: how many of them were cancelled."""
        return sum(self._jobs.pop(id(message), None) is not None for message in messages)

    def overdue(self, now_s: float) -> list[tuple[int, int]]:
        """The batch and place of those that should have ended; the same ones not before a while has passed."""
        found = []
        for key, job in list(self._jobs.items()):
            if job.due_s > now_s:
                continue
            if job.place is None:  # never seen by a world, and not in line for one: its end has crossed our word
                del self._jobs[key]
            else:
                job.due_s = now_s + max(AGAIN_S, self.grace_s)
                found.append(job.place)
        return found

    def wait_s(self, now_s: float) -> float | None:
        """Until the next one is overdue."""
        return max(0.0, min(job.due_s for job in self._jobs.values()) - now_s) if self._jobs else None
