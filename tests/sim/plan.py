"""One seed, from its first fault to the proof that the world recovers."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from penstock.peers.raft import core as real_core
from penstock.peers.raft import tail as real_tail

from .checks import Broken
from .nemesis import Nemesis
from .world import World

STORM_MS = 25_000
RECOVERY_MS = 10_000  # ten election time-outs
CALM_MS = 4_000
POLL_MS = 100
SIZES = (3, 5, 3, 5, 3, 5, 1)  # voters at the start, by seed


class Outcome(NamedTuple):
    """What a seed came to. `fault` None: everything held."""

    seed: int
    fault: str | None
    check: str
    story: str
    terms: int
    acked: int
    answered: int
    recovery_ms: int


def run(seed: int, core: ModuleType = real_core, tails: ModuleType = real_tail) -> Outcome:
    """Play one seed through."""
    world = World(seed, SIZES[seed % len(SIZES)], core, tails)
    fetch_bytes, core.FETCH_BYTES = core.FETCH_BYTES, world.random.choice((1000, 4000, 1 << 20))  # type: ignore[attr-defined]
    recovery_ms, fault, check, story = 0, None, "", ""
    try:
        recovery_ms = _play(world)
    except Exception as problem:
        fault, story = f"{type(problem).__name__}: {problem}", world.story()
        check = problem.check if isinstance(problem, Broken) else type(problem).__name__
    finally:
        core.FETCH_BYTES = fetch_bytes  # type: ignore[attr-defined]
    checks = world.checks
    return Outcome(
        seed, fault, check, story, max(checks.primaries, default=0), checks.acked, checks.answered, recovery_ms
    )


def _play(world: World) -> int:
    nemesis = Nemesis(world)
    _clients(world, world.random.choice((30, 150, 500)))
    world.at(world.random.randrange(3000), nemesis.strike)
    world.run_until(STORM_MS)
    nemesis.stop()
    recovery_ms = _recover(world)
    _stay_calm(world)
    return recovery_ms


def _clients(world: World, pace_ms: int) -> None:
    """They ask whoever says that it is the primary, for ever."""
    for seat in world.primaries():
        for _ in range(world.random.choice((1, 1, 2, 4))):
            world.put(seat)
        world.read(seat)
    world.at(world.now_ms + 1 + world.random.randrange(2 * pace_ms), _clients, world, pace_ms)


def _recover(world: World) -> int:
    """Healed, it has to serve again, and everyone has to have everything, within the time allowed."""
    began_ms, checks = world.now_ms, world.checks
    acked, answered = checks.acked, checks.answered
    goal = 0
    while world.now_ms < began_ms + RECOVERY_MS:
        world.run_until(world.now_ms + POLL_MS)
        if not goal and checks.acked > acked and checks.answered > answered:
            goal = checks.seen
        if goal and (reached := _reached(world)) is not None and reached >= goal:
            return world.now_ms - began_ms
    about = [
        (s.node, s.applied, s.machine and (s.machine.raft.role.value, s.machine.raft.term))
        for s in world.seats.values()
    ]
    raise Broken("no recovery", f"within {RECOVERY_MS} ms; goal {goal}, node, applied, role: {about}")


def _reached(world: World) -> int | None:
    """What all members of the one primary have applied."""
    primaries = world.primaries()
    if len(primaries) != 1 or primaries[0].machine is None:
        return None
    return min(world.seats[node].applied for node in primaries[0].machine.raft.members.everyone)


def _stay_calm(world: World) -> None:
    """Nothing is wrong any more: nobody may disturb the primary, a removed node least of all (rule 5)."""
    world.run_until(STORM_MS + RECOVERY_MS)
    terms = max(seat.term for seat in world.primaries()) if world.primaries() else 0
    world.run_until(world.now_ms + CALM_MS)
    primaries = world.primaries()
    if [seat.term for seat in primaries] != [terms]:
        now = [(seat.node, seat.term) for seat in primaries]
        raise Broken("disturbed", f"the primary of term {terms} is gone though nothing was wrong; now {now} (rule 5)")
