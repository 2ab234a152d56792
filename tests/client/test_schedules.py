"""Schedules through the client, against a real daemon, or one whose clock is turned."""

from typing import Any

import pytest

import penstock
from penstock.testing import Broker

LIMIT_S = 20.0


def test_a_schedule_makes_jobs_with_its_arguments(broker: Broker, timed: penstock.Client) -> None:
    info = timed.schedules.add("soon", "q", {"assets": [1, 2]}, every="1h", task="forecast", headers={"from": "me"})
    assert (info.name, info.queue, info.every_ms, info.fired, info.last_job) == ("soon", "q", 3_600_000, 0, None)
    broker.advance("2h")
    with timed.consumer("q", prefetch=0) as consumer:
        first, second = consumer.receive_many(10, timeout=LIMIT_S)
        assert first.all_headers["penstock-task"] == "forecast"
        assert first.headers == {"from": "me"}
        assert first.all_headers["penstock-schedule"] == "soon"
        assert second.all_headers["penstock-due"] - first.all_headers["penstock-due"] == 3_600_000
        first.ack()
        second.ack()
    timed.schedules.remove("soon")
    with pytest.raises(penstock.NotFound):
        timed.schedules.get("soon")
    assert not broker.advance_to_next()


def test_a_schedule_is_found_listed_paused_and_resumed(client: penstock.Client, queue: str) -> None:
    made = client.schedules.add("nightly", queue, body=b"backup", cron="30 2 * * MON-FRI", tz="Europe/Berlin")
    assert made.next_ms is not None
    found = client.schedules.get("nightly")
    assert (found.body, found.cron, found.tz) == (b"backup", "30 2 * * MON-FRI", "Europe/Berlin")
    assert made in client.schedules.list()
    paused = client.schedules.pause("nightly")
    assert (paused.paused, paused.next_ms) == (True, None)
    assert client.schedules.resume("nightly") == made
    client.schedules.remove("nightly")


def test_a_run_beside_the_due_times_is_a_job(client: penstock.Client, queue: str) -> None:
    client.schedules.add("yearly", queue, 7, cron="@yearly", overlap=False)
    job = client.schedules.run("yearly")
    assert job.status() == "queued"
    assert client.schedules.get("yearly").last_job == job.id
    with pytest.raises(penstock.InvalidArgument, match="has not ended"):
        client.schedules.run("yearly")
    job.cancel()
    assert client.schedules.run("yearly").id != job.id
    client.schedules.remove("yearly")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"cron": "61 * * * *"}, "its minute is '61'"),
        ({"cron": "0 0 31 2 *"}, "never comes"),
        ({"cron": "* * * * *", "tz": "Berlin"}, "tz is 'Berlin'"),
        ({}, "cron is None, every is None"),
        ({"cron": "@daily", "every": "1h"}, "every is '1h'"),
        ({"every": "10ms"}, "every is 10ms"),
        ({"every": "often"}, "every is 'often'"),
        ({"every": "1h", "missed": "twice"}, "missed is 'twice'"),
        ({"every": "1h", "body": b"x", "args": 1}, "body and args"),
        ({"every": "1h", "priority": 10}, "priority is 10"),
        ({"every": "1h", "delay": "1s"}, "no delay"),
    ],
)
def test_what_is_wrong_is_named(client: penstock.Client, queue: str, wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(penstock.InvalidArgument, match=named):
        client.schedules.add("wrong", queue, **wrong)


def test_its_jobs_have_properties(client: penstock.Client, queue: str) -> None:
    info = client.schedules.add("urgent", queue, 1, every="1h", priority=7, ttl="2h", max_failures=1, key="a")
    assert info.properties == {"priority": 7, "ttl_ms": 7_200_000, "max_failures": 1}
    client.submit(queue, 0)
    client.schedules.run("urgent")
    with client.consumer(queue, prefetch=0) as consumer:
        message = consumer.receive(timeout=LIMIT_S)
        assert message is not None
        assert (message.offset, message.key) == (1, "a")
        message.ack().wait(LIMIT_S)
    client.schedules.remove("urgent")


def test_a_schedule_needs_its_queue_and_a_name_of_its_own(client: penstock.Client, queue: str) -> None:
    with pytest.raises(penstock.NotFound):
        client.schedules.add("lost", "nowhere", every="1h")
    client.schedules.add("mine", queue, every="1h")
    with pytest.raises(penstock.AlreadyExists):
        client.schedules.add("mine", queue, every="2h")
    assert client.schedules.add("mine", queue, every="2h", replace=True).every_ms == 7_200_000
    client.schedules.remove("mine")
