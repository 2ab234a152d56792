"""kill -9 of the daemon, again and again, at any moment, while everybody works: nothing is lost, nothing done twice.

PENSTOCK_ROUNDS kills (default 3; `make soak`: 50) with the dice of PENSTOCK_SEED.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from faults.crew import PROGRESS_MAX, ROUNDS, Crew, daemon_at, end, make_queues, progress
from penstock.cli.private import PrivateDaemon

SHORT_LEASE_S = 2.0  # what a killed client held comes back soon
STARTING_MAX_S = 0.5  # a kill may hit the start, too

LIMITS = {
    "few checkpoints": "",
    "a checkpoint every 50 entries": "[limits]\ncheckpoint_entries = 50\n",
}


MIXED = (
    ("produce", "p1"),
    ("produce", "p2"),
    ("submit", "s1"),
    ("consume", "c1"),
    ("consume", "c2"),
    ("complete", "w1"),
)


@pytest.mark.parametrize("limits", LIMITS)
def test_nothing_is_lost_and_nothing_done_twice_however_often_the_daemon_is_killed(short: Path, limits: str) -> None:
    with daemon_at(short, LIMITS[limits]) as daemon, Crew(daemon) as crew:
        make_queues(daemon.endpoint)
        for role, name in MIXED:
            crew.start(role, name)
        for _ in range(ROUNDS):
            progress(crew, crew.random.randrange(1, PROGRESS_MAX))
            _kill_the_daemon(crew)
        end(crew, limits)


def test_nor_in_the_groups_of_a_topic(short: Path) -> None:
    with daemon_at(short, LIMITS["a checkpoint every 50 entries"]) as daemon, Crew(daemon) as crew:
        make_queues(daemon.endpoint)
        for role, name in (("publish", "p1"), ("publish", "p2"), ("follow", "g1"), ("follow", "g2")):
            crew.start(role, name)
        for _ in range(ROUNDS):
            progress(crew, crew.random.randrange(1, PROGRESS_MAX))
            _kill_the_daemon(crew)
        end(crew, "a topic")


def test_nor_when_clients_are_killed_with_it(short: Path) -> None:
    with daemon_at(short) as daemon, Crew(daemon) as crew:
        make_queues(daemon.endpoint)
        for role, name in MIXED:
            crew.start(role, name, lease_s=SHORT_LEASE_S)
        for number in range(ROUNDS):
            progress(crew, crew.random.randrange(1, PROGRESS_MAX))
            role, name = crew.random.choice(crew.members())
            crew.kill(name)
            if crew.random.random() < 0.5:
                _kill_the_daemon(crew)
            crew.start(role, f"{name[0]}{10 + number}", lease_s=SHORT_LEASE_S)
        end(crew, "clients, too")


def _kill_the_daemon(crew: Crew[PrivateDaemon]) -> None:
    """And start it again. Some are killed once more at the start; others end cleanly, amid all the work."""
    dice = crew.random.random()
    if dice < 0.2:
        assert crew.daemon.stop() == 0, crew.daemon.log.read_text()
    else:
        crew.daemon.kill()
    if dice > 0.8:
        _kill_at_its_start(crew.daemon, crew.random.uniform(0, STARTING_MAX_S))
    crew.daemon.start()


def _kill_at_its_start(daemon: PrivateDaemon, after_s: float) -> None:
    """Start it and kill it while it recovers, or shortly after."""
    daemon.launch()
    time.sleep(after_s)
    daemon.kill()
