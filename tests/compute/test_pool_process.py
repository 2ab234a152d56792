"""Pools as processes of their own, on a real daemon: outcomes, dead letters, leases, orphans, rest."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from sample_tasks import die, fail, nap, one_dies, square, submits, together, total, who, who_everywhere, who_together

from penstock.client import Client, Job
from penstock.compute.pool import PoolConfig, PoolProcess, plan_of
from penstock.compute.registry import PoolState, pool_status, stop_pool
from penstock.peers.errors import JobCancelled, JobFailed, PenstockError

pytestmark = pytest.mark.mpi
Spawn = Callable[..., PoolProcess]
Eventually = Callable[..., Any]
WAIT_S = 20.0


@pytest.fixture(autouse=True)
def empty_queue(client: Client) -> None:
    """Each test begins with nothing in the queue of the sample tasks."""
    client.create_queue("work", max_failures=2, exist_ok=True)
    client.purge("work")


def error_of(job: Job) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        job.result(timeout=WAIT_S)
    return caught.value


def family(state: PoolState) -> list[psutil.Process]:
    """The supervisor and all that it started, now."""
    supervisor = psutil.Process(state.pid)
    return [supervisor, *supervisor.children(recursive=True)]


def all_gone(processes: list[psutil.Process]) -> bool:
    """Zombies count as gone: who reaps them is init's business."""
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)


def test_jobs_are_submitted_run_and_answered(client: Client, spawn: Spawn) -> None:
    jobs = square.submit_many(client, [{"n": n} for n in range(500)])
    collective = together.submit(client, n=3)
    spawn()
    assert [job.result(timeout=WAIT_S) for job in jobs] == [n * n for n in range(500)]
    assert collective.result(timeout=WAIT_S) == [0, 3]
    assert str(jobs[0].describe().owner).startswith("pool work on ")


def test_a_task_finds_the_daemon_it_works_for_and_the_log_tells_the_time(
    client: Client, spawn: Spawn, tmp_path: Path
) -> None:
    job = submits.submit(client, n=3)
    spawn()
    assert client.job(job.result(timeout=WAIT_S)).result(timeout=WAIT_S) == 9
    said = (tmp_path / "pool.log").read_text()
    assert re.match(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO pool work: 2 ranks are ready for queue 'work'\n", said
    )


def test_a_task_knows_its_job(client: Client, spawn: Spawn) -> None:
    spawn()
    job = who.options(key="k", headers={"a": 1}).submit(client)
    found = {"id": job.id, "attempt": 1, "key": "k", "headers": {"a": 1}, "parents": []}
    assert job.result(timeout=WAIT_S) == found
    many = who_together.submit_many(client, [{}] * 100)
    assert many.results(timeout=WAIT_S) == [each.id for each in many]
    everywhere = who_everywhere.submit(client)
    assert everywhere.result(timeout=WAIT_S) == [everywhere.id] * 2


def test_a_gather_task_is_given_what_its_parents_returned(client: Client, spawn: Spawn) -> None:
    parts = square.submit_many(client, [{"n": n} for n in range(20)], gather=(total, {}))
    spawn()
    assert parts.gather is not None
    assert parts.gather.result(timeout=WAIT_S) == sum(n * n for n in range(20))


def test_a_job_may_have_a_time_limit_of_its_own(client: Client, spawn: Spawn) -> None:
    spawn()
    slow = nap.options(time_limit="200ms").submit(client, seconds=60)
    good = nap.options(time_limit="30s").submit(client, seconds=0.01)
    assert "time limit of 0.2 s" in str(error_of(slow))
    assert good.result(timeout=WAIT_S) == 0.01


def test_a_failed_job_is_tried_again_and_dies_with_traceback_and_rank(client: Client, spawn: Spawn) -> None:
    spawn()
    job = fail.submit(client, message="never")
    error = error_of(job)
    assert "ValueError: never" in error.traceback
    assert error.rank in (0, 1)
    assert job.status() == "dead"


def test_killers_among_good_jobs_die_alone(client: Client, spawn: Spawn) -> None:
    good = square.submit_many(client, [{"n": n} for n in range(100)])
    bad = [die.submit(client, how=how) for how in ("exit", "kill")]
    more = square.submit_many(client, [{"n": n} for n in range(100)])
    pool = spawn()
    assert [job.result(timeout=WAIT_S) for job in good + more] == [n * n for n in range(100)] * 2
    assert "exited with status 3" in str(error_of(bad[0]))
    assert "killed by SIGKILL" in str(error_of(bad[1]))
    state = pool.state()
    assert state is not None
    assert state.restarts == 0


def test_a_poison_job_goes_to_the_dead_letters_and_charges_nobody_else(client: Client, spawn: Spawn) -> None:
    poison = one_dies.submit(client, rank=1)
    good = square.submit_many(client, [{"n": n} for n in range(100)])
    spawn()
    assert "ended the whole MPI world" in str(error_of(poison))
    assert [job.result(timeout=WAIT_S) for job in good] == [n * n for n in range(100)]
    assert client.describe("work").delayed == 0
    assert [message.failures for message in client.peek("work.dead", 1000)][-1:] == [0]


def test_arguments_that_are_wrong_die_at_once(client: Client, spawn: Spawn) -> None:
    spawn()
    assert "n is 'x'" in str(error_of(client.submit("work", {"n": "x"}, task="square")))
    assert "names the task 'nowhere'" in str(error_of(client.submit("work", {}, task="nowhere")))
    assert "a job is a map of arguments" in str(error_of(client.submit("work", [1, 2], task="square")))


