"""Three clients ask at random, several in one turn: each request is answered once, and a restart knows the same.

A run is its seed: `-k "seed7"` plays one again. HYPOTHESIS_PROFILE=long plays a thousand.
"""

from __future__ import annotations

import os
from collections import Counter
from random import Random
from typing import Any

import pytest
from kit.world import COUNTED, Client, World

from penstock.broker import checkpoint
from penstock.broker.desk import Limits
from penstock.broker.model import Model
from penstock.peers import wire
from penstock.peers.errors import ERRORS
from penstock.testing.memory import MemoryDisk

SEEDS = 1_000 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 25
STEPS = 250
NAMES = ("a", "a", "a", "b", "t", "a.dead")
WEIGHTS = {
    "append": 24, "pull": 16, "ack": 6, "complete": 6, "nack": 6, "reject": 3, "release": 3, "extend": 3,
    "job_result": 4, "outcomes": 4, "job_cancel": 3, "job_retry": 3, "jobs": 2, "job_status": 2, "peek": 2, "list": 1,
    "describe": 1, "status": 1, "ping": 1, "create": 3, "configure": 1, "delete": 1, "purge": 1, "pause": 1,
    "resume": 3, "group_create": 3, "group_seek": 2, "group_delete": 1, "group_retry": 2, "read": 2,
    "bye": 1,
    "job_retry_dead": 5, "move": 6, "job_progress": 9, "job_log": 9, "job_forget": 3, "call": 4, "job_info": 2,
    "job_explain": 2,
}  # fmt: skip
JOB_VERBS = ("job_cancel", "job_retry", "job_forget", "job_info", "job_explain")


