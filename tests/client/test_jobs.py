"""Jobs through a real daemon: calls, outputs, progress, history, ranges, and processes that come and go."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kit.daemons import until

import penstock
from penstock import Client, InvalidArgument, JobCancelled, JobFailed, LeaseLost, NotFound, QueueFull, Timeout
from penstock.client.message import Message
from penstock.peers import values


@contextmanager
def worker(client: Client, queue: str, work: Callable[[Message], None]) -> Iterator[None]:
    """A thread that does `work` with each message of the queue."""
    consumer = client.consumer(queue, lease="30s", prefetch=0)

    def run() -> None:
        for message in consumer:
            work(message)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        consumer.stop()
        thread.join()
        consumer.close()


def squared(message: Message) -> None:
    message.complete(values.unpack(message.body) ** 2)


def test_a_call_submits_waits_and_leaves_nothing_behind(client: Client, queue: str) -> None:
    with worker(client, queue, squared):
        assert [client.call(queue, number, timeout=20) for number in range(20)] == [n * n for n in range(20)]
        until(lambda: client.jobs(queue, "done") == [], "their outcomes were forgotten")
    assert client.job(f"{queue}/3").status() == "expired"


def test_many_calls_at_once_get_each_its_own_answer(client: Client, queue: str) -> None:
    answers: dict[int, Any] = {}

    def ask(number: int) -> None:
        answers[number] = client.call(queue, number, timeout=30)

    with worker(client, queue, squared):
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {number: number * number for number in range(40)}


def test_a_call_that_waits_holds_up_no_publish_of_its_client(client: Client, queue: str) -> None:
    """However many counted requests go by meanwhile: more than the daemon remembers."""
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(client.call(queue, "late", timeout=30)))
    thread.start()
    until(lambda: client.describe(queue).ready == 1, "the call is there")
    client.create_queue(f"{queue}-other")
    with client.producer(f"{queue}-other") as producer:
        for _ in range(300):
            producer.send(b"x").wait()
    with worker(client, queue, lambda message: message.complete("done").wait() and None):
        thread.join()
    assert got == ["done"]


def test_a_call_that_fails_raises_what_happened(client: Client, queue: str) -> None:
    def fail(message: Message) -> None:
        try:
            raise ValueError("the well is dry")
        except ValueError as fault:
            message.reject(error=fault)

    with worker(client, queue, fail), pytest.raises(JobFailed, match="ValueError: the well is dry") as failure:
        client.call(queue, 1, timeout=20)
    assert "raise ValueError" in failure.value.traceback


def test_a_call_nobody_answers_times_out_and_is_cancelled_unless_it_is_kept(client: Client, queue: str) -> None:
    with pytest.raises(Timeout, match=r"is (queued|expired) and did not end within 0\.2 s"):
        client.call(queue, 1, timeout=0.2)
    until(lambda: client.describe(queue).ready == 0, "it was cancelled")
    with pytest.raises(Timeout):
        client.call(queue, 2, timeout=0.2, keep=True)
    assert client.describe(queue).ready == 1
    with pytest.raises(InvalidArgument, match="if_exists"):
        client.call(queue, 3, if_exists="return")
    with pytest.raises(NotFound):
        client.call("nowhere", 1)


def test_a_call_survives_a_daemon_that_is_killed(own_daemon: Any) -> None:
    with penstock.connect(own_daemon.endpoint, retry_for=30) as client:
        client.create_queue("work")
        got: list[Any] = []
        thread = threading.Thread(target=lambda: got.append(client.call("work", 7, timeout=60)))
        thread.start()
        until(lambda: client.describe("work").ready == 1, "the call is there")
        own_daemon.kill()
        own_daemon.start()
        with worker(client, "work", squared):
            thread.join()
        assert got == [49]
        assert client.describe("work").next == 1, "it was appended once"


def test_a_result_can_be_taken_for_good(client: Client, queue: str) -> None:
    job = client.submit(queue, 5)
    with worker(client, queue, squared):
        assert job.result(20, remove=True) == 25
    until(lambda: client.job(job.id).status() == "expired", "it was forgotten")
    with pytest.raises(NotFound, match="no longer kept"):
        client.job(job.id).result(1)


def test_a_completion_with_outputs_is_one_step(client: Client, queue: str) -> None:
    client.create_queue(f"{queue}-next")
    job = client.submit(queue, 1)
    with client.consumer(queue) as consumer, client.consumer(f"{queue}-next") as further:
        message = consumer.receive(20)
        assert message is not None
        message.complete("fine", outputs={f"{queue}-next": [b"one", b"two"]}).wait(20)
        assert job.result(20) == "fine"
        assert [each.body for each in (further.receive(20), further.receive(20)) if each is not None] == [
            b"one",
            b"two",
        ]


def test_outputs_that_have_no_room_leave_the_message_in_hand(client: Client, queue: str) -> None:
    client.create_queue(f"{queue}-small", max_messages=1)
    client.submit(queue, 1)
    with client.consumer(queue) as consumer:
        message = consumer.receive(20)
        assert message is not None
        with pytest.raises(QueueFull):
            message.complete(1, outputs={f"{queue}-small": [b"a", b"b"]}).wait(20)
        with pytest.raises(NotFound):
            message.complete(1, outputs={"nowhere": [b"a"]}).wait(20)
        assert client.describe(queue).leased == 1
        message.complete(2, outputs={f"{queue}-small": [b"a"]}).wait(20)
    assert client.job(f"{queue}/0").result() == 2


def test_a_result_queue_gets_the_results_and_pulling_empties_it(client: Client, queue: str) -> None:
    client.create_queue(f"{queue}-2", result_queue=f"{queue}-results")
    jobs = client.submit_many(f"{queue}-2", range(5))
    with worker(client, f"{queue}-2", squared):
        assert jobs.results(20) == [0, 1, 4, 9, 16]
    with client.consumer(f"{queue}-results") as consumer:
        taken = {}
        for _ in range(5):
            message = consumer.receive(20)
            assert message is not None
            assert message.all_headers["penstock-status"] == "done"
            taken[message.all_headers["penstock-job"]] = values.unpack(message.body)
            message.ack().wait(20)
    assert taken == {f"{queue}-2/{n}": n * n for n in range(5)}
    assert client.describe(f"{queue}-results").unfinished == 0


def test_what_a_job_tells_while_it_runs_can_be_read(client: Client, queue: str) -> None:
    job = client.submit(queue, 1, key="k")
    with client.consumer(queue) as consumer:
        message = consumer.receive(20)
        assert message is not None
        message.progress(0.4, "of the way").wait(20)
        message.log("one", "two").wait(20)
        message.log("three").wait(20)
        seen = job.describe()
        assert (seen.status, seen.progress, seen.text, seen.lines) == (
            "running",
            0.4,
            "of the way",
            ("one", "two", "three"),
        )
        assert seen.owner
        assert seen.key == "k"
        assert [reason.code for reason in job.explain()] == ["running"]
        with pytest.raises(InvalidArgument, match="fraction"):
            message.progress(1.5)
        message.complete(None).wait(20)
        with pytest.raises(LeaseLost):
            message.progress(1).wait(20)
    ended = job.describe()
    assert (ended.status, ended.lines) == ("done", ("one", "two", "three"))
    assert [step.what for step in ended.history] == ["submitted", "leased", "done"]


def test_a_failed_job_says_why_while_it_waits_for_its_next_try(client: Client, queue: str) -> None:
    client.configure(queue, retry_delay="1h", max_failures=2)
    job = client.submit(queue, 1)
    with client.consumer(queue) as consumer:
        message = consumer.receive(20)
        assert message is not None
        message.nack(error=OSError("no disk")).wait(20)
        seen = job.describe()
        assert (seen.status, seen.failures, seen.reason) == ("failed", 1, "OSError: no disk")
        assert seen.error is not None
        assert seen.error["type"] == "OSError"
        assert seen.due_ms is not None
        reasons = {reason.code: reason.text for reason in job.explain()}
        assert "no disk" in reasons["delayed"]


@pytest.mark.parametrize(
    ("said", "headers"),
    [
        ({"reason": "no such frame"}, {"penstock-reason": "no such frame"}),
        ({"error": KeyError("x")}, {"penstock-reason": "KeyError: 'x'"}),
        (
            {"reason": "no such frame", "error": KeyError("x")},
            {"penstock-reason": "no such frame", "penstock-error": "KeyError: 'x'"},
        ),
    ],
)
def test_a_rejected_message_says_why_and_of_what_error(
    client: Client, queue: str, said: dict[str, Any], headers: dict[str, str]
) -> None:
    job = client.submit(queue, 1)
    with client.consumer(queue) as consumer:
        message = consumer.receive(20)
        assert message is not None
        message.reject(**said).wait(20)
    (letter,) = client.peek(f"{queue}.dead")
    assert {name: letter.all_headers.get(name) for name in headers} == headers
    assert ("penstock-error" in letter.all_headers) == ("penstock-error" in headers)
    assert job.describe().reason == headers["penstock-reason"]


def test_dead_letters_carry_the_last_error_and_go_home_again(client: Client, queue: str) -> None:
    client.configure(queue, max_failures=1)
    client.submit_many(queue, range(3))
    with client.consumer(queue) as consumer:
        for _ in range(3):
            message = consumer.receive(20)
            assert message is not None
            message.nack(error=OSError("no disk"))
    letters = client.peek(f"{queue}.dead")
    assert {letter.all_headers["penstock-error"] for letter in letters} == {"OSError: no disk"}
    again = client.retry_dead(queue)
    assert [job.offset for job in again] == [3, 4, 5]
    with worker(client, queue, squared):
        assert again.results(20) == [0, 1, 4]
    assert client.describe(f"{queue}.dead").unfinished == 0


def test_waiting_messages_move_to_another_queue(client: Client, queue: str) -> None:
    client.create_queue(f"{queue}-b")
    jobs = client.submit_many(queue, range(10))
    assert client.move(queue, f"{queue}-b", 4) == 4
    assert (client.describe(queue).ready, client.describe(f"{queue}-b").ready) == (6, 4)
    assert client.move(queue, f"{queue}-b") == 6
    with pytest.raises(JobCancelled, match="cancelled"):
        jobs[0].result(20)
    assert [values.unpack(each.body) for each in client.peek(f"{queue}-b", 10)] == list(range(10))


def test_who_holds_a_cancelled_job_is_told(client: Client, queue: str) -> None:
    jobs = client.submit_many(queue, range(3))
    with client.consumer(queue, lease="300ms") as consumer:
        told: list[str] = []
        consumer.on_cancelled = lambda message: told.append(message.id)
        messages = [consumer.receive(20) for _ in range(3)]
        assert all(messages)
        assert jobs[1].cancel() == "cancelled"
        until(lambda: told, "the holder was told")
        assert told == [jobs[1].id]
        assert [message is not None and message.cancelled for message in messages] == [False, True, False]
        assert messages[1] is not None
        with pytest.raises(LeaseLost, match="cancelled"):
            messages[1].complete(1).wait(20)
        for message in (messages[0], messages[2]):
            assert message is not None
            message.complete(1).wait(20)


SUBMIT = """
import sys, penstock
with penstock.connect(sys.argv[1], retry_for=20) as client:
    print(client.submit(sys.argv[2], 9).id)
