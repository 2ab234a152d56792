"""Watching what happens, through the client."""

import threading
from typing import Any

import pytest

import penstock

LIMIT_S = 20.0


def receive(watch: penstock.Watch) -> penstock.Event:
    event = watch.receive(timeout=LIMIT_S)
    assert event is not None
    return event


def test_a_watch_sees_what_happens_after_it_was_made(client: penstock.Client, queue: str) -> None:
    watch = client.watch(["queue.*", "job.queued"])
    client.pause(queue)
    client.submit(queue, 1)
    first, second = receive(watch), receive(watch)
    assert (first.type, first.queue) == ("queue.paused", queue)
    assert (second.type, second.queue, second.first, second.count) == ("job.queued", queue, 0, 1)
    assert watch.receive(timeout=0) is None


def test_a_watch_goes_on_after_a_cursor(client: penstock.Client, queue: str) -> None:
    watch = client.watch("queue.*")
    client.pause(queue)
    client.resume(queue)
    paused = receive(watch)
    assert watch.cursor == paused.cursor
    again = client.watch("queue.*", after=paused.cursor)
    assert receive(again).type == receive(watch).type == "queue.resumed"
    assert again.cursor is not None


def test_what_happened_before_can_be_looked_at(client: penstock.Client, queue: str) -> None:
    watch = client.watch("queue.created", after="earliest")
    while receive(watch).queue != queue:
        pass


def test_stop_ends_an_iteration_that_waits(client: penstock.Client, queue: str) -> None:
    watch = client.watch("job.*")
    seen: list[penstock.Event] = []
    began = threading.Event()

    def run() -> None:
        for event in watch:
            seen.append(event)
            began.set()

    thread = threading.Thread(target=run)
    thread.start()
    client.submit(queue, 1)
    assert began.wait(LIMIT_S)
    watch.stop()
    thread.join(LIMIT_S)
    assert not thread.is_alive()
    assert [event.type for event in seen] == ["job.queued"]


def test_a_watch_ends_with_its_with(client: penstock.Client, queue: str) -> None:
    with client.watch("queue.*") as watch:
        client.pause(queue)
        assert receive(watch).type == "queue.paused"
    assert watch.receive() is None


def test_a_watch_outlives_its_daemon(own_daemon: Any) -> None:
    with penstock.connect(own_daemon.endpoint, retry_for=LIMIT_S) as client:
        client.create_queue("jobs")
        watch = client.watch("queue.*")
        own_daemon.kill()
        own_daemon.start()
        client.pause("jobs")
        event = receive(watch)
        assert (event.type, event.queue) == ("queue.paused", "jobs")


def test_events_that_are_gone_are_an_event(fake: Any, queue: str) -> None:
    told = {"cursor": "9.0", "index": 9, "type": "queue.paused", "at_ms": 1500, "queue": "jobs"}
    fake.handle = lambda request: ("ok", {"events": [told], "next": "9.0", "dropped": True}, None)
    with penstock.connect(fake.endpoint) as client:
        watch = client.watch("queue.*", after="2.0")
        dropped, paused = receive(watch), receive(watch)
    assert (dropped.type, dropped.count, dropped.cursor) == ("events.dropped", None, "2.0")
    assert paused == penstock.Event("queue.paused", 1.5, "9.0", "jobs")


@pytest.mark.parametrize("patterns", ["quue.*", [], [1], ["queue.*", "jobs"]])
def test_a_pattern_that_nothing_is_like_is_refused(client: penstock.Client, patterns: Any) -> None:
    with pytest.raises(penstock.InvalidArgument, match=r"patterns"):
        client.watch(patterns).receive(timeout=0)


def test_a_cursor_that_is_none_is_refused(client: penstock.Client) -> None:
    with pytest.raises(penstock.InvalidArgument, match="after is 'yesterday'"):
        client.watch(after="yesterday").receive(timeout=0)
