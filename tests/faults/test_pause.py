"""Processes that stand still or die: a daemon, a consumer, the holder of a job. Nothing is lost, nothing done twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import penstock
from faults.crew import Crew, daemon_at, judge, make_queues, until, waiting
from faults.history import Recorder, check
from faults.worker import JOBS, WORK
from penstock.cli.private import PrivateDaemon
from penstock.client import patience

SHORT_LEASE_S = 1.0


@pytest.fixture
def daemon(short: Path) -> Iterator[PrivateDaemon]:
    with daemon_at(short) as running:
        make_queues(running.endpoint)
        yield running


def test_a_daemon_that_stands_still_longer_than_the_clients_patience_does_nothing_twice(
    daemon: PrivateDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The patience for one try; `retry_for`, the patience of a whole request, stays long.
    monkeypatch.setattr(patience, "CONNECT_MS", 200)
    monkeypatch.setattr(patience, "SILENCE_MS", 100)
    with (
        penstock.connect(daemon.endpoint, retry_for=60) as client,
        client.producer(WORK) as producer,
        client.consumer(JOBS, prefetch=0) as consumer,
    ):
        job = client.submit(JOBS, "j")
        [held] = consumer.receive_many(1)
        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            receipts = [producer.send_many([b"%d" % (10 * i + j) for j in range(10)]) for i in range(10)]
            completion = held.complete("once")
            tries = client._connection.session.link
            # Each try has another number: it gave up the old connection, and gave up waiting on new ones.
            until(lambda: client._connection.session.link > tries + 6, "the client has tried again")
            assert not any(receipt.done() for receipt in receipts)
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
        assert [receipt.wait() for receipt in receipts] == list(range(0, 100, 10))
        completion.wait()
        assert job.result(timeout=30) == "once"
        assert [message.body for message in client.peek(WORK, limit=1000)] == [b"%d" % i for i in range(100)]
        assert client.describe(JOBS).groups[0].done == 1


def test_what_a_killed_consumer_held_comes_to_another_one_with_a_failure_counted(daemon: PrivateDaemon) -> None:
    with Crew(daemon) as crew, penstock.connect(daemon.endpoint) as client, client.producer(WORK) as producer:
        record = Recorder(crew.folder, "test")
        record.note("sent", WORK, ["a"])
        record.note("accepted", WORK, ["a"], offset=producer.send(b"a").wait())
        crew.start("hold", "victim", lease_s=SHORT_LEASE_S)
        until(lambda: crew.wrote("victim", "delivered"), "the victim has the message")
        crew.kill("victim")
        with client.consumer(WORK) as consumer:
            message = consumer.receive(timeout=30)
            assert message is not None
            assert (message.offset, message.attempt, message.failures) == (0, 2, 1)
            note(record, "delivered", message)
            note(record, "asked", message, op="ack")
            message.ack().wait()
            note(record, "settled", message, op="ack")
            assert waiting(daemon.endpoint, WORK) == 0
        assert judge(crew).settled == 1


def test_a_job_is_completed_once_when_its_holder_is_paused_beyond_its_lease(daemon: PrivateDaemon) -> None:
    with Crew(daemon) as crew, penstock.connect(daemon.endpoint) as client:
        record = Recorder(crew.folder, "test")
        record.note("sent", JOBS, ["j"])
        job = client.submit(JOBS, "j")
        record.note("accepted", JOBS, ["j"], offset=job.offset)
        pid = crew.start("hold", "sleeper", lease_s=SHORT_LEASE_S)
        until(lambda: crew.wrote("sleeper", "delivered"), "the sleeper has the job")
        os.kill(pid, signal.SIGSTOP)
        with client.consumer(JOBS) as consumer:
            message = consumer.receive(timeout=30)
            assert message is not None
            assert (message.attempt, message.failures) == (2, 1)
            note(record, "delivered", message)
            # The sleeper wakes up while the job is another's, and completes it: too late.
            (crew.folder / "go").touch()
            os.kill(pid, signal.SIGCONT)
            crew.wait("sleeper")
            assert [event.value for event in crew.history() if event.kind == "denied"] == ["LeaseLost"]
            assert job.status() == "running"
            note(record, "asked", message, op="complete", value="second")
            message.complete("second").wait()
            note(record, "settled", message, op="complete")
        record.note("result", JOBS, ["j"], value=job.result(timeout=30))
        assert check(crew.history(), jobs=[JOBS]) == []


def note(record: Recorder, kind: str, message: penstock.Message, **more: object) -> None:
    name = message.body.decode() if message.queue == WORK else "j"
    record.note(kind, message.queue, [name], offset=message.offset, attempt=message.attempt, **more)
