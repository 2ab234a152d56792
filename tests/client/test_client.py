"""Queues, topics and jobs through the client, against a real daemon."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import pytest

import penstock
from penstock.peers import values

LIMIT_S = 20.0


@contextmanager
def pool(
    client: penstock.Client, queue: str, work: Callable[[penstock.Consumer, penstock.Message], Any]
) -> Iterator[None]:
    """Somebody who does the jobs of a queue."""
    consumer = client.consumer(queue)

    def run() -> None:
        for message in consumer:
            work(consumer, message)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    consumer.stop()
    thread.join(LIMIT_S)
    consumer.close()


def double(consumer: penstock.Consumer, message: penstock.Message) -> None:
    """Completes jobs with twice their argument, and fails those whose argument is no number."""
    value = values.unpack(message.body)
    if isinstance(value, int):
        consumer.complete(message, 2 * value)
    else:
        message.reject(
            "no number", error={"type": "TypeError", "message": "no number", "traceback": "Trace ...", "rank": 1}
        )


# -- queues and topics -------------------------------------------------------------------------------------------------


def test_a_queue_has_the_options_it_was_given(client: penstock.Client) -> None:
    info = client.create_queue(
        "optioned", max_messages=5, max_bytes="1MiB", max_failures=None, retry_delay="2s", result_ttl="1h"
    )
    assert isinstance(info, penstock.QueueInfo)
    assert (info.max_messages, info.max_bytes, info.max_failures) == (5, 2**20, None)
    assert (info.options["retry_delay_ms"], info.options["result_ttl_ms"]) == (2000, 3_600_000)
    assert client.describe("optioned") == info


def test_a_name_can_be_taken_once(client: penstock.Client) -> None:
    client.create_queue("taken")
    with pytest.raises(penstock.AlreadyExists):
        client.create_queue("taken")
    assert client.create_queue("taken", exist_ok=True).name == "taken"
    with pytest.raises(penstock.AlreadyExists):
        client.create_topic("taken", exist_ok=True)


def test_queues_and_topics_are_listed_apart(client: penstock.Client) -> None:
    client.create_queue("listed-queue")
    assert client.create_topic("listed-topic", retention="7d").retention_ms == 7 * 86_400_000
    queues, topics = [i.name for i in client.list_queues()], [i.name for i in client.list_topics()]
    assert "listed-queue" in queues
    assert "listed-topic" not in queues
    assert "listed-topic" in topics


def test_options_that_are_not_given_stay(client: penstock.Client) -> None:
    client.create_queue("changed", max_messages=5, max_failures=2)
    info = client.configure("changed", max_messages=None)
    assert (info.max_messages, info.max_failures) == (None, 2)


def test_a_deleted_queue_is_gone(client: penstock.Client, queue: str) -> None:
    client.delete(queue)
    with pytest.raises(penstock.NotFound):
        client.describe(queue)


def test_purging_tells_how_many_went(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        producer.send_many([b"x"] * 7)
    assert client.purge(queue) == 7
    assert client.describe(queue).unfinished == 0


def test_a_paused_queue_gives_nothing_until_it_is_resumed(client: penstock.Client, queue: str) -> None:
    assert client.pause(queue).paused
    with client.producer(queue) as producer:
        producer.send(b"x")
    with client.consumer(queue) as consumer:
        assert consumer.receive(timeout=0.05) is None
        assert not client.resume(queue).paused
        message = consumer.receive(timeout=LIMIT_S)
        assert message is not None
        message.ack()


def test_peeking_takes_nothing(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        producer.send_many([b"a", b"b", b"c"])
    messages = client.peek(queue, limit=2)
    assert [message.body for message in messages] == [b"a", b"b"]
    assert client.describe(queue).ready == 3
    with pytest.raises(penstock.Closed, match="peeked"):
        messages[0].ack()


def test_peeking_into_an_empty_queue_shows_nothing(client: penstock.Client, queue: str) -> None:
    assert client.peek(queue) == []


def test_the_status_tells_who_the_daemon_is(client: penstock.Client, daemon: Any) -> None:
    status = client.status()
    assert (status["role"], status["primary"]) == ("primary", daemon.endpoint)


@pytest.mark.parametrize("duration", ["ten seconds", -1, float("nan"), None])
def test_a_duration_that_is_none_is_named(client: penstock.Client, duration: Any) -> None:
    with pytest.raises(penstock.InvalidArgument, match="retry_delay"):
        client.create_queue("never", retry_delay=duration)


def test_who_gave_no_name_is_known_by_host_and_process(client: penstock.Client, daemon: Any, queue: str) -> None:
    mine, named = client.submit_many(queue, [1, 2])
    with client.consumer(queue, prefetch=0) as consumer:
        assert consumer.receive(LIMIT_S) is not None
        assert mine.describe().owner == f"{socket.gethostname()}:{os.getpid()}"
        with penstock.connect(daemon.endpoint, name="ana") as other, other.consumer(queue, prefetch=0) as hers:
            assert hers.receive(LIMIT_S) is not None
            assert named.describe().owner == "ana"


def test_a_closed_client_says_so(daemon: Any) -> None:
    client = penstock.connect(daemon.endpoint)
    client.close()
    client.close()
    with pytest.raises(penstock.Closed):
        client.list_queues()


def test_closing_the_client_flushes_its_producers(client: penstock.Client, daemon: Any, queue: str) -> None:
    with penstock.connect(daemon.endpoint) as other:
        producer = other.producer(queue, linger="1h")
        producer.send(b"x")
    assert client.describe(queue).ready == 1


def test_an_error_in_the_block_is_not_hidden_by_one_of_closing(client: penstock.Client) -> None:
    def block() -> None:
        with client.producer("not-there") as producer:
            producer.send(b"x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()


# -- jobs --------------------------------------------------------------------------------------------------------------


def test_a_job_goes_from_queued_to_done(client: penstock.Client, queue: str) -> None:
    job = client.submit(queue, 21)
    assert (job.id, job.status()) == (f"{queue}/0", "queued")
    with pool(client, queue, double):
        assert job.result(timeout=LIMIT_S) == 42
    assert job.status() == "done"
    assert client.job(job.id).result(timeout=LIMIT_S) == 42


def test_arrays_travel_as_arguments_and_results(client: penstock.Client, queue: str) -> None:
    job = client.submit(queue, {"x": numpy.arange(6.0).reshape(2, 3)})
    with pool(client, queue, lambda consumer, message: consumer.complete(message, values.unpack(message.body)["x"].T)):
        assert (job.result(timeout=LIMIT_S) == numpy.arange(6.0).reshape(2, 3).T).all()


def test_the_name_of_the_task_travels_with_the_job(client: penstock.Client, queue: str) -> None:
    client.submit(queue, 1, task="double")
    assert client.peek(queue)[0].all_headers == {"penstock-task": "double"}


def test_a_failed_job_raises_its_error_with_traceback_and_rank(client: penstock.Client, queue: str) -> None:
    job = client.submit(queue, "no number")
    with pool(client, queue, double), pytest.raises(penstock.JobFailed, match="TypeError: no number") as failure:
        job.result(timeout=LIMIT_S)
    assert (failure.value.traceback, failure.value.rank) == ("Trace ...", 1)
    assert job.wait() == "dead"


def test_an_exception_becomes_the_error_of_a_job(client: penstock.Client) -> None:
    client.create_queue("once", max_failures=1)
    job = client.submit("once", 1)
    with (
        pool(client, "once", lambda consumer, message: message.nack(error=ValueError("not today"))),
        pytest.raises(penstock.JobFailed, match="ValueError: not today"),
    ):
        job.result(timeout=LIMIT_S)


def test_a_cancelled_job_has_no_result(client: penstock.Client, queue: str) -> None:
    job = client.submit(queue, 1)
    assert job.cancel() == "cancelled"
    with pytest.raises(penstock.JobCancelled):
        job.result(timeout=LIMIT_S)
    with pytest.raises(penstock.InvalidArgument):
        client.job(job.id).cancel()


def test_a_dead_job_can_be_tried_again_as_a_new_one(client: penstock.Client, queue: str) -> None:
    job = client.submit(queue, "no number")
    with pool(client, queue, double):
        job.wait(LIMIT_S)
        again = job.retry()
        assert again.id != job.id
        assert again.wait(LIMIT_S) == "dead"


def test_a_job_is_described_with_what_it_was_submitted_with_also_when_it_is_dead(
    client: penstock.Client, queue: str
) -> None:
    options: dict[str, Any] = {"headers": {"from": "ana"}, "key": "k", "max_failures": 1}
    client.submit_many(queue, range(3))
    job = client.submit(queue, {"x": [1, None]}, id="one", priority=3, **options)
    other = client.submit(queue, bytes(70_000))
    details = job.describe()
    assert (details.arguments, details.headers, details.own_id) == ({"x": [1, None]}, {"from": "ana"}, "one")
    assert (details.priority, details.key) == (3, "k")
    assert (other.describe().arguments, other.describe().size) == (None, 70_005)
    with client.consumer(queue, prefetch=0) as consumer:
        for _ in range(5):
            message = consumer.receive(LIMIT_S)
            assert message is not None
            if message.id == job.id:
                message.nack(error=OSError("no disk")).wait()
            else:
                message.complete(None).wait()
    details = job.describe()
    assert (details.status, details.arguments) == ("dead", {"x": [1, None]})
    assert (details.headers, details.key, details.priority) == ({"from": "ana"}, "k", 3)
    assert other.describe().arguments is other.describe().size is None
    again = job.retry()
    assert again.describe().arguments == {"x": [1, None]}
    assert job.describe().arguments is None


def test_waiting_for_a_job_may_take_too_long(client: penstock.Client, queue: str) -> None:
    job = client.submit(queue, 1)
    with pytest.raises(penstock.Timeout):
        job.result(timeout=0.02)
    with pytest.raises(penstock.Timeout):
        job.wait(0)


def test_a_job_that_never_was_is_not_found(client: penstock.Client, queue: str) -> None:
    with pytest.raises(penstock.NotFound):
        client.job(f"{queue}/99").result(timeout=LIMIT_S)


@pytest.mark.parametrize("text", ["forecast", "forecast/", "/3", "forecast/x", "forecast/-1"])
def test_what_is_no_job_id_is_told(client: penstock.Client, text: str) -> None:
    with pytest.raises(penstock.InvalidArgument, match="job id"):
        client.job(text)


def test_arguments_that_cannot_travel_are_refused_before_anything_is_sent(client: penstock.Client, queue: str) -> None:
    with pytest.raises(penstock.InvalidArgument):
        client.submit_many(queue, [1, object()])
    assert client.describe(queue).ready == 0


def test_many_jobs_keep_their_order(client: penstock.Client, queue: str) -> None:
    jobs = client.submit_many(queue, range(12_000))
    assert [job.offset for job in jobs] == list(range(12_000))
    assert client.describe(queue).ready == 12_000


def test_jobs_are_listed_by_status(client: penstock.Client, queue: str) -> None:
    jobs = client.submit_many(queue, range(5))
    jobs[3].cancel()
    assert [job.offset for job in client.jobs(queue)] == [0, 1, 2, 3, 4]
    (cancelled,) = client.jobs(queue, status="cancelled")
    assert cancelled.info is not None
    assert (cancelled.offset, cancelled.info.status) == (3, "cancelled")
    assert [job.offset for job in client.jobs(queue, limit=2, after=0)] == [1, 2]


def test_jobs_come_as_they_are_completed(client: penstock.Client, queue: str) -> None:
    jobs = client.submit_many(queue, [*range(50), "no number"])
    with pool(client, queue, double):
        ended = list(client.as_completed(jobs, timeout=LIMIT_S))
    assert {job.id for job in ended} == {job.id for job in jobs}
    assert sum(job.result() for job in ended if job.status() == "done") == 2 * sum(range(50))
    assert [job.status() for job in ended].count("dead") == 1


def test_jobs_that_were_acked_plainly_are_ended_too(client: penstock.Client, queue: str) -> None:
    jobs = client.submit_many(queue, range(3))
    with pool(client, queue, lambda consumer, message: message.ack()):
        assert [job.status() for job in client.as_completed(jobs, timeout=LIMIT_S)] == ["expired"] * 3


def test_a_second_round_does_not_read_the_first_one_again(client: penstock.Client, queue: str) -> None:
    with pool(client, queue, double):
        first = client.submit_many(queue, range(20))
        assert len(list(client.as_completed(first, timeout=LIMIT_S))) == 20
        second = client.submit_many(queue, range(20))
        assert second[0].cursor > 0
        assert len(list(client.as_completed(second, timeout=LIMIT_S))) == 20


def test_who_gives_up_says_after_what_time(client: penstock.Client, queue: str) -> None:
    with pytest.raises(penstock.Timeout, match=r"job .*/0 is (queued|expired) and did not end within 0\.05 s"):
        client.call(queue, 1, timeout="50ms")
    jobs = client.submit_many(queue, [1, 2])
    with pytest.raises(penstock.Timeout, match=r"2 jobs did not end within 0\.05 s"):
        jobs.results(timeout=0.05)
    with pytest.raises(penstock.Timeout, match="2 jobs did not end yet"):
        jobs.results(timeout=0)


def test_as_completed_gives_up_in_time(client: penstock.Client, queue: str) -> None:
    with pytest.raises(penstock.Timeout, match="1 jobs"):
        list(client.as_completed([client.submit(queue, 1)], timeout=0.05))


def test_draining_waits_for_all_and_tells_how_each_ended(client: penstock.Client, queue: str) -> None:
    client.submit_many(queue, [1, "no number", 3])
    with pool(client, queue, double):
        outcomes = client.drain(queue, timeout=LIMIT_S)
    assert [(outcome.offset, outcome.status, outcome.value) for outcome in outcomes] == [
        (0, "done", 2), (1, "dead", None), (2, "done", 6)
    ]  # fmt: skip
    assert isinstance(outcomes[1].error, penstock.JobFailed)


def test_draining_an_empty_queue_is_quick(client: penstock.Client, queue: str) -> None:
    assert client.drain(queue, timeout=LIMIT_S) == []


def test_draining_without_anybody_who_works_runs_out_of_time(client: penstock.Client, queue: str) -> None:
    client.submit(queue, 1)
    with pytest.raises(penstock.Timeout, match="pool"):
        client.drain(queue, timeout=0.05)


def test_a_result_for_a_cancelled_job_does_not_harm_the_others(client: penstock.Client, queue: str) -> None:
    jobs = client.submit_many(queue, range(100))
    with client.consumer(queue) as consumer:
        messages = consumer.receive_many(100, timeout=LIMIT_S)
        assert len(messages) == 100
        jobs[40].cancel()
        with pytest.raises(penstock.LeaseLost):
            consumer.complete_many(messages, list(range(100))).wait(LIMIT_S)
        assert consumer.lost == 1
    statuses = [outcome.status for outcome in client.drain(queue, timeout=LIMIT_S)]
    assert statuses.count("done") == 99
    assert statuses[40] == "cancelled"


def test_results_arrive_with_their_jobs_in_whatever_order_they_are_completed(
    client: penstock.Client, queue: str
) -> None:
    client.submit_many(queue, range(30))
    with client.consumer(queue) as consumer:
        messages = consumer.receive_many(30, timeout=LIMIT_S)
        shuffled = [*messages[::3], *messages[2::3], *messages[1::3]]
        consumer.complete_many(shuffled, [values.unpack(message.body) for message in shuffled]).wait(LIMIT_S)
    assert [outcome.value for outcome in client.drain(queue)] == list(range(30))


def test_large_results_travel_in_several_requests(client: penstock.Client, queue: str) -> None:
    jobs = client.submit_many(queue, range(4))
    with client.consumer(queue) as consumer:
        messages = consumer.receive_many(4, timeout=LIMIT_S)
        consumer.complete_many(messages, [bytes(3 * 2**20)] * 4).wait(LIMIT_S)
    assert all(len(job.result(timeout=LIMIT_S)) == 3 * 2**20 for job in jobs)
