"""A pool on a queue in memory, with real MPI: what runs, what fails alone, what comes back, what is left behind."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.compute.orphans import started_ticks

pytestmark = pytest.mark.mpi
Start = Callable[..., Any]
SQUARES = [("square", {"n": n}) for n in range(300)]


def squares_are_done(outcomes: dict[int, tuple[str, Any]], first: int) -> bool:
    return all(outcomes[first + n] == ("done", n * n) for n in range(len(SQUARES)))


def test_jobs_are_spread_over_two_ranks(start: Start) -> None:
    run = start([*SQUARES, *[("where", {"seconds": 0.02})] * 20]).finish()
    assert squares_are_done(run.outcomes, 0)
    assert len({run.outcomes[300 + place][1]["pid"] for place in range(20)}) == 2
    assert (run.state.taken, run.state.done, run.state.failed, run.state.restarts) == (320, 320, 0, 0)
    assert run.errors == [""]


def test_one_rank_is_enough(start: Start) -> None:
    jobs = [("forecast", {"assets": [place % 100]}) for place in range(300)]
    run = start(jobs, ranks=1, queue="forecast", tasks="penstock.compute.forecast").finish()
    assert {how for how, _ in run.outcomes.values()} == {"done"}


def test_an_exception_fails_its_job_with_traceback_and_rank(start: Start) -> None:
    run = start([*SQUARES, ("fail", {"message": "not today"})]).finish()
    how, error = run.outcomes[300]
    assert (how, error["type"], error["message"]) == ("failed", "ValueError", "not today")
    assert "raise ValueError(message)\nValueError: not today" in error["traceback"]
    assert "penstock" not in error["traceback"].replace("sample_tasks.py", "").replace(str(Path(__file__).parent), "")
    assert error["rank"] in (0, 1)
    assert squares_are_done(run.outcomes, 0)


def test_leaving_the_interpreter_fails_its_job_only(start: Start) -> None:
    run = start([("leave", {"status": 3}), *SQUARES]).finish()
    assert run.outcomes[0][0] == "failed"
    assert run.outcomes[0][1]["type"] == "SystemExit"
    assert squares_are_done(run.outcomes, 1)


def test_what_jobs_print_at_once_comes_out_in_whole_lines(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    start([("prints", {"count": 200})] * 4).finish()
    lines = [line for line in capsys.readouterr().err.splitlines() if " line " in line]
    assert len(lines) == 4 * 2 * 200
    assert all(re.fullmatch(r"\d+ (prints|complains of) line \d+\.", line) for line in lines)


def test_the_last_line_that_was_printed_comes_out_without_its_end(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    start([("prints", {"count": 0, "rest": "no more to say"})]).finish()
    assert "no more to say\n" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["long", "long_ones", "long_together"])
def test_a_result_that_no_daemon_takes_fails_its_job_and_no_other(start: Start, task: str) -> None:
    run = start([*SQUARES, (task, {"size": 2**20}), (task, {"size": 9}), *SQUARES]).finish()
    how, error = run.outcomes[300]
    assert (how, error["type"]) == ("failed", "ResultError")
    assert "has 1048581 bytes, the daemon takes 1048576" in error["message"]
    assert run.outcomes[301] == ("done", bytes(9))
    assert squares_are_done(run.outcomes, 0)
    assert squares_are_done(run.outcomes, 302)


def test_of_a_long_error_its_beginning_and_its_end_are_told(start: Start) -> None:
    run = start([("shout", {"size": 2**24}), ("square", {"n": 3})]).finish()
    error = run.outcomes[0][1]
    assert error["message"].startswith("aaa")
    assert error["message"].endswith("aaaend")
    assert "bytes left out" in error["message"]
    assert error["traceback"].startswith("Traceback")
    assert len(error["message"]) + len(error["traceback"]) < 2**16
    assert run.outcomes[1] == ("done", 9)


def test_an_error_that_cannot_be_said_fails_its_job_only(start: Start) -> None:
    run = start([("mute", {}), ("lost_file", {}), ("square", {"n": 3})]).finish()
    how, error = run.outcomes[0]
    assert (how, error["type"]) == ("failed", "Mute")
    assert "cannot be had: RuntimeError" in error["message"]
    assert "'/no/such/\\udcff'" in run.outcomes[1][1]["message"]
    assert run.outcomes[2] == ("done", 9)


@pytest.mark.parametrize(("how", "said"), [("exit", "exited with status 3"), ("kill", "was killed by SIGKILL")])
def test_a_job_that_kills_its_process_fails_alone_and_the_world_lives(start: Start, how: str, said: str) -> None:
    run = start([*SQUARES, ("die", {"how": how}), *SQUARES]).finish()
    assert run.outcomes[300][0] == "failed"
    assert run.outcomes[300][1]["type"] == "WorkerDied"
    assert said in run.outcomes[300][1]["message"]
    assert squares_are_done(run.outcomes, 0)
    assert squares_are_done(run.outcomes, 301)
    assert run.state.restarts == 0


def test_a_job_beyond_its_time_limit_is_killed_and_named(start: Start) -> None:
    run = start([("sleep", {"seconds": 60}), *SQUARES, ("sleep", {"seconds": 0.01})]).finish()
    assert run.outcomes[0][0] == "failed"
    assert run.outcomes[0][1]["type"] == "Timeout"
    assert "time limit of 0.3 s" in run.outcomes[0][1]["message"]
    assert run.outcomes[301] == ("done", 0.01)
    assert squares_are_done(run.outcomes, 1)


def test_wrong_arguments_are_rejected_for_good(start: Start) -> None:
    run = start([("square", {"n": "x"}), ("square", {}), ("nowhere", {}), ("square", {"n": 3})]).finish()
    assert [run.outcomes[place][0] for place in range(4)] == ["rejected", "rejected", "rejected", "done"]
    assert "n is 'x'" in run.outcomes[0][1]["message"]
    assert "nowhere" in run.outcomes[2][1]["message"]


def test_a_batch_task_may_fail_single_jobs(start: Start) -> None:
    run = start([("halve", {"n": n}) for n in range(200)]).finish()
    assert all(run.outcomes[n] == ("done", n // 2) for n in range(0, 200, 2))
    assert all(run.outcomes[n][1]["message"] == f"{n} is odd" for n in range(1, 200, 2))


def test_a_batch_that_raises_is_run_one_by_one(start: Start) -> None:
    run = start([("raises", {"n": -1 if n == 77 else n}) for n in range(200)]).finish()
    assert {n for n in range(200) if run.outcomes[n][0] != "done"} == {77}
    assert run.outcomes[77][1]["traceback"].count("Traceback") == 1


def test_a_batch_that_dies_is_run_one_by_one(start: Start) -> None:
    run = start([("halve", {"n": 2 * n, "die": n == 77}) for n in range(200)]).finish()
    assert {n for n in range(200) if run.outcomes[n][0] != "done"} == {77}
    assert run.outcomes[77][1]["type"] == "WorkerDied"
    assert run.state.restarts == 0


def test_a_collective_job_runs_on_all_ranks_and_rank_0_answers(start: Start) -> None:
    run = start([*SQUARES, ("together", {"n": 2}), ("together", {"n": 3}), *SQUARES], ranks=3).finish()
    assert run.outcomes[300] == ("done", [0, 2, 4])
    assert run.outcomes[301] == ("done", [0, 3, 6])
    assert squares_are_done(run.outcomes, 0)
    assert squares_are_done(run.outcomes, 302)


def test_a_module_of_tasks_may_import_mpi_which_begins_in_the_ranks_only(start: Start) -> None:
    run = start([("largest", {"n": 7}), ("began", {})], tasks="mpi_tasks").finish()
    assert run.outcomes == {0: ("done", 7), 1: ("done", False)}
    assert run.state.restarts == 0


def test_what_a_job_has_started_ends_with_its_helper(start: Start, eventually: Callable[..., Any]) -> None:
    run = start([("starts", {"die": False}), ("starts", {"die": True})], tasks="mpi_tasks", ranks=1).finish()
    assert run.outcomes[1][1]["type"] == "WorkerDied"
    eventually(lambda: started_ticks(run.outcomes[0][1]) is None, "the end of what the first job has started")


def test_a_collective_job_may_ask_for_some_ranks(start: Start) -> None:
    run = start([("pair", {})] * 5 + SQUARES, ranks=3).finish()
    assert all(run.outcomes[place] == ("done", 2) for place in range(5))
    assert squares_are_done(run.outcomes, 5)


@pytest.mark.parametrize("rank", [0, 1])
def test_an_exception_in_one_rank_fails_a_collective_job(start: Start, rank: int) -> None:
    run = start([("one_raises", {"rank": rank, "stuck": False}), ("together", {"n": 1})]).finish()
    assert run.outcomes[0][0] == "failed"
    assert (run.outcomes[0][1]["type"], run.outcomes[0][1]["rank"]) == ("ValueError", rank)
    assert run.outcomes[1] == ("done", [0, 1])
    assert run.state.restarts == 0


def test_ranks_that_wait_for_one_that_raised_are_ended_and_the_job_is_named(start: Start) -> None:
    run = start([("one_raises", {"rank": 1, "stuck": True}), ("together", {"n": 1}), *SQUARES]).finish()
    assert run.outcomes[0][0] == "failed"
    assert run.outcomes[0][1]["message"] == "rank 1 does not like this"
    assert run.outcomes[1] == ("done", [0, 1])
    assert squares_are_done(run.outcomes, 2)
    assert run.state.restarts == 1


def test_a_collective_job_that_always_kills_a_rank_is_found_out_and_nobody_else_pays(start: Start) -> None:
    run = start([*SQUARES, ("one_dies", {"rank": 1}), ("together", {"n": 1}), *SQUARES]).finish()
    assert run.outcomes[300][0] == "rejected"
    assert "also when it ran alone" in run.outcomes[300][1]["message"]
    assert {place for place, (how, _) in run.outcomes.items() if how != "done"} == {300}
    assert run.state.restarts == 2


def test_the_log_says_how_a_world_died_and_which_jobs_ran_in_it(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start([("one_dies", {"rank": 1, "once": str(tmp_path / "once")})]).finish()
    (said,) = [record.getMessage() for record in caplog.records if "has died" in record.getMessage()]
    assert "its launcher " in said or "rank process " in said
    assert "in it ran work/0 (one_dies, 1 jobs): starting another one" in said


def test_a_collective_job_that_kills_a_rank_once_is_done_in_the_end(start: Start, tmp_path: Path) -> None:
    run = start([("one_dies", {"rank": 0, "once": str(tmp_path / "once")}), *SQUARES]).finish()
    assert run.outcomes[0] == ("done", "survived")
    assert squares_are_done(run.outcomes, 1)
    assert run.state.restarts == 1


def test_a_collective_job_beyond_its_time_limit_ends_its_world(start: Start) -> None:
    run = start([("hang", {}), ("together", {"n": 1})]).finish()
    assert run.outcomes[0][0] == "failed"
    assert run.outcomes[0][1]["type"] == "Timeout"
    assert run.outcomes[1] == ("done", [0, 1])


@pytest.mark.parametrize("victim", ["launcher", "rank", "helper", "all helpers"])
def test_the_pool_goes_on_after_kill_9(start: Start, victim: str) -> None:
    run = start([("nap", {"seconds": 0.02})] * 100)
    run.until(lambda: len(run.outcomes) >= 5, "the first jobs to end")
    world = run.supervisor.world
    victims = {
        "launcher": [world["launcher"]],
        "rank": world["ranks"][:1],
        "helper": world["helpers"][:1],
        "all helpers": world["helpers"],
    }[victim]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    run.finish()
    failed = [error for how, error in run.outcomes.values() if how != "done"]
    if "helper" in victim:
        # Nobody can tell a killer from a victim: the job that ran there is charged with a failure, and will be retried.
        assert len(failed) <= len(victims)
        assert all(error["type"] == "WorkerDied" for error in failed)
    else:
        assert failed == []
        assert run.state.restarts == 1
    assert all(started_ticks(pid) is None for pid in (world["launcher"], *world["ranks"], *world["helpers"]))


def test_a_stop_finishes_what_runs_and_gives_back_the_rest(start: Start) -> None:
    run = start([("nap", {"seconds": 0.5})] * 20)
    run.until(lambda: run.source.taken, "the first lease")
    world = run.until(lambda: run.supervisor.world, "a world")
    run.stop()
    ended, returned = set(run.outcomes), set(run.source.released)
    assert ended | returned == set(run.source.taken)
    assert not ended & returned
    assert all(how == "done" for how, _ in run.outcomes.values())
    assert run.errors == [""]
    assert all(started_ticks(pid) is None for pid in (world["launcher"], *world["ranks"], *world["helpers"]))


def test_a_stop_waits_no_longer_than_its_grace(start: Start) -> None:
    run = start([("nap", {"seconds": 60})] * 2, grace_s=0.1)
    run.until(lambda: len(run.source.taken) == 2, "both leases")
    run.stop()
    assert run.outcomes == {}
    assert sorted(run.source.released) == [0, 1]


def test_a_world_that_cannot_start_is_given_up_with_its_last_words(start: Start) -> None:
    run = start([], launcher="{bin}/mpiexec --no-such-option -n {ranks}")
    run.until(lambda: run.errors, "the pool to give up")
    assert "died 3 times at its start: its launcher exited with status " in run.errors[0]
    assert "no-such-option" in run.errors[0]


def test_tasks_that_only_the_ranks_cannot_import_are_given_up_with_the_reason(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "picky_tasks.py").write_text(
        "import os\nfrom penstock.compute.task import task\n"
        "if 'PENSTOCK_WORLD' in os.environ: raise RuntimeError('not among ranks')\n"
        "@task(queue='work')\ndef f(n: int) -> int: return n\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    run = start([], tasks="picky_tasks")
    run.until(lambda: run.errors, "the pool to give up")
    assert "not among ranks" in run.errors[0]
