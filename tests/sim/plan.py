"""One seed, from its first fault to the proof that the world recovers and that every promise was kept."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import NamedTuple

from faults import history

from penstock.broker import expiry, greeting, pace, parents, queues, sessions, upkeep
from penstock.broker import node as broker_node
from penstock.peers.raft import core

from .checks import Broken
from .features import FEATURES
from .features.jobs import STEPS
from .nemesis import Nemesis
from .takers import Sender
from .workloads import JOBS, TOPIC, WORKLOADS, Producer
from .world import World

logging.getLogger("penstock").addHandler(logging.NullHandler())  # that a disk is damaged is no news here

STORM_MS = 16_000
RECOVERY_MS = 10_000  # ten election time-outs
DRAIN_MS = 60_000  # then everything that anybody published is done: leases and sessions of the dead run out first
CALM_MS = 3_000
POLL_MS = 100
PLAYED = (1, 1, 2)  # of the features, in each seed
SIZES = (3, 5, 3, 3, 3, 5, 1)  # voters at the start, by seed


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
    turns: int


def run(seed: int) -> Outcome:
    """Play one seed through."""
    world = World(seed, SIZES[seed % len(SIZES)])
    recovery_ms, fault, check, story = 0, None, "", ""
    with _tight(world):
        try:
            recovery_ms = _play(world)
        except Exception as problem:
            fault, story = f"{type(problem).__name__}: {problem}", world.story()
            check = problem.check if isinstance(problem, Broken) else type(problem).__name__
    checks = world.checks
    terms = max(checks.primaries, default=0)
    return Outcome(seed, fault, check, story, terms, checks.acked, checks.answered, recovery_ms, world.turns.count)


@contextmanager
def _tight(world: World) -> Iterator[None]:
    """Bounds that a long life or a large load would meet are drawn near."""
    choice, choice_of_steps = world.random.choice, Random(f"{world.seed} steps").choice
    drawn = (
        ((core,), "FETCH_BYTES", (1000, 4000, 1 << 20)),
        ((core,), "APPLY_BYTES", (2000, 8 << 20)),
        ((pace,), "RETAIN_ENTRIES", (5, 60, 50_000)),
        ((broker_node,), "UNCOMMITTED_MAX", (10, 4000, 4000)),
        ((sessions, greeting), "WINDOW", (5, 128)),  # what is remembered, and what clients are told of it
    )
    steps = (  # of what one command, or one turn, does
        (queues, "DROP_MAX", (1, 256)),
        (parents, "TOLD_MAX", (1, 250)),
        (expiry, "OUTDATE_MAX", (1, 300)),
        (upkeep, "EXPIRED_MAX", (1, 500)),
    )
    values = [(module, name, value) for modules, name, some in drawn for value in [choice(some)] for module in modules]
    values += [(module, name, choice_of_steps(some)) for module, name, some in steps]
    before = [(module, name, getattr(module, name)) for module, name, _ in values]
    for module, name, value in values:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _play(world: World) -> int:
    nemesis = Nemesis(world)
    features = world.random.sample(FEATURES, world.random.choice(PLAYED))
    world.populate(WORKLOADS, tuple(features))
    nemesis.begin()
    world.run_until(STORM_MS)
    nemesis.stop()
    recovery_ms = _recover(world)
    world.is_ending = True
    for client in world.clients:
        world.at(world.now_ms + 1, client.wake)
    _drain(world)
    _judge(world)
    _judge_features(world)
    _stay_calm(world)
    return recovery_ms


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
    raise Broken("no recovery", f"within {RECOVERY_MS} ms; goal {goal}; {_about(world)}")


def _about(world: World) -> str:
    """Who is there, for the message."""
    told = []
    for seat in world.seats.values():
        what = "dead" if seat.is_dead else "down"
        if seat.machine is not None:
            raft = seat.machine.raft
            what = f"{raft.role.value} of term {raft.term} at {seat.commit}, members {tuple(raft.members)}"
        told.append(f"node {seat.node}: {what}")
    return ", ".join(told)


def _reached(world: World) -> int | None:
    """What all members of the one primary have applied."""
    primaries = world.primaries()
    if len(primaries) != 1 or primaries[0].machine is None:
        return None
    members = [world.seats[node] for node in primaries[0].machine.raft.members.everyone]
    if any(seat.machine is None for seat in members):
        return None
    return min(seat.applied for seat in members)


def _drain(world: World) -> None:
    """Consumers finish what there is: whatever was acknowledged has to come to somebody."""
    end_ms = world.now_ms + DRAIN_MS
    while (left := _left(world)) and world.now_ms < end_ms:
        world.run_until(world.now_ms + POLL_MS)
    if left:
        raise Broken("not drained", f"{left} left after {DRAIN_MS} ms; {_about(world)}")


def _left(world: World) -> str:
    """What is not done yet."""
    for client in world.clients:
        if not client.is_ready:
            return f"what {client.name} began"
    seat = next(iter(world.primaries()), None)
    if seat is None or seat.machine is None:
        return "no primary"
    state = seat.machine.node.desk.state
    for queue in state.queues.values():
        for group in queue.groups.values():
            if count := group.open_count(queue.next):
                return f"{count} of {queue.name} {group.name}"
    for client in world.clients:
        if client.watched and next(state.queues[client.watched].outcomes.after(client.after), None) is not None:
            return f"outcomes of {client.watched} after {client.after}"
    busy = [client.name for client in world.clients if client.is_alive and isinstance(client, (Producer, Sender))
            and client.under_way]  # fmt: skip
    return f"requests of {busy}" if busy else ""


def _judge(world: World) -> None:
    """What clients did and saw, against every promise."""
    record = history.for_groups(world.record, TOPIC)
    record = [event for event in record if event.queue != TOPIC]
    found = history.check(record, drained=True, jobs=(JOBS,))
    if found:
        world.note(0, "history", "\n".join(["", *found[:5], *_events(world, found[0])]))
        raise Broken("history", f"{found[0]} ({len(found)} such)")


def _judge_features(world: World) -> None:
    """What they promise, by the order of the log."""
    ledger = world.ledger
    ledger.close(world.checks.canon)
    ledger.lines = _lines(world)
    for feature in world.features:
        found = list(feature.judge(ledger))
        if found:
            world.note(0, feature.name, "\n".join(["", *found[:5]]))
            raise Broken(feature.name, f"{found[0]} ({len(found)} such)")


def _lines(world: World) -> dict[int, Sequence[str]]:
    """The logs of jobs, as the primary has them."""
    machine = world.primaries()[0].machine
    queue = machine.node.desk.state.queues.get(STEPS) if machine is not None else None
    if queue is None:
        return {}
    notes = {offset: queue.notes.at(offset) for offset in range(queue.next)}
    return {offset: note.lines for offset, note in notes.items() if note is not None}


def _events(world: World, sentence: str) -> list[str]:
    """Everything that befell the message which a sentence of the checker is about."""
    id = sentence.split()[1].rstrip(":")
    return [
        f"{event.at_ms / 1000:9.3f}  {event.actor}  {event.kind} {event.op} of {event.queue} attempt {event.attempt}"
        for event in world.record
        if id in event.ids
    ]


def _stay_calm(world: World) -> None:
    """Nothing is wrong any more: nobody may disturb the primary, a removed node least of all (rule 5)."""
    terms = max(seat.term for seat in world.primaries()) if world.primaries() else 0
    world.run_until(world.now_ms + CALM_MS)
    primaries = world.primaries()
    if [seat.term for seat in primaries] != [terms]:
        now = [(seat.node, seat.term) for seat in primaries]
        raise Broken("disturbed", f"the primary of term {terms} is gone though nothing was wrong; now {now} (rule 5)")
    for seat in world.seats.values():
        if seat.machine is not None:
            world.checks.model(seat, always=True)
