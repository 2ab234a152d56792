"""Many jobs at once, what is told of one, and what becomes of the dead: against a real daemon."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import penstock
from penstock.peers import values

LIMIT_S = 20.0


def fail_odd(client: penstock.Client, queue: str, count: int) -> None:
    """Do the next `count` jobs: even numbers come back tenfold, odd ones are rejected."""
    with client.consumer(queue, prefetch=0) as consumer:
        for _ in range(count):
            message = consumer.receive(LIMIT_S)
            assert message is not None
            number = values.unpack(message.body)
            if number % 2:
                message.reject("odd", error=ValueError(f"{number} is odd"))
            else:
                message.complete(10 * number)


def test_an_array_is_waited_for_as_a_whole_from_anywhere(client: penstock.Client, queue: str) -> None:
    jobs = client.submit_many(queue, range(10))
    assert jobs.statuses() == {"queued": 10}
    fail_odd(client, queue, 10)
    assert jobs.wait(LIMIT_S) == {"done": 5, "dead": 5}
    again = client.job_array(jobs.id)
    assert [outcome.status for outcome in again.outcomes(LIMIT_S)] == ["done", "dead"] * 5
    with pytest.raises(penstock.JobFailed, match="5 of 10 jobs did not end well"):
        again.results(LIMIT_S)
    assert client.job_array(f"{queue}/0,2,4").results(LIMIT_S) == [0, 20, 40]


def test_a_slip_in_the_number_of_an_array_is_refused_at_once(client: penstock.Client, queue: str) -> None:
    jobs = client.submit_many(queue, range(10))
    slip = client.job_array(f"{queue}/0-99999999999")
    for ask in (
        slip.statuses,
        slip.wait,
        slip.results,
        slip.cancel,
        slip.retry,
        lambda: next(client.as_completed(slip)),
    ):
        with pytest.raises(penstock.NotFound, match=f"job {queue}/99999999999 does not exist"):
            ask()
    assert jobs.statuses() == {"queued": 10}


def test_each_job_of_an_array_waits_for_its_own(client: penstock.Client, queue: str) -> None:
    first = client.submit_many(queue, range(4))
    client.create_queue(f"{queue}-next")
    afters = [None, first[0], first[1], [first[2], first[3].id], first, None]
    later = client.submit_many(f"{queue}-next", range(6), afters=afters, on_failure="release", ids=list("abcdef"))
    assert [job.describe().parents for job in later] == [
        (), (f"{queue}/0",), (f"{queue}/1",), (f"{queue}/2-3",), (f"{queue}/0-3",), (),
    ]  # fmt: skip
    assert [job.describe().own_id for job in later] == list("abcdef")
    assert later.statuses() == {"queued": 2, "waiting": 4}
    fail_odd(client, queue, 2)
    assert [job.status() for job in later] == ["queued", "queued", "queued", "waiting", "waiting", "queued"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"afters": ["work/1"]}, "1 afters for 2 jobs"),
        ({"afters": "work/1"}, "afters is 'work/1'"),
        ({"afters": ["work/1", 7]}, "afters is 7"),
        ({"afters": ["work/1", None], "after": "work/1"}, "after and afters are both given"),
        ({"afters": [None, None], "on_failure": "release"}, "on_failure is given, and after is not"),
    ],
)
def test_what_an_array_cannot_wait_for_is_refused(client: penstock.Client, queue: str, options: Any, said: str) -> None:
    with pytest.raises(penstock.InvalidArgument, match=said):
        client.submit_many(queue, range(2), **options)
    assert client.describe(queue).next == 0


def test_only_what_failed_of_an_array_is_retried(client: penstock.Client, queue: str) -> None:
    jobs = client.submit_many(queue, range(6))
    fail_odd(client, queue, 6)
    again = jobs.retry()
    assert again.id == f"{queue}/6-8"
    assert again.statuses() == {"queued": 3}
    assert client.job_array(f"{queue}/0").retry().id == ""  # one that is done


def test_what_has_not_ended_of_an_array_is_cancelled(client: penstock.Client, queue: str) -> None:
    jobs = client.submit_many(queue, range(6))
    fail_odd(client, queue, 2)
    assert jobs.cancel() == 4
    assert jobs.wait(LIMIT_S) == {"done": 1, "dead": 1, "cancelled": 4}
    assert jobs.cancel() == 0


def test_all_dead_jobs_of_a_queue_are_retried(client: penstock.Client, queue: str) -> None:
    client.submit_many(queue, [1, 3, 5])
    fail_odd(client, queue, 3)
    assert len(client.retry_dead(queue, limit=1)) == 1
    assert len(client.retry_dead(queue)) == 2
    assert client.retry_dead(queue).id == ""
    assert client.describe(queue).ready == 3


def test_messages_are_moved_to_another_queue(client: penstock.Client, queue: str) -> None:
    client.create_queue(f"{queue}-b")
    client.submit_many(queue, range(5))
    assert client.move(queue, f"{queue}-b", limit=2) == 2
    assert client.move(queue, f"{queue}-b") == 3
    assert (client.describe(queue).ready, client.describe(f"{queue}-b").ready) == (0, 5)
    with pytest.raises(penstock.InvalidArgument):
        client.move(queue, queue)


def test_a_job_tells_its_history(client: penstock.Client, queue: str) -> None:
    job = client.submit(queue, 1, key="k", headers={"a": 1}, time_limit="1m")
    with client.consumer(queue, prefetch=0) as consumer:
        for _ in range(2):
            message = consumer.receive(LIMIT_S)
            assert message is not None
            message.nack(error=ValueError("not today"))
        consumer.flush()
    details = job.describe()
    assert (details.id, details.status, details.failures) == (job.id, "failed", 2)
    assert (details.key, details.time_limit_ms) == ("k", 60_000)
    assert details.error is not None
    assert details.error["message"] == "not today"
    assert [step.what for step in details.history][:3] == ["submitted", "leased", "nacked"]
    with pytest.raises(penstock.NotFound):
        client.job(f"{queue}/77").describe()


def test_a_job_says_why_it_does_not_run(client: penstock.Client, queue: str) -> None:
    client.submit_many(queue, range(3))
    client.pause(queue)
    codes = [reason.code for reason in client.job(f"{queue}/2").explain()]
    assert "paused" in codes
    assert "behind" in codes


def test_a_submit_whose_reply_was_lost_is_done_once(own_daemon: Any) -> None:
    """A client asks again, with the same sequence: whether its first asking was carried out or not, one job is made."""
    count, kills = 60, (15, 30, 45)
    with penstock.connect(own_daemon.endpoint, retry_for=LIMIT_S) as client:
        client.create_queue("work")
        made: list[penstock.Job] = []

        def submit() -> None:
            for number in range(count):
                made.append(client.submit("work", number))

        thread = threading.Thread(target=submit)
        thread.start()
        for kill in kills:
            while len(made) < kill and thread.is_alive():
                time.sleep(0.001)
            own_daemon.kill()  # in the middle of a submit
            own_daemon.start()
        thread.join(3 * LIMIT_S)
        assert [job.offset for job in made] == list(range(count))
        assert client.describe("work").next == count
