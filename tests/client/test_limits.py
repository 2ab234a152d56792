"""Bounds in bytes, time and number, and how pauses are spread: through the client, against a real daemon."""

from __future__ import annotations

import pytest
from kit.daemons import until

import penstock

LIMIT_S = 20.0


def test_a_queue_that_is_full_of_bytes_refuses_until_some_are_done(client: penstock.Client, queue: str) -> None:
    client.configure(queue, max_bytes=1500)
    with client.producer(queue) as producer, client.consumer(queue, prefetch=0) as consumer:
        producer.send(bytes(1000)).wait(LIMIT_S)
        with pytest.raises(penstock.QueueFull, match="max_bytes"):
            producer.send(bytes(1000)).wait(LIMIT_S)
        message = consumer.receive(LIMIT_S)
        assert message is not None
        message.ack().wait(LIMIT_S)
        assert producer.can_send()
        assert producer.send(bytes(1000)).wait(LIMIT_S) == 1


def test_a_result_is_forgotten_after_its_time(client: penstock.Client, queue: str) -> None:
    client.configure(queue, result_ttl="50ms")
    job = client.submit(queue, 1)
    with client.consumer(queue) as consumer:
        message = consumer.receive(LIMIT_S)
        assert message is not None
        message.complete(2).wait(LIMIT_S)
    until(lambda: client.job(job.id).status() == "expired", "its result is forgotten")
    with pytest.raises(penstock.NotFound, match="no longer kept"):
        client.job(job.id).result(0)


def test_a_consumer_leases_no_more_ahead_than_it_was_told_to(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        producer.send_many([b"%d" % number for number in range(50)]).wait(LIMIT_S)
    with client.consumer(queue, prefetch=4) as consumer:
        for taken in range(1, 20):
            assert consumer.receive(LIMIT_S) is not None
            assert taken <= client.describe(queue).leased <= taken + 4


def test_what_failed_together_does_not_come_back_together(client: penstock.Client, queue: str) -> None:
    client.configure(queue, retry_delay="1h", retry_jitter=50)
    jobs = client.submit_many(queue, range(20))
    with client.consumer(queue) as consumer:
        messages: list[penstock.Message] = []
        while len(messages) < 20:
            messages += consumer.receive_many(20, LIMIT_S)
        consumer.nack_many(messages).wait(LIMIT_S)
    pauses_ms = []
    for job in jobs:
        seen = job.describe()
        assert seen.due_ms is not None
        pauses_ms.append(seen.due_ms - seen.history[-1].at_ms)
    assert len(set(pauses_ms)) > 10
    assert 1_800_000 <= min(pauses_ms) <= max(pauses_ms) <= 3_600_000