"""
FETCH = """
import sys, penstock
with penstock.connect(sys.argv[1], retry_for=20) as client:
    print(client.job(sys.argv[2]).result(30))
"""


def test_a_future_outlives_the_process_that_made_it(client: Client, queue: str, daemon: Any) -> None:
    def python(code: str, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.strip()

    job_id = python(SUBMIT, daemon.endpoint, queue)
    with worker(client, queue, squared):
        assert python(FETCH, daemon.endpoint, job_id) == "81"


def test_as_completed_and_drain_stay_right_when_results_are_removed(client: Client, queue: str) -> None:
    jobs = client.submit_many(queue, range(6))
    with worker(client, queue, squared):
        assert jobs[0].result(20, remove=True) == 0
        done = {job.offset for job in client.as_completed(jobs[1:], 20)}
    assert done == {1, 2, 3, 4, 5}
    until(lambda: client.job(jobs[0].id).status() == "expired", "it was forgotten")
    assert [outcome.offset for outcome in client.drain(queue, 20)] == [1, 2, 3, 4, 5]


def test_jobs_that_are_cancelled_before_anybody_received_them_are_in_nobodys_way(client: Client, queue: str) -> None:
    jobs = client.submit_many(queue, [{}] * 3)
    with client.consumer(queue) as consumer:
        first = consumer.receive(timeout=10)
        assert first is not None
        first.ack().wait()
        for job in jobs[1:]:
            job.cancel()
        consumer.note_cancelled(1, 2)
        consumer.note_cancelled(1, 2)
        assert consumer.receive(timeout=0.05) is None
        last = client.submit(queue, {})
        message = consumer.receive(timeout=10)
        assert message is not None
        assert message.offset == last.offset
        message.ack().wait()


def test_who_submits_through_a_closed_client_is_told_that_it_is_closed(own_daemon: Any) -> None:
    client = penstock.connect(own_daemon.endpoint)
    client.create_queue("work")
    client.submit("work", 1)
    client.close()
    with pytest.raises(penstock.Closed, match="the client is closed"):
        client.submit("work", 2)