def test_a_cancelled_job_takes_no_results_of_others_with_it(
    client: Client, spawn: Spawn, eventually: Eventually
) -> None:
    spawn().wait_ready()
    jobs = nap.submit_many(client, [{"seconds": 0.2}] * 8)
    eventually(lambda: client.describe("work").leased, "a lease")
    jobs[3].cancel()
    with pytest.raises(JobCancelled):
        jobs[3].result(timeout=WAIT_S)
    assert [job.result(timeout=WAIT_S) for job in jobs[:3] + jobs[4:]] == [0.2] * 7


def test_a_lease_is_renewed_while_a_job_runs(client: Client, spawn: Spawn) -> None:
    spawn(lease=timedelta(milliseconds=600))
    job = nap.submit(client, seconds=2.0)
    assert job.result(timeout=WAIT_S) == 2.0
    (info,) = [each.info for each in client.jobs("work", limit=1000) if each.offset == job.offset] or [None]
    assert info is None or info.failures == 0


def test_a_clean_stop_gives_back_what_has_not_begun(
    client: Client, spawn: Spawn, tmp_path: Path, eventually: Eventually
) -> None:
    pool = spawn(name="mine")
    pool.wait_ready()
    jobs = nap.submit_many(client, [{"seconds": 0.3}] * 30)
    eventually(lambda: client.describe("work").leased, "a lease")
    assert [each.pid for each in pool_status(tmp_path)] == [pool.pid]
    processes = family(pool_status(tmp_path)[0])
    stop_pool("mine", tmp_path)
    assert pool.poll() == 0
    assert pool_status(tmp_path) == []
    assert all_gone(processes)
    info = client.describe("work")
    assert info.leased == 0
    assert info.delayed == 0
    statuses = {job.status() for job in jobs}
    assert statuses <= {"done", "queued"}
    assert "queued" in statuses


@pytest.mark.parametrize("victim", ["supervisor", "launcher", "rank", "nursery", "helper"])
def test_kill_9_of_any_process_leaves_no_orphan_and_loses_no_job(
    client: Client, spawn: Spawn, victim: str, eventually: Eventually
) -> None:
    pool = spawn(lease="1s")
    pool.wait_ready()
    jobs = nap.submit_many(client, [{"seconds": 0.05}] * 30)
    eventually(lambda: client.describe("work").leased, "a lease")
    state = eventually(lambda: pool.state() if pool.state().world else None, "the pids")
    before = family(state)
    pid = {
        "supervisor": state.pid,
        "launcher": state.world["launcher"],
        "rank": state.world["ranks"][1],
        "nursery": psutil.Process(state.world["helpers"][0]).ppid(),
        "helper": state.world["helpers"][1],
    }[victim]
    os.kill(pid, signal.SIGKILL)
    if victim == "supervisor":
        eventually(lambda: all_gone(before), "the whole family to end")
        pool = spawn()
        pool.wait_ready()
        assert not Path(state.folder).exists()
    assert [job.result(timeout=WAIT_S) for job in jobs] == [0.05] * 30
    pool.stop()
    eventually(lambda: all_gone(before), "the whole family to end")


def test_a_pool_dies_with_the_thread_that_is_bound_to_it(daemon: Any, tmp_path: Path, eventually: Eventually) -> None:
    code = (
        "import sys; from penstock.compute.pool import *; from pathlib import Path\n"
        f"p = spawn_pool(PoolConfig({daemon.endpoint!r}, 'forecast', 'penstock.compute.forecast',"
        f" state_dir=Path({str(tmp_path)!r})), log=Path({str(tmp_path / 'log')!r}))\n"
        "p.wait_ready(); print(p.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        processes = family(next(state for state in pool_status(tmp_path) if state.pid == pid))
        owner.kill()
    eventually(lambda: all_gone(processes), "the pool to end")
    assert pool_status(tmp_path) == []


def test_an_idle_pool_rests(spawn: Spawn) -> None:
    """CPU time, not wall time: others on the machine make it no larger. A rank that spins uses 3 s of these 3 s."""
    processes = family(spawn().wait_ready())
    used_s = busy_s(processes)
    time.sleep(3.0)
    assert busy_s(processes) - used_s <= 0.06


def busy_s(processes: list[psutil.Process]) -> float:
    threads = (path for each in processes for path in Path(f"/proc/{each.pid}/task").iterdir())
    return sum(int((path / "schedstat").read_text().split()[0]) for path in threads) / 1e9


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"tasks": "no_such_module"}, "cannot be imported"),
        ({"tasks": "json"}, "has no tasks"),
        ({"queue": "elsewhere"}, "no task for queue 'elsewhere'"),
        ({"ranks": 1}, "needs 2 ranks"),
        ({"ranks": 0}, "give a number from 1 on"),
        ({"lease": "soon"}, "lease is 'soon'"),
        ({"launcher": "no-such-mpiexec"}, "no program 'no-such-mpiexec'"),
    ],
)
def test_a_wrong_configuration_is_refused_before_anything_starts(config: dict[str, Any], said: str) -> None:
    with pytest.raises(PenstockError) as refusal:
        plan_of(PoolConfig(**({"endpoint": "ipc:///nobody", "queue": "work", "tasks": "sample_tasks"} | config)))
    assert said in str(refusal.value)