class Crowd:
    """The clients, what they asked and have no answer to yet, and the dice."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        limits = Limits(session_timeout_ms=20_000, in_flight_max=6, checkpoint_entries=9, parked=4, cache_bytes=200)
        self.world = World(MemoryDisk(), limits)
        self.clients = [Client(self.world, name) for name in ("ana", "bob", "eve")]
        self.open: dict[tuple[bytes, int], tuple[str, int]] = {}  # (route, sequence) -> what was asked, which session
        self.answered: Counter[tuple[str, str]] = Counter()
        self.turn: list[tuple[bytes, list[bytes]]] = []

    def play(self) -> None:
        for verb, args in (
            ("create", {"name": "a", "kind": "queue", "options": {"max_failures": 2}}),
            ("create", {"name": "t", "kind": "topic"}),
            ("group_create", {"topic": "t", "group": "g", "start": "earliest"}),
        ):
            self.ask(self.clients[0], verb, args)
        for _ in range(STEPS):
            verb = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            client = self.random.choice(self.clients)
            self.ask(client, verb, self.arguments(client, verb))
            if self.random.random() < 0.7:
                self.end_turn(self.random.choice([0, 0, 1, 50, 400, 1_000]))
                self.come_back()
        self.end_turn(10_000)

    # -- what to ask --------------------------------------------------------------------------------------------------

    def arguments(self, client: Client, verb: str) -> dict[str, Any]:
        dice, state = self.random, self.world.node.desk.state
        queue = dice.choice(NAMES)
        wait_ms = dice.choice([0, 0, 300, 3_000])
        if verb in ("ack", "complete", "nack", "reject", "release", "job_progress", "job_log"):
            return self.settling(client, verb)
        if verb == "extend":
            return {
                "leases": [dice.choice([*state.leases, 12345]) for _ in range(2)],
                "lease_ms": dice.choice([50, 3_000]),
            }
        if verb == "pull":
            group = dice.choice(["g", "g", ""]) if queue == "t" else ""
            return {
                "queue": queue, "group": group, "messages": dice.choice([1, 2, 9]), "wait_ms": wait_ms,
                "bytes": dice.choice([1, 10, 1000]), "lease_ms": dice.choice([100, 1_500, 60_000]),
            }  # fmt: skip
        if verb == "append":
            return {"queue": queue, "count": dice.choice([1, 1, 3])}
        if verb == "create":
            options = [
                {},
                {"max_failures": 1},
                {"max_messages": 4},
                {"retry_delay_ms": 300},
                {"result_ttl_ms": 0},
                {"result_queue": "b"},
            ]
            kind = "topic" if queue == "t" else dice.choice(["queue", "queue", "queue", "topic"])
            return {
                "name": queue,
                "kind": kind,
                "options": dice.choice(options) if kind == "queue" else {"retention_ms": 2_000},
            }
        if verb == "configure":
            return {"name": queue, "options": dice.choice([{"max_failures": 2}, {"result_ttl_ms": 500}])}
        if verb == "group_retry":
            return {"topic": "t", "group": "g", "limit": dice.choice([1, 3])}
        if verb in ("group_create", "group_seek", "group_delete", "read"):
            starts = {"start": "earliest"}, {"start": "latest"}, {"start": "offset", "at": dice.randrange(9)}
            args = {"topic": "t", "wait_ms": wait_ms} if verb == "read" else {"topic": "t", "group": "g"}
            return args | (dice.choice(starts) if verb != "group_delete" else {})
        if verb == "call":
            return {"queue": queue, "wait_ms": wait_ms}
        if verb in ("job_retry_dead", "move"):
            return {"queue": queue, "limit": dice.choice([1, 3])} | ({"target": "b"} if verb == "move" else {})
        if verb in (*JOB_VERBS, "job_result", "job_status", "jobs", "outcomes"):
            return self.about_jobs(verb, queue, wait_ms)
        if verb == "peek":
            return {"name": queue, "group": "g" if queue == "t" else "", "limit": dice.choice([1, 5])}
        return {"name": queue} if verb in ("delete", "purge", "pause", "resume", "describe") else {}

    def settling(self, client: Client, verb: str) -> dict[str, Any]:
        dice = self.random
        mine = [lease for lease in self.world.node.desk.state.leases.values() if lease.session == session_of(client)]
        if not mine or dice.random() < 0.1:
            return {"lease": dice.choice([*self.world.node.desk.state.leases, 12345]), "ranges": [[0, 1]]}
        lease = dice.choice(mine)
        if verb in ("job_progress", "job_log"):
            args = (
                {"progress": dice.random()} if verb == "job_progress" else {"lines": ["x" * 100] * dice.choice([1, 99])}
            )
            return {"lease": lease.id, "offset": dice.choice(lease.spans).first, **args}
        spans = [[span.first, dice.randint(1, span.end - span.first)] for span in lease.spans]
        args: dict[str, Any] = {"lease": lease.id, "ranges": dice.sample(spans, dice.randint(1, len(spans)))}
        if verb == "complete" and dice.random() < 0.3:
            args["outputs"] = [[dice.choice(NAMES), 1], [dice.choice(NAMES), 2]]
        if verb == "nack":
            args |= {"error": b"e", "delay_ms": dice.choice([None, 0, 400])}
        if verb == "release" and dice.random() < 0.5:
            del args["ranges"]
        return args

    def about_jobs(self, verb: str, queue: str, wait_ms: int) -> dict[str, Any]:
        there = self.world.node.desk.state.queues.get(queue)
        last = there.next if there is not None else 1
        dead = []
        if verb in ("job_retry", "job_forget") and there is not None:
            dead = [it.first for _, step in there.outcomes.after(0) for it in step if it.status == "dead"]
        offset = self.random.choice(dead) if dead else max(0, last - self.random.choice([0, 1, 1, 2, 3, 4, 5]))
        return {
            **{verb: {"offset": offset} for verb in JOB_VERBS},
            "job_result": {"offset": offset, "wait_ms": wait_ms}, "jobs": {"limit": 4, "after": offset - 2},
            "job_status": {"offsets": [0, offset, 99]}, "outcomes": {"after": 0, "limit": 2, "wait_ms": wait_ms},
        }[verb] | {"queue": queue}  # fmt: skip

    def ask(self, client: Client, verb: str, args: dict[str, Any]) -> None:
        payload = None
        if verb == "call":
            payload = wire.pack_payload([b"c"])
        if verb == "append":
            headers: wire.Headers = [{"k": at} for at in range(args["count"])] if self.random.random() < 0.3 else None
            payload = wire.pack_payload([b"x" * self.random.choice([1, 90])] * args["count"], headers)
        if verb == "complete":
            outputs = sum(count for _, count in args.get("outputs", ()))
            payload = wire.pack_payload([b"r"] * (sum(count for _, count in args["ranges"]) + outputs))
        sequence = client.number(verb)
        self.open[client.route, sequence] = verb, session_of(client)
        self.turn.append((client.route, wire.request(verb, sequence, args, payload)))

    # -- what comes of it ---------------------------------------------------------------------------------------------

    def end_turn(self, ms: int) -> None:
        if self.random.random() < 0.9:  # else somebody may fall silent for too long
            for client in self.clients:
                self.ask(client, "ping", {})
        self.world.turn(self.turn)
        self.turn = []
        self.world.advance(ms)
        for client in self.clients:
            for reply in client.heard():
                assert (client.route, reply.sequence) in self.open, f"a second reply, or one to nothing: {reply}"
                verb, _ = self.open.pop((client.route, reply.sequence))
                assert reply.status == "ok" or reply.status in ERRORS
                assert len(reply.bodies) == sum(some[1] for some in reply.body.get("ranges", ()) or ()) or verb not in (
                    "pull",
                    "peek",
                )
                empty = verb == "pull" and reply.status == "ok" and reply.body["lease"] is None
                self.answered[verb, "nothing" if empty else reply.status] += 1

    def come_back(self) -> None:
        """Whose session has ended comes back with another, on another connection."""
        for place, client in enumerate(self.clients):
            if session_of(client) not in self.world.node.desk.state.sessions:
                name = client.route.decode().split(":")[0]
                self.clients[place] = Client(self.world, f"{name}:{self.world.node.desk.state.applied}")


def session_of(client: Client) -> int:
    return int(client.session.split("-")[0], 16)


@pytest.mark.parametrize("seed", range(SEEDS), ids=lambda seed: f"seed{seed}")
def test_every_request_is_answered_once_and_a_restart_knows_the_same(seed: int) -> None:
    crowd = Crowd(seed)
    crowd.play()
    world = crowd.world
    # Whoever said bye, or fell silent, is not there to be answered.
    alive = world.node.desk.state.sessions
    assert not {verb for verb, session in crowd.open.values() if session in alive}
    again = Model(world.disk.copy())
    checkpoint.restore(again, *world.disk.rows())
    for entry in world.disk.replay():
        again.apply(entry)
    assert checkpoint.digest(again) == world.digest()
    world.restart(clean=seed % 2 == 0)
    world.advance(60_000)
    assert not world.node.desk.state.leases
    assert not world.node.desk.state.sessions, "nobody spoke any more"


def test_the_crowd_does_everything_with_success() -> None:
    answered: Counter[tuple[str, str]] = Counter()
    for seed in range(24):
        crowd = Crowd(seed)
        crowd.play()
        answered += crowd.answered
    asked = {verb for verb in {*WEIGHTS, *COUNTED} - {"cluster_add", "cluster_remove"} if "schedule" not in verb}
    worked = {verb: answered[verb, "ok"] for verb in asked}
    assert min(worked.values()) >= 3, worked
