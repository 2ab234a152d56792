"""A timeout holds although no daemon answers: it is not the patience of the client that counts then."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import penstock
from penstock.cli.private import PrivateDaemon

WAITS: dict[str, Callable[[penstock.Client, penstock.Job], Any]] = {
    "job.result": lambda client, job: job.result(timeout=0.1),
    "job.wait": lambda client, job: job.wait(timeout=0.1),
    "call": lambda client, job: client.call("q", 1, timeout=0.1),
    "drain": lambda client, job: client.drain("q", timeout=0.1),
    "as_completed": lambda client, job: list(client.as_completed([job], timeout=0.1)),
}


@contextmanager
def standing_still(daemon: PrivateDaemon) -> Iterator[None]:
    assert daemon.pid is not None
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(daemon.pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def frozen() -> Iterator[tuple[penstock.Client, penstock.Job]]:
    """A client with a job, whose daemon stands still."""
    with PrivateDaemon() as daemon, penstock.connect(daemon.endpoint, retry_for="120s") as client:
        client.create_queue("q")
        job = client.submit("q", 1)
        with standing_still(daemon):
            yield client, job


@pytest.mark.parametrize("name", WAITS)
def test_who_waits_with_a_timeout_is_not_kept_by_a_daemon_that_stands_still(
    frozen: tuple[penstock.Client, penstock.Job], name: str
) -> None:
    with pytest.raises(penstock.Timeout, match=r"no answer to '\w+' within 1\.\d+ s"):
        WAITS[name](*frozen)


def test_a_job_whose_result_nobody_could_wait_for_is_there_when_the_daemon_is_back() -> None:
    with PrivateDaemon() as daemon, penstock.connect(daemon.endpoint, retry_for="120s") as client:
        client.create_queue("q")
        job = client.submit("q", 1)
        with standing_still(daemon), pytest.raises(penstock.Timeout):
            job.result(timeout=0.1)
        assert job.status() == "queued"
        assert job.cancel() == "cancelled"
        with pytest.raises(penstock.JobCancelled):
            job.result(timeout=60)
