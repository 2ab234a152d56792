"""Producers and consumers against a real daemon."""

import os
import signal
import threading
import time
from typing import Any

import pytest

import penstock
from penstock.testing import Broker

LIMIT_S = 20.0


def take(consumer: penstock.Consumer, number: int) -> list[penstock.Message]:
    """Exactly this many messages."""
    messages: list[penstock.Message] = []
    while len(messages) < number:
        some = consumer.receive_many(number - len(messages), timeout=LIMIT_S)
        assert some, f"{len(messages)} of {number} came"
        messages += some
    return messages


# -- sending -----------------------------------------------------------------------------------------------------------


def test_a_receipt_tells_the_offset(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        assert [producer.send(b"x").wait(LIMIT_S) for _ in range(3)] == [0, 1, 2]


def test_messages_of_a_loop_keep_their_order_and_their_offsets(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        receipts = [producer.send(b"%d" % number) for number in range(5000)]
        assert [receipt.wait(LIMIT_S) for receipt in receipts] == list(range(5000))
    with client.consumer(queue) as consumer:
        messages = take(consumer, 5000)
        assert [int(message.body) for message in messages] == list(range(5000))
        consumer.ack_many(messages)


def test_closing_a_producer_makes_everything_durable(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        receipts = [producer.send(b"x") for _ in range(2500)]
    assert all(receipt.done() for receipt in receipts)
    assert client.describe(queue).ready == 2500


def test_a_batch_is_taken_as_a_whole_or_not_at_all(client: penstock.Client) -> None:
    client.create_queue("small", max_messages=10)
    with client.producer("small") as producer:
        assert producer.send_many([b"x"] * 8).wait(LIMIT_S) == 0
        with pytest.raises(penstock.QueueFull):
            producer.send_many([b"x"] * 3).wait(LIMIT_S)
    assert client.describe("small").ready == 8


def test_can_send_knows_the_limit(client: penstock.Client) -> None:
    client.create_queue("tight", max_messages=2)
    with client.producer("tight") as producer:
        assert producer.can_send()
        producer.send_many([b"x", b"x"]).wait(LIMIT_S)
        assert not producer.can_send()


def test_a_refusal_that_no_receipt_told_is_raised_by_flush(client: penstock.Client) -> None:
    client.create_queue("full", max_messages=1)
    with client.producer("full") as producer:
        producer.send(b"x").wait(LIMIT_S)
        producer.send(b"x")
        with pytest.raises(penstock.QueueFull, match="1 messages were refused"):
            producer.flush(LIMIT_S)
        producer.flush(LIMIT_S)


def test_a_queue_that_is_not_there_is_told(client: penstock.Client) -> None:
    producer = client.producer("nowhere")
    with pytest.raises(penstock.NotFound):
        producer.send(b"x").wait(LIMIT_S)
    producer.close()


def test_headers_and_keys_arrive(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        producer.send(b"a", headers={"n": 1}, key="k")
        producer.send(b"b")
    with client.consumer(queue) as consumer:
        first, second = take(consumer, 2)
        assert (first.headers, first.key, second.headers, second.key) == ({"n": 1}, "k", {}, None)
        consumer.ack_many([first, second])


@pytest.mark.parametrize(
    ("body", "headers", "key"),
    [
        ("text", None, None),
        (b"x", {"penstock-key": "k"}, None),
        (b"x", {1: 2}, None),
        (b"x", {"a": object()}, None),
        (b"x", None, 7),
    ],
)
def test_what_cannot_be_sent_is_refused_at_once(
    client: penstock.Client, queue: str, body: Any, headers: Any, key: Any
) -> None:
    with client.producer(queue) as producer, pytest.raises(penstock.InvalidArgument):
        producer.send(body, headers=headers, key=key)


def test_a_body_that_changes_after_sending_arrives_as_it_was(client: penstock.Client, queue: str) -> None:
    body = bytearray(b"before")
    with client.producer(queue) as producer:
        producer.send(b"first")
        producer.send(body)
        body[:] = b"after!"
    with client.consumer(queue) as consumer:
        assert take(consumer, 2)[1].body == b"before"


def test_large_messages_arrive(client: penstock.Client, queue: str) -> None:
    bodies = [os.urandom(size) for size in (1, 300_000, 10, 5_000_000)]
    with client.producer(queue) as producer:
        for body in bodies:
            producer.send(body)
    with client.consumer(queue) as consumer:
        messages = take(consumer, 4)
        assert [message.body for message in messages] == bodies
        consumer.ack_many(messages)


def test_a_message_larger_than_the_daemon_takes_is_refused_here(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer, pytest.raises(penstock.TooLarge):
        producer.send(bytes(65 * 2**20))


def test_a_closed_producer_takes_nothing(client: penstock.Client, queue: str) -> None:
    producer = client.producer(queue)
    producer.close()
    with pytest.raises(penstock.Closed):
        producer.send(b"x")


def test_lingering_messages_leave_by_themselves(client: penstock.Client, queue: str) -> None:
    with client.producer(queue, linger="20ms") as producer, client.consumer(queue) as consumer:
        producer.send(b"x")
        producer.send(b"y")
        assert len(take(consumer, 2)) == 2


def test_threads_share_a_producer(client: penstock.Client, queue: str) -> None:
    offsets: list[int] = []
    with client.producer(queue) as producer:

        def work() -> None:
            offsets.extend([producer.send(b"x") for _ in range(2000)][-1].wait(LIMIT_S) for _ in range(2))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_S)
    assert len(set(offsets)) == 8
    assert client.describe(queue).ready == 16_000


# -- receiving ---------------------------------------------------------------------------------------------------------


def test_nothing_comes_out_of_an_empty_queue(client: penstock.Client, queue: str) -> None:
    with client.consumer(queue) as consumer:
        assert consumer.receive(timeout=0.01) is None
        assert consumer.receive_many(10, timeout=0.01) == []


def test_a_message_knows_where_it_comes_from(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        producer.send_many([b"a", b"b"])
    with client.consumer(queue) as consumer:
        take(consumer, 1)
        (message,) = take(consumer, 1)
        assert (message.queue, message.offset, message.attempt, message.failures) == (queue, 1, 1, 0)
        assert message.id == f"{queue}/1"
        assert message.timestamp > 1_600_000_000


def test_an_acked_message_is_gone(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        producer.send(b"x")
    with client.consumer(queue) as consumer:
        (message,) = take(consumer, 1)
        message.ack().wait(LIMIT_S)
    info = client.describe(queue)
    assert (info.ready, info.leased, info.done) == (0, 0, 1)


def test_a_nacked_message_comes_again_and_knows_it(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        producer.send(b"x")
    with client.consumer(queue) as consumer:
        take(consumer, 1)[0].nack()
        (again,) = take(consumer, 1)
        assert (again.attempt, again.failures) == (2, 1)
        again.ack()


def test_a_released_message_comes_again_without_a_failure(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        producer.send(b"x")
    with client.consumer(queue) as consumer:
        take(consumer, 1)[0].release()
        (again,) = take(consumer, 1)
        assert (again.attempt, again.failures) == (2, 0)
        again.ack()


def test_a_nack_may_ask_for_a_pause(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        producer.send(b"x")
    with client.consumer(queue) as consumer:
        take(consumer, 1)[0].nack(delay="1h").wait(LIMIT_S)
        assert client.describe(queue).delayed == 1


def test_a_rejected_message_is_a_dead_letter(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        producer.send(b"x", headers={"n": 1})
    with client.consumer(queue) as consumer:
        take(consumer, 1)[0].reject("bad").wait(LIMIT_S)
    with client.consumer(f"{queue}.dead") as dead:
        (message,) = take(dead, 1)
        assert (message.body, message.headers) == (b"x", {"n": 1})
        assert message.all_headers["penstock-reason"] == "bad"


def test_settling_twice_is_a_lost_lease(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        producer.send_many([b"x"] * 3)
    with client.consumer(queue) as consumer:
        messages = take(consumer, 3)
        messages[1].ack().wait(LIMIT_S)
        with pytest.raises(penstock.LeaseLost):
            consumer.ack_many(messages).wait(LIMIT_S)
    assert client.describe(queue).done == 3


def test_acks_in_any_order_reach_their_messages(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        producer.send_many([b"x"] * 100)
    with client.consumer(queue) as consumer:
        messages = take(consumer, 100)
        consumer.ack_many([*messages[50:], *reversed(messages[:50])]).wait(LIMIT_S)
    assert client.describe(queue).done == 100


def test_iterating_ends_with_stop(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        producer.send_many([b"x"] * 5)
    seen = 0
    with client.consumer(queue) as consumer:
        for message in consumer:
            message.ack()
            seen += 1
            if seen == 5:
                consumer.stop()
    assert seen == 5


def test_stop_ends_a_wait_in_another_thread(client: penstock.Client, queue: str) -> None:
    with client.consumer(queue) as consumer:
        thread = threading.Thread(target=lambda: list(consumer))
        thread.start()
        consumer.stop()
        thread.join(LIMIT_S)
        assert not thread.is_alive()


def test_stop_may_be_called_by_a_signal_handler(client: penstock.Client, queue: str) -> None:
    with client.consumer(queue) as consumer:
        before = signal.signal(signal.SIGUSR2, lambda *_: consumer.stop())
        try:
            timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR2))
            timer.start()
            assert list(consumer) == []
        finally:
            timer.join()
            signal.signal(signal.SIGUSR2, before)


def test_closing_gives_back_what_nobody_received(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        producer.send_many([b"x"] * 10)
    with client.consumer(queue) as consumer:
        take(consumer, 1)[0].ack()
    info = client.describe(queue)
    assert (info.ready, info.leased, info.done) == (9, 0, 1)


def test_what_comes_after_the_close_is_given_back(client: penstock.Client, queue: str) -> None:
    consumer = client.consumer(queue)
    assert consumer.receive(timeout=0.01) is None  # a pull is parked at the daemon now
    consumer.close()
    with client.producer(queue) as producer:
        producer.send(b"x").wait(LIMIT_S)
    with client.consumer(queue) as other:
        (message,) = take(other, 1)
        assert message.failures == 0
        message.ack()


def test_closing_the_client_returns_what_is_in_hand(daemon: Any, client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        producer.send(b"x")
    with penstock.connect(daemon.endpoint) as other:
        take(other.consumer(queue), 1)
    assert client.describe(queue).ready == 1


def test_leases_are_renewed_in_the_background(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        producer.send(b"x")
    with client.consumer(queue, lease="300ms") as consumer, client.consumer(queue) as other:
        (message,) = take(consumer, 1)
        assert other.receive(timeout=1.0) is None
        message.ack().wait(LIMIT_S)


def test_without_renewal_a_message_is_lost_with_its_lease(broker: Broker, timed: penstock.Client) -> None:
    with timed.producer("q") as producer:
        producer.send(b"x")
    consumer = timed.consumer("q", lease="30s", renew=False, prefetch=0)
    (message,) = take(consumer, 1)
    broker.advance("30s")
    with timed.consumer("q") as other:
        (again,) = take(other, 1)
        assert again.attempt == 2
        with pytest.raises(penstock.LeaseLost):
            message.ack().wait(LIMIT_S)
        assert consumer.lost == 1
        again.ack()
    consumer.close()


def test_a_loss_that_no_receipt_told_is_raised_by_flush(broker: Broker, timed: penstock.Client) -> None:
    with timed.producer("q") as producer:
        producer.send(b"x")
    consumer = timed.consumer("q", lease="30s", renew=False, prefetch=0)
    (message,) = take(consumer, 1)
    broker.advance("30s")
    with timed.consumer("q") as other:
        take(other, 1)[0].ack().wait(LIMIT_S)
    message.ack()
    with pytest.raises(penstock.LeaseLost):
        consumer.flush(LIMIT_S)
    consumer.close()


def test_extending_keeps_a_message(broker: Broker, timed: penstock.Client) -> None:
    with timed.producer("q") as producer:
        producer.send(b"x")
    with timed.consumer("q", lease="30s", renew=False) as consumer:
        (message,) = take(consumer, 1)
        message.extend("1h").wait(LIMIT_S)
        broker.advance("59m 59s")
        message.ack().wait(LIMIT_S)


def test_prefetch_0_leases_only_what_is_asked_for(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        producer.send_many([b"x"] * 10)
    with client.consumer(queue, prefetch=0) as consumer:
        take(consumer, 3)
        info = client.describe(queue)
        assert (info.ready, info.leased) == (7, 3)


def test_size_counts_what_waits(client: penstock.Client, queue: str) -> None:
    with client.producer(queue) as producer:
        producer.send_many([b"x"] * 10)
    with client.consumer(queue) as consumer:
        assert consumer.size() == 10
        take(consumer, 4)
        assert consumer.size() == 6


def test_a_queue_that_is_deleted_ends_a_wait(client: penstock.Client, queue: str) -> None:
    with client.consumer(queue) as consumer:
        assert consumer.receive(timeout=0.01) is None
        client.delete(queue)
        with pytest.raises(penstock.NotFound):
            consumer.receive(timeout=LIMIT_S)


def test_threads_share_a_consumer(client: penstock.Client, queue: str) -> None:
    workers = 4
    with client.producer(queue) as producer:
        for number in range(2000):
            producer.send(b"%d" % number)
        for _ in range(workers):
            producer.send(b"go home")
    seen: list[int] = []
    with client.consumer(queue, prefetch=100) as consumer:

        def work() -> None:
            while (message := consumer.receive(timeout=LIMIT_S)) is not None:
                message.ack()
                if message.body == b"go home":
                    break
                seen.append(int(message.body))

        threads = [threading.Thread(target=work) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_S)
    assert sorted(seen) == list(range(2000))
    assert client.describe(queue).done == 2000 + workers


# -- topics ------------------------------------------------------------------------------------------------------------


def test_every_group_of_a_topic_sees_every_message(client: penstock.Client) -> None:
    client.create_topic("events")
    with client.producer("events") as producer:
        producer.send_many([b"a", b"b"])
    for group in ("billing", "audit"):
        with client.consumer("events", group=group) as consumer:
            messages = take(consumer, 2)
            assert [message.body for message in messages] == [b"a", b"b"]
            consumer.ack_many(messages)
    assert [group.name for group in client.list_groups("events")] == ["audit", "billing"]


def test_a_group_may_begin_with_what_is_to_come(client: penstock.Client) -> None:
    client.create_topic("dawn")
    with client.producer("dawn") as producer:
        producer.send(b"old").wait(LIMIT_S)
        with client.consumer("dawn", group="late", start="latest") as consumer:
            producer.send(b"new")
            assert take(consumer, 1)[0].body == b"new"


def test_groups_are_made_and_deleted(client: penstock.Client) -> None:
    client.create_topic("grouped")
    assert client.create_group("grouped", "g").name == "g"
    with pytest.raises(penstock.AlreadyExists):
        client.create_group("grouped", "g")
    client.delete_group("grouped", "g")
    assert client.list_groups("grouped") == []


# -- a daemon that dies ------------------------------------------------------------------------------------------------


def test_nothing_is_lost_or_done_twice_when_the_daemon_is_killed(own_daemon: Any) -> None:
    with penstock.connect(own_daemon.endpoint, retry_for=LIMIT_S) as client:
        client.create_queue("q")
        with client.producer("q") as producer, client.consumer("q", lease="1m") as consumer:
            for turn in range(3):
                receipts = [producer.send(b"%d" % (1000 * turn + i)) for i in range(1000)]
                own_daemon.kill()
                own_daemon.start()
                assert [receipt.wait(LIMIT_S) for receipt in receipts] == [1000 * turn + i for i in range(1000)]
                messages = take(consumer, 1000)
                receipt = consumer.ack_many(messages)
                own_daemon.kill()
                own_daemon.start()
                receipt.wait(LIMIT_S)
                assert [int(message.body) for message in messages] == [1000 * turn + i for i in range(1000)]
        info = client.describe("q")
        assert (info.ready, info.leased, info.done) == (0, 0, 3000)


def test_a_wait_outlives_the_daemon(own_daemon: Any) -> None:
    with penstock.connect(own_daemon.endpoint, retry_for=LIMIT_S) as client:
        client.create_queue("q")
        got: list[penstock.Message | None] = []
        with client.consumer("q") as consumer:
            thread = threading.Thread(target=lambda: got.append(consumer.receive(timeout=LIMIT_S)))
            thread.start()
            own_daemon.kill()
            own_daemon.start()
            with client.producer("q") as producer:
                producer.send(b"x")
            thread.join(LIMIT_S)
            assert got[0] is not None
            got[0].ack()


def test_a_receipt_that_is_waited_for_too_short_may_still_come_true(own_daemon: Any) -> None:
    with penstock.connect(own_daemon.endpoint, retry_for=LIMIT_S) as client:
        client.create_queue("q")
        own_daemon.kill()
        with client.producer("q") as producer:
            receipt = producer.send(b"x")
            began = time.monotonic()
            with pytest.raises(penstock.Timeout):
                receipt.wait(0.05)
            assert time.monotonic() - began < LIMIT_S
            own_daemon.start()
            assert receipt.wait(LIMIT_S) == 0


# -- a session that ends -----------------------------------------------------------------------------------------------


def test_sending_goes_on_in_a_new_session_when_the_old_one_has_ended() -> None:
    with Broker(session_timeout="1m") as broker, broker.connect() as client:
        client.create_queue("q")
        with client.producer("q") as producer:
            producer.send(b"before").wait(LIMIT_S)
            broker.advance("2m")
            assert producer.send(b"after").wait(LIMIT_S) == 1


def test_what_is_in_hand_is_lost_with_the_session() -> None:
    with Broker(session_timeout="1m") as broker, broker.connect() as client:
        client.create_queue("q")
        with client.producer("q") as producer:
            producer.send_many([b"x"] * 2)
        with client.consumer("q", prefetch=0, lease="1h") as consumer:
            (message,) = take(consumer, 1)
            broker.advance("2m")
            client.describe("q")  # meets the new session
            receipt = message.ack()
            with pytest.raises(penstock.LeaseLost):
                receipt.wait(LIMIT_S)
            assert (message.lost, consumer.lost) == (True, 1)
            again = take(consumer, 2)
            assert {each.attempt for each in again} == {1, 2}
            consumer.ack_many(again).wait(LIMIT_S)
            with pytest.raises(penstock.LeaseLost):
                consumer.flush(LIMIT_S)
