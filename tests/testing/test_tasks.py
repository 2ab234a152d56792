"""Tasks run by `Broker.run_tasks`: as a pool does it, on one rank, without MPI and without another process."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import penstock
from penstock import Client
from penstock.testing import Broker, LoneComm, Ran

from . import sample_tasks
from .sample_tasks import fails, heat, interrupted, square, together, total

LIMIT_S = 20.0


@pytest.fixture
def client(broker: Broker) -> Client:
    client = broker.connect()
    for queue in ("work", "together", "heat", "interrupted"):
        client.create_queue(queue)
    return client


def test_jobs_run_and_their_results_are_there(broker: Broker, client: Client) -> None:
    jobs = square.submit_many(client, [{"n": n} for n in range(20)])
    assert broker.run_tasks("work", sample_tasks) == Ran(done=20)
    assert jobs.results(LIMIT_S) == [n * n for n in range(20)]
    assert broker.run_tasks("work", square) == Ran()


def test_only_so_many_run_as_are_asked_for(broker: Broker, client: Client) -> None:
    square.submit_many(client, [{"n": n} for n in range(5)])
    assert broker.run_tasks("work", [square], limit=2) == Ran(done=2)
    info = client.describe("work")
    assert (info.ready, info.leased) == (3, 0)


def test_a_job_is_tried_again_when_its_pause_is_over(broker: Broker, client: Client) -> None:
    job = fails.submit(client, times=2)
    assert broker.run_tasks("work", sample_tasks) == Ran(failed=1)
    assert (job.status(), broker.run_tasks("work", sample_tasks)) == ("failed", Ran())
    broker.advance("10s")
    assert broker.run_tasks("work", sample_tasks) == Ran(failed=1)
    broker.advance("19s")
    assert broker.run_tasks("work", sample_tasks) == Ran()
    broker.advance("1s")
    assert broker.run_tasks("work", sample_tasks) == Ran(done=1)
    assert job.result(LIMIT_S) == "work/0 at try 3"


def test_until_it_is_empty_the_clock_is_turned_on(broker: Broker, client: Client) -> None:
    began = broker.now
    job, late = fails.submit(client, times=2), square.options(delay="1h").submit(client, n=3)
    assert broker.run_tasks("work", sample_tasks, until_empty=True) == Ran(done=2, failed=2)
    assert (job.status(), late.result(LIMIT_S)) == ("done", 9)
    assert (broker.now - began).total_seconds() == 3600


def test_a_job_that_fails_too_often_is_dead_and_says_why(broker: Broker, client: Client) -> None:
    job = fails.submit(client, times=3)
    assert broker.run_tasks("work", sample_tasks, until_empty=True) == Ran(failed=3)
    with pytest.raises(penstock.JobFailed, match="try 3 of work/0") as failure:
        job.result(LIMIT_S)
    assert "raise OSError" in failure.value.traceback
    assert "penstock/testing" not in failure.value.traceback
    assert client.describe("work.dead").ready == 1


def test_wrong_arguments_and_unknown_tasks_are_not_tried_again(broker: Broker, client: Client) -> None:
    wrong, unknown = client.submit("work", {"n": "x"}), client.submit("work", {}, task="nowhere")
    assert broker.run_tasks("work", sample_tasks, until_empty=True) == Ran(failed=2)
    with pytest.raises(penstock.JobFailed, match="n is 'x'"):
        wrong.result(LIMIT_S)
    with pytest.raises(penstock.JobFailed, match="names the task 'nowhere'"):
        unknown.result(LIMIT_S)


def test_a_batch_task_gets_its_jobs_together(broker: Broker, client: Client) -> None:
    jobs = [client.submit("together", {"n": n}, max_failures=1) for n in (0, 2, 3)]
    assert broker.run_tasks("together", together) == Ran(done=2, failed=1)
    assert [job.result(LIMIT_S) for job in jobs[:2]] == [[0, 3], [2, 3]]
    with pytest.raises(penstock.JobFailed, match="odd"):
        jobs[2].result(LIMIT_S)


def test_a_task_for_all_ranks_gets_a_communicator_of_one(
    broker: Broker, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)  # who imports it now fails
    job = heat.submit(client, n=7)
    assert broker.run_tasks("heat", sample_tasks) == Ran(done=1)
    assert job.result(LIMIT_S) == [0, 1, 7, 7]

    class Other(LoneComm):
        size = 4

    job = heat.submit(client, n=7)
    broker.run_tasks("heat", sample_tasks, comm=Other())
    assert job.result(LIMIT_S)[1] == 4


def test_a_gather_job_sees_what_its_parents_returned(broker: Broker, client: Client) -> None:
    jobs = square.submit_many(client, [{"n": n} for n in range(4)], gather=(total, {}))
    assert broker.run_tasks("work", sample_tasks) == Ran(done=5)
    assert jobs.gather is not None
    assert jobs.gather.result(LIMIT_S) == 14


def test_a_schedule_fires_into_a_task(broker: Broker, client: Client) -> None:
    client.schedules.add("nightly", "work", {"n": 5}, cron="0 2 * * *")
    assert broker.run_tasks("work", square) == Ran()
    broker.advance("1d")
    assert broker.run_tasks("work", square) == Ran(done=1)
    assert client.job("work/0").result(LIMIT_S) == 25


def test_a_job_whose_lease_ended_while_it_ran_is_lost_and_runs_again(broker: Broker, client: Client) -> None:
    calls: list[int] = []

    @penstock.task(queue="work", name="slow")
    def slow() -> None:
        calls.append(penstock.current_job().attempt)
        if len(calls) == 1:
            broker.advance("31s")

    slow.submit(client)
    assert broker.run_tasks("work", slow) == Ran(done=1, lost=1)
    assert calls == [1, 2]


def test_what_a_job_tells_is_there_at_once_and_it_hears_that_it_was_cancelled(broker: Broker, client: Client) -> None:
    seen: list[penstock.JobDetails] = []

    @penstock.task(queue="work", name="tells")
    def tells(cancel: bool) -> str:
        job = penstock.current_job()
        job.progress(0.5, "half")
        job.log("one", "two")
        seen.append(client.job(job.id).describe())
        if cancel:
            client.job(job.id).cancel()
        job.check()
        return "told"

    first, second = tells.submit(client, cancel=False), tells.submit(client, cancel=True)
    assert broker.run_tasks("work", tells) == Ran(done=1, lost=1)
    assert [(found.progress, found.text, found.lines) for found in seen] == [(0.5, "half", ("one", "two"))] * 2
    assert (first.result(LIMIT_S), second.status()) == ("told", "cancelled")


def test_a_job_may_submit_others_which_run_in_their_order(broker: Broker, client: Client) -> None:
    seen: list[int] = []

    @penstock.task(queue="work", name="spreads")
    def spreads(n: int) -> None:
        seen.append(n)
        if n < 10:
            spreads.options(priority=n % 3).submit(client, n=10 * n + 10)
            spreads.options(priority=9).submit(client, n=10 * n + 11)

    spreads.submit(client, n=1)
    spreads.submit(client, n=2)
    assert broker.run_tasks("work", [spreads]) == Ran(done=6)
    assert seen == [1, 21, 20, 2, 31, 30]


def test_an_interrupt_is_meant_for_the_test(broker: Broker, client: Client) -> None:
    interrupted.submit(client)
    with pytest.raises(KeyboardInterrupt):
        broker.run_tasks("interrupted", interrupted)


def test_what_are_no_tasks_of_the_queue_is_refused(broker: Broker, client: Client) -> None:
    with pytest.raises(penstock.InvalidArgument, match=r"no task for queue 'heat'.*'work'"):
        broker.run_tasks("heat", square)
    with pytest.raises(penstock.InvalidArgument, match="which is no task"):
        broker.run_tasks("heat", [len])  # type: ignore[list-item]
    with pytest.raises(penstock.InvalidArgument, match="cannot be imported"):
        broker.run_tasks("heat", "no.such.module")
    with pytest.raises(penstock.NotFound):
        broker.run_tasks("nowhere", penstock.task(queue="nowhere")(lambda: None))


def test_a_queue_that_never_becomes_empty_is_said() -> None:
    with Broker() as broker:
        client = broker.connect()
        client.create_queue("work")
        client.submit("work", {"n": 1})

        @penstock.task(queue="work")
        def again(n: int) -> None:
            again.options(delay="30d").submit(client, n=n)

        with pytest.raises(penstock.Timeout, match="after a year"):
            broker.run_tasks("work", again, until_empty=True)


def test_tasks_run_through_a_fail_over_of_three_nodes() -> None:
    with Broker(nodes=3) as broker:
        client = broker.connect()
        client.create_queue("work")
        seen: list[int | None] = []

        @penstock.task(queue="work", name="drill")
        def drill(n: int) -> int:
            seen.append(broker.primary)
            broker.crash_primary()
            return n

        jobs = drill.submit_many(client, [{"n": n} for n in range(4)])
        assert broker.run_tasks("work", drill) == Ran(done=4)
        assert jobs.results(LIMIT_S) == [0, 1, 2, 3]
        assert len(set(seen)) > 1


def test_the_lone_communicator_does_what_mpi_does_on_one_rank() -> None:
    comm: Any = LoneComm()
    assert (comm.rank, comm.size, comm.Get_rank(), comm.Get_size()) == (0, 1, 0, 1)
    value = {"a": [1]}
    assert comm.bcast(value) is value
    for found in (comm.gather(value)[0], comm.allgather(value)[0], comm.reduce(value), comm.scan(value)):
        assert found == value
        assert found is not value
    assert (comm.scatter([value]), comm.alltoall([value]), comm.allreduce(3, max)) == (value, [value], 3)
    with pytest.raises(ValueError, match="2 values"):
        comm.scatter([1, 2])
    send, receive = np.arange(6.0).reshape(2, 3), np.zeros(6)
    comm.Allreduce(send, receive)
    assert receive.tolist() == [0, 1, 2, 3, 4, 5]
    comm.Allreduce(None, receive)
    comm.Gatherv(send + 1, [receive, (6,)])
    assert receive.tolist() == [1, 2, 3, 4, 5, 6]
    assert comm.Split(1).Dup().size == 1
    with pytest.raises(AttributeError):
        comm.send(1, 1)
