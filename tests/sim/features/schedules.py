"""Schedules: each due time makes one job, whoever is the primary, and no other time does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from penstock.peers.messages import AddSchedule, Noop
from penstock.peers.wire import pack_payload

from ..ledger import DONE, Asked, Ledger, one_at_a_time
from ..takers import LATER_MS, REFUSALS, Asker, Taker
from .feature import Feature, queue

if TYPE_CHECKING:
    from ..world import World

TICKS = "ticks"
EVERY_MS, CRON_MS = 1000, 3000
LATE_MS = 2500  # a schedule that was removed so long after a due time had met it
LONG_MS = 1 << 50
ALL = {"every_ms": EVERY_MS, "missed": "all"}
ONCE = {"cron": "*/3 * * * * *", "missed": "once"}
LONE = {"every_ms": EVERY_MS, "missed": "all", "overlap": False}


class Secretary(Asker):
    """Adds schedules, pauses and resumes them, and has them go in the end, with others in their places meanwhile."""

    is_replaceable = False  # its successor would not know which ones there are

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self._due_ms = 0
        self._count = 0
        self._standing: dict[str, bool] = {}  # by name: is it paused

    @property
    def is_ready(self) -> bool:
        """None of them makes jobs any more."""
        return self.world.is_ending and not self._standing and not self.under_way

    def act(self, now_ms: int) -> int:
        if self.under_way or now_ms < self._due_ms:
            return max(self._due_ms, now_ms + 100)
        paused = sorted(name for name, is_paused in self._standing.items() if is_paused)
        if paused and (self.world.is_ending or self.random.random() < 0.3):
            self._ask("schedule_resume", paused[0])
        elif self.world.is_ending and self._standing:
            self._ask("schedule_remove", min(self._standing))
        elif self.world.is_ending:
            return LATER_MS
        elif len(self._standing) < 3:
            self._add()
        elif self.random.random() < 0.3:
            op = self.random.choice(("schedule_pause", "schedule_pause", "schedule_remove"))
            self._ask(op, self.random.choice(sorted(self._standing)))
        self._due_ms = self.soon_ms(now_ms)
        return self._due_ms

    def _add(self) -> None:
        kind, args = (("all", ALL), ("once", ONCE), ("lone", LONE))[self._count % 3]
        name = f"{kind}-{self._count}"
        self._count += 1
        self._ask("schedule_add", name, pack_payload([name.encode()]), queue=TICKS, **args)

    def _ask(self, op: str, name: str, payload: bytes | None = None, **args: Any) -> None:
        def done(asked: Asked) -> None:
            if asked.fate != DONE and asked.code not in REFUSALS:
                self._ask(op, name, payload, **args)  # as a person would: until there is an answer
            elif op == "schedule_remove":
                self._standing.pop(name, None)
            elif asked.fate == DONE or asked.code == "AlreadyExists":
                self._standing[name] = op == "schedule_pause"
            else:  # it is gone: somebody was told nothing when it went
                self._standing.pop(name, None)

        self.do(op, {"name": name, **args}, done, payload, queue=TICKS, ids=(name,))


class Janitor(Taker):
    queues = (TICKS,)
    ops = ("nack", "release", "forget", "ack", "ack", "ack", "ack")
    credits = (10, 50)


def judge(ledger: Ledger) -> Iterator[str]:
    yield from one_at_a_time(ledger, TICKS)
    commands = [entry.command for entry in ledger.entries]
    first_ms = {it.name: it.first_ms for it in reversed(commands) if isinstance(it, AddSchedule)}
    dues: dict[str, dict[int, int]] = {name: {} for name in first_ms}
    for offset, some in ledger.given(TICKS).items():
        first = some[0]
        name, due_ms = first.headers["penstock-schedule"], first.headers["penstock-due"]
        other = dues[name].setdefault(due_ms, offset)
        if other != offset:
            yield f"{name} made two jobs for {due_ms}, {other} and {offset}"
        if name != first.id:
            yield f"{first} says that {name} made it"
        if due_ms > first.stamp_ms:
            yield f"{first} was made at {first.stamp_ms}, before its due time {due_ms}"
        step_ms, base_ms = (CRON_MS, 0) if name.startswith("once") else (EVERY_MS, first_ms[name])
        if (due_ms - base_ms) % step_ms or due_ms < first_ms[name]:
            yield f"{name} made a job for {due_ms}, and is due every {step_ms} ms from {first_ms[name]} on"
    for name, made in dues.items():
        if name.startswith("all"):
            yield from _none_missed(ledger, name, first_ms[name], made)


def _none_missed(ledger: Ledger, name: str, first_ms: int, made: dict[int, int]) -> Iterator[str]:
    last_ms = max(made, default=first_ms - EVERY_MS)
    missed = [due_ms for due_ms in range(first_ms, last_ms, EVERY_MS) if due_ms not in made]
    if missed:
        yield f"{name} made no job for {missed[:5]}, but for {last_ms}"
    calm_ms = _calm_ms(ledger) + LATE_MS
    for asked in ledger.done("schedule_pause", "schedule_resume", "schedule_remove", queue=TICKS):
        if name in asked.ids:
            at_ms = ledger.entries[asked.index - 1].stamp_ms
            if asked.op == "schedule_remove" and at_ms > max(calm_ms, last_ms + EVERY_MS + LATE_MS):
                yield f"{name} made no job after that for {last_ms}, until it was removed at {at_ms}"
            calm_ms = LONG_MS if asked.op == "schedule_pause" else max(calm_ms, at_ms + LATE_MS)


def _calm_ms(ledger: Ledger) -> int:
    """When the last primary began."""
    at = max(entry.index for entry in ledger.entries if isinstance(entry.command, Noop))
    return next((entry.stamp_ms for entry in ledger.entries[at:] if entry.stamp_ms), 0)


SCHEDULES = Feature("schedules", (queue(TICKS, max_failures=None),), (Secretary, Janitor), judge)
