"""Progress, logs, cancellation and time limits of jobs, the whole way: from a rank to whoever asks the daemon."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sample_tasks import nap
from talking_tasks import count, count_together, ignore, obey, speak, square, tell_and_hold

from penstock.cli.private import PrivateDaemon
from penstock.client import Client, Job, connect
from penstock.compute.pool import PoolProcess
from penstock.compute.registry import PoolState
from penstock.compute.source import BrokerSource
from penstock.compute.words import Words
from penstock.peers.errors import JobCancelled

pytestmark = pytest.mark.mpi
Spawn = Callable[..., PoolProcess]
Eventually = Callable[..., Any]
WAIT_S = 30.0
TALK: dict[str, Any] = {"queue": "talk", "tasks": "talking_tasks"}


@pytest.fixture(autouse=True)
def empty_queue(client: Client) -> None:
    client.create_queue("talk", exist_ok=True)
    client.purge("talk")


def untouched(jobs: list[Job]) -> bool:
    """Each was given out once, and failed never."""
    return {(job.describe().attempt, job.describe().failures) for job in jobs} == {(1, 0)}


def state_of(pool: PoolProcess) -> PoolState:
    state = pool.state()
    assert state is not None
    return state


def test_progress_and_log_are_seen_while_a_job_runs_and_after(
    client: Client, spawn: Spawn, tmp_path: Path, eventually: Eventually
) -> None:
    pool = spawn(**TALK)
    job = tell_and_hold.submit(client, release=str(tmp_path / "release"))
    details = eventually(lambda: (seen := job.describe()).lines and seen, "the words")
    assert (details.status, details.progress, details.text) == ("running", 0.4, "late")
    assert details.lines == ("from logging",)
    running = eventually(lambda: [call for call in state_of(pool).running if call["text"] == "late"], "it to be noted")
    assert [(call["offset"], call["jobs"], call["task"], call["progress"]) for call in running] == [
        (job.offset, 1, "tell_and_hold", 0.4)
    ]
    (tmp_path / "release").touch()
    assert job.result(timeout=WAIT_S) == "done"
    assert (job.describe().progress, job.describe().lines) == (0.4, ("from logging",))


def test_the_last_word_is_there_before_the_result_is(client: Client, spawn: Spawn) -> None:
    spawn(**TALK)
    jobs = [*count.submit_many(client, [{"steps": 200}] * 3), speak.submit(client)]
    jobs += count_together.submit_many(client, [{"n": n} for n in range(10)])
    for job in jobs:
        job.result(timeout=WAIT_S)
    assert [job.describe().progress for job in jobs] == [1.0, 1.0, 1.0, 0.5, *(n / 10 for n in range(10))]
    assert [len(job.describe().lines) for job in jobs[:4]] == [200, 200, 200, 1]


def test_a_running_job_that_is_cancelled_hears_of_it_at_once(
    client: Client, spawn: Spawn, tmp_path: Path, eventually: Eventually
) -> None:
    """At once: the lease is renewed every 20 s, and the test waits less than that."""
    pool = spawn(lease="60s", **TALK)
    began, stopped = tmp_path / "began", tmp_path / "stopped"
    job = obey.submit(client, began=str(began), stopped=str(stopped))
    others = square.submit_many(client, [{"n": n} for n in range(50)])
    eventually(began.exists, "the job to begin")
    job.cancel()
    eventually(stopped.exists, "the job to stop", 15.0)
    with pytest.raises(JobCancelled):
        job.result(timeout=WAIT_S)
    assert others.results(timeout=WAIT_S) == [n * n for n in range(50)]
    eventually(lambda: state_of(pool).cancelled == 1, "it to be counted")
    assert (state_of(pool).restarts, state_of(pool).failed, state_of(pool).done) == (0, 0, 50)
    assert untouched(list(others))


def test_one_that_does_not_listen_is_killed_and_others_pay_nothing(
    client: Client, spawn: Spawn, tmp_path: Path, eventually: Eventually
) -> None:
    pool = spawn(ranks=1, cancel_grace_s=0.2, **TALK)
    job = ignore.submit(client, began=str(tmp_path / "began"))
    others = square.submit_many(client, [{"n": n} for n in range(50)])
    eventually((tmp_path / "began").exists, "the job to begin")
    job.cancel()
    assert others.results(timeout=WAIT_S) == [n * n for n in range(50)]
    assert job.status() == "cancelled"
    assert untouched(list(others))
    assert (state_of(pool).restarts, state_of(pool).failed) == (0, 0)


def test_a_source_hears_of_a_cancelled_job_at_once_and_by_the_renewal_of_its_lease_too(
    client: Client, eventually: Eventually
) -> None:
    for lease, watches in (("1h", True), ("600ms", False)):
        job = client.submit("talk", {})
        source = BrokerSource(client, "talk", lease)
        woken: list[bool] = []
        if watches:
            source.on_cancelled(lambda woken=woken: woken.append(True))  # type: ignore[misc]
        (message,) = source.take(10, WAIT_S)
        job.cancel()
        assert list(eventually(source.cancelled, "it to be heard of")) == [message]
        assert woken == [True] * watches
        source.complete([message], [b"\xc0"])  # not ours any more: nothing is asked, and nothing counted
        assert not source.open()
        source.close()
        assert job.status() == "cancelled"


def test_words_that_wait_for_an_answer_are_put_together_and_leave_before_the_end(client: Client) -> None:
    job = client.submit("talk", {})
    source = BrokerSource(client, "talk", "30s")
    (message,) = source.take(10, WAIT_S)
    with client._connection.lock:  # nobody hears an answer
        for step in range(100):
            words = Words()
            words.add((step / 100, ""), [f"line {step}"])
            source.tell(message, words)
        assert source.open()
        assert client._connection.session.under_way <= 3
        source.complete([message], [b"\xc0"])
    assert source.confirm(WAIT_S) == 1
    assert (job.describe().progress, len(job.describe().lines)) == (0.99, 100)
    source.close()


def test_a_job_that_tells_does_not_notice_that_the_daemon_is_away(spawn: Spawn, eventually: Eventually) -> None:
    with PrivateDaemon() as lone, connect(lone.endpoint) as client:
        client.create_queue("talk")
        pool = spawn(endpoint=lone.endpoint, **TALK)
        job = count.submit(client, steps=300, pause=0.01)
        eventually(lambda: job.describe().progress, "the first word")
        os.kill(lone.pid, signal.SIGSTOP)
        try:
            time.sleep(2.0)  # the job tells meanwhile, and nobody answers
        finally:
            os.kill(lone.pid, signal.SIGCONT)
        assert job.result(timeout=WAIT_S) == 300
        details = job.describe()
        assert (details.progress, details.attempt, details.failures) == (1.0, 1, 0)
        assert details.lines == tuple(f"line {step}" for step in range(1, 301))
        pool.stop()  # before its daemon is gone


def test_a_time_limit_is_a_failure_that_says_so_and_is_tried_again_after_a_pause(
    client: Client, spawn: Spawn, eventually: Eventually
) -> None:
    client.create_queue("work", exist_ok=True)
    client.purge("work")
    spawn()
    job = nap.options(time_limit="200ms", max_failures=2, retry_delay="1h").submit(client, seconds=60)
    eventually(lambda: job.status() == "failed", "the first try to fail")
    details = job.describe()
    assert details.failures == 1
    assert details.reason == "Timeout: the job ran longer than its time limit of 0.2 s and was killed"
    assert [step.what for step in details.history] == ["submitted", "leased", "nacked"]
    assert details.due_ms is not None
    assert details.due_ms - details.history[-1].at_ms == 3_600_000
