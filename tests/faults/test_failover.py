"""Three daemons of which some are killed or frozen while everybody works: nothing is lost, nothing is done twice."""

from __future__ import annotations

import time

from kit.daemons import Raw

from faults.cluster import NODES, STEP, Cluster, told
from faults.crew import ROUNDS, Crew, progress, until
from faults.steady import steady

FEW = max(1, ROUNDS // 3)  # of what takes longer
FROZEN_S = (2.0, 3.5)  # longer than an election takes
PULSE_S = (0.05, 0.5)


def test_a_killed_primary_is_replaced(near_crew: Crew[Cluster]) -> None:
    cluster = near_crew.daemon
    for _ in range(ROUNDS):
        progress(near_crew, STEP)
        victim = cluster.whole()
        cluster.kill(victim)
        assert cluster.primary() != victim
        progress(near_crew, STEP)  # two of three go on without it
        cluster.start(victim)
    cluster.whole()
    told(near_crew, "primary killed")


def test_a_killed_replica_is_not_missed_and_catches_up(near_crew: Crew[Cluster]) -> None:
    cluster = near_crew.daemon
    for _ in range(FEW):
        primary = cluster.whole()
        victim = near_crew.random.choice(cluster.replicas(primary))
        with steady(cluster.endpoints(victim)):
            cluster.kill(victim)
            progress(near_crew, STEP)
        cluster.start(victim)
    cluster.whole()
    told(near_crew, "replica killed")


def test_all_three_killed_at_once_come_back_with_everything(near_crew: Crew[Cluster]) -> None:
    cluster = near_crew.daemon
    cluster.whole()
    for _ in range(FEW):
        cluster.kill(*NODES)
        cluster.start(*NODES)
        progress(near_crew, STEP)
        cluster.whole()
    told(near_crew, "all killed")


def test_a_frozen_primary_is_replaced_and_says_nothing_as_primary_when_it_wakes_up(near_crew: Crew[Cluster]) -> None:
    cluster = near_crew.daemon
    for number in range(FEW):
        old = cluster.whole()
        with Raw(cluster.client(old)) as raw, Raw(cluster.client(old)) as reader:
            raw.hello()
            reader.say("hello", 0, {"version": 1, "client": "raw", "read_only": True})
            assert raw.do("create", name=f"before{number}", kind="queue").status == "ok"
            cluster.freeze(old)
            until_s = time.monotonic() + near_crew.random.uniform(*FROZEN_S)
            # What waits in its sockets when it wakes up: a write, reads, a look at the node itself.
            raw.say_later("create", raw.sequence + 1, {"name": f"after{number}", "kind": "queue"})
            raw.say_later("describe", -101, {"name": f"before{number}"})
            raw.say_later("status", -102, {})
            reader.say_later("cluster", -103, {})
            new = cluster.primary(other_than=old)
            assert new != old
            progress(near_crew, STEP)
            time.sleep(max(0.0, until_s - time.monotonic()))
            cluster.thaw(old)
            refused = {raw.receive().status for _ in range(3)}
            assert refused <= {"NotPrimary", "NoQuorum"}, refused
            answer = reader.receive()
            assert answer.status in ("NotPrimary", "NoQuorum") or answer.body["role"] != "primary", answer
        until(lambda old=old, new=new: cluster.sees(old, lambda info: info.primary == new), "the old primary follows")
    told(near_crew, "primary frozen")


def test_a_replica_that_freezes_again_and_again_is_not_missed_and_disturbs_nobody(near_crew: Crew[Cluster]) -> None:
    cluster = near_crew.daemon
    primary = cluster.whole()
    victim = near_crew.random.choice(cluster.replicas(primary))
    with steady(cluster.endpoints(victim)):
        for _ in range(ROUNDS):
            cluster.freeze(victim)
            time.sleep(near_crew.random.uniform(*PULSE_S))
            progress(near_crew, STEP)
            cluster.thaw(victim)
            time.sleep(near_crew.random.uniform(*PULSE_S))
        cluster.freeze(victim)
        time.sleep(min(FROZEN_S))
        cluster.thaw(victim)
        cluster.whole()
    told(near_crew, "replica frozen")
