"""Cancelled jobs in a pool, through real MPI: told, killed at their grace, refused; and nobody else pays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.mpi
Start = Callable[..., Any]
TALK: dict[str, Any] = {"queue": "talk", "tasks": "talking_tasks"}
SQUARES = [("square", {"n": n}) for n in range(100)]


def all_but(run: Any, *cancelled: int) -> Any:
    """Stopped, when all others are done, each in its first try. The cancelled ones have no outcome from us."""
    others = {number for number in range(run.source.jobs) if number not in cancelled}
    run.until(lambda: run.outcomes.keys() >= others and run.counters.cancelled == len(cancelled), "the others to end")
    run.stop()
    assert {number for number, (how, _) in run.outcomes.items() if how == "done"} == others == run.outcomes.keys()
    assert run.source.released == []
    assert sorted(run.source.taken) == list(range(run.source.jobs))
    assert (run.state.failed, run.state.cancelled) == (0, len(cancelled))
    return run


def test_a_task_that_looks_is_told_and_ends_by_itself(start: Start, tmp_path: Path) -> None:
    began, stopped = tmp_path / "began", tmp_path / "stopped"
    run = start([("obey", {"began": str(began), "stopped": str(stopped)}), *SQUARES], **TALK)
    run.until(began.exists, "the job to begin")
    run.source.cancel(0)
    assert all_but(run, 0).state.restarts == 0
    assert stopped.exists()


def test_one_that_does_not_look_is_killed_at_its_grace_and_its_neighbours_run(start: Start, tmp_path: Path) -> None:
    began = tmp_path / "began"
    run = start([("ignore", {"began": str(began)}), *SQUARES], cancel_grace_s=0.1, ranks=1, **TALK)
    run.until(began.exists, "the job to begin")
    run.source.cancel(0)
    assert all_but(run, 0).state.restarts == 0


def test_one_that_has_not_begun_never_does(start: Start, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    jobs = [("ignore", {"began": str(first), "seconds": 1.0}), ("ignore", {"began": str(second)})]
    run = start([*jobs, *SQUARES], ranks=1, **TALK)
    run.until(first.exists, "the job before it to begin")
    run.until(lambda: 1 in run.source.taken, "it to be taken")
    run.source.cancel(1)
    all_but(run, 1)
    assert not second.exists()


def batch_of_two(tmp_path: Path) -> list[tuple[str, Any]]:
    """Three jobs, of which one rank gets two in a call."""
    files = {"calls": str(tmp_path / "calls"), "release": str(tmp_path / "release")}
    return [("ignore_together", {"n": n, **files}) for n in range(3)]


def test_a_batch_call_is_ended_when_all_its_jobs_are_cancelled_and_no_sooner(start: Start, tmp_path: Path) -> None:
    run = start(batch_of_two(tmp_path), cancel_grace_s=0.0, ranks=1, **TALK)
    run.until((tmp_path / "calls").exists, "the call")
    helpers = run.supervisor.world["helpers"]
    run.source.cancel(1)
    run.until(lambda: (run.supervisor._runner.wait_s() or 0) > 0.1, "the kill to be asked for")
    (tmp_path / "release").touch()
    run.until(lambda: 0 in run.outcomes, "the other one to end")
    assert run.supervisor.world["helpers"] == helpers
    all_but(run, 1)
    assert (tmp_path / "calls").read_text() == "2\n1\n"


def test_a_batch_call_all_of_whose_jobs_are_cancelled_is_killed(start: Start, tmp_path: Path) -> None:
    run = start([*batch_of_two(tmp_path), *SQUARES], cancel_grace_s=0.05, ranks=1, **TALK)
    run.until((tmp_path / "calls").exists, "the call")
    for number in range(3):
        run.source.cancel(number)
    assert all_but(run, 0, 1, 2).state.restarts == 0
    assert (tmp_path / "calls").read_text() == "2\n"


def test_a_collective_job_is_told_on_all_its_ranks(start: Start, tmp_path: Path) -> None:
    began = tmp_path / "began"
    run = start([("obey_together", {"began": str(began)}), *SQUARES], **TALK)
    run.until(began.exists, "the job to begin")
    run.source.cancel(0)
    assert all_but(run, 0).state.restarts == 0


def test_a_collective_job_that_does_not_look_ends_its_world_and_nobody_else_pays(start: Start, tmp_path: Path) -> None:
    began = tmp_path / "began"
    run = start([*SQUARES, ("ignore_everywhere", {"began": str(began)}), *SQUARES], cancel_grace_s=0.1, **TALK)
    run.until(began.exists, "the job to begin")
    run.source.cancel(100)
    assert all_but(run, 100).state.restarts == 1


def test_ranks_that_wait_for_one_that_was_told_are_ended_and_nobody_else_pays(start: Start, tmp_path: Path) -> None:
    began = tmp_path / "began"
    run = start([("one_obeys", {"began": str(began)}), *SQUARES], cancel_grace_s=60.0, **TALK)
    run.until(began.exists, "the job to begin")
    run.source.cancel(0)
    assert all_but(run, 0).state.restarts == 1


def test_a_collective_job_that_has_not_begun_never_does(start: Start, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    jobs = [("obey_together", {"began": str(first)}), ("ignore_everywhere", {"began": str(second)}), ("speak", {})]
    run = start(jobs, **TALK)
    run.until(first.exists, "the first to begin")
    run.until(lambda: len(run.source.taken) == 3, "all to be taken")
    run.source.cancel(1)
    run.source.cancel(0)
    assert all_but(run, 0, 1).state.restarts == 0
    assert not second.exists()
