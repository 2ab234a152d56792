"""The client that is awaited, against a real daemon, under asyncio and uvloop."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pytest

import penstock
from penstock import AsyncClient

from .conftest import FakeDaemon
from .loops import LIMIT_S, Play, Run, take, worker

# -- messages ----------------------------------------------------------------------------------------------------------


def test_messages_are_sent_received_and_acked(with_client: Play) -> None:
    async def play(client: AsyncClient, queue: str) -> None:
        async with client.producer(queue) as producer:
            receipt = await producer.send(b"first", headers={"k": 1}, key="a")
            assert await receipt == 0
            many = await producer.send_many([b"second", b"third"])
            assert (await many.wait(timeout=LIMIT_S), many.done(), many.offset) == (1, True, 1)
            assert await producer.can_send()
        async with client.consumer(queue) as consumer:
            message = await consumer.receive(timeout=LIMIT_S)
            assert message is not None
            assert (message.body, message.headers, message.key, message.offset) == (b"first", {"k": 1}, "a", 0)
            await (await message.ack())
            messages = await take(consumer, 2)
            assert [each.body for each in messages] == [b"second", b"third"]
            await (await consumer.ack_many(messages)).wait(LIMIT_S)
            assert await consumer.receive(timeout=0) is None
            assert await consumer.size() == 0
        info = await client.describe(queue)
        assert (info.ready, info.leased, info.done) == (0, 0, 3)

    with_client(play)


def test_what_leaves_in_many_batches_arrives_in_order(with_client: Play) -> None:
    async def play(client: AsyncClient, queue: str) -> None:
        async with client.producer(queue, batch_max=10) as producer:
            for number in range(1_000):
                await producer.send(b"%d" % number)
        async with client.consumer(queue) as consumer:
            messages = await take(consumer, 1_000)
            assert [int(each.body) for each in messages] == list(range(1_000))
            await consumer.ack_many(messages)
            await consumer.flush()

    with_client(play)


def test_a_refusal_that_no_receipt_told_is_raised_by_flush(with_client: Play) -> None:
    async def play(client: AsyncClient, queue: str) -> None:
        await client.configure(queue, max_messages=1)
        producer = await client.producer(queue)
        await (await producer.send(b"fits"))
        receipt = await producer.send(b"does not fit")
        with pytest.raises(penstock.QueueFull):
            await receipt
        await producer.send(b"neither")
        with pytest.raises(penstock.QueueFull, match="1"):
            await producer.flush(timeout=LIMIT_S)
        await producer.close()
        with pytest.raises(penstock.Closed):
            await producer.send(b"late")

    with_client(play)


def test_leases_are_renewed_while_the_loop_does_other_things(with_client: Play) -> None:
    async def play(client: AsyncClient, queue: str) -> None:
        async with client.producer(queue) as producer:
            await producer.send(b"x")
        async with client.consumer(queue, lease="300ms") as consumer, client.consumer(queue) as other:
            (message,) = await take(consumer, 1)
            assert await other.receive(timeout=1.0) is None
            await (await message.ack())

    with_client(play)


def test_a_lost_lease_is_raised_by_the_receipt(with_client: Play) -> None:
    async def play(client: AsyncClient, queue: str) -> None:
        async with client.producer(queue) as producer:
            await producer.send(b"x")
        async with client.consumer(queue, lease="50ms", renew=False, prefetch=0) as consumer:
            (message,) = await take(consumer, 1)
            async with client.consumer(queue) as other:
                (again,) = await take(other, 1)
                with pytest.raises(penstock.LeaseLost):
                    await (await message.ack())
                await again.ack()

    with_client(play)


def test_a_consumer_is_stopped_from_a_thread_and_from_a_task(with_client: Play) -> None:
    async def play(client: AsyncClient, queue: str) -> None:
        for by_thread in (True, False):
            consumer = await client.consumer(queue)
            asyncio.get_running_loop().call_soon(
                threading.Thread(target=consumer.stop).start if by_thread else consumer.stop
            )
            assert [message async for message in consumer] == []
            await consumer.close()

    with_client(play)


# -- many tasks --------------------------------------------------------------------------------------------------------


def test_many_tasks_share_a_client(with_client: Play) -> None:
    tasks, each = 50, 20

    async def play(client: AsyncClient, queue: str) -> None:
        seen: Counter[bytes] = Counter()

        async def send(number: int) -> None:
            for turn in range(each):
                await (await producer.send(b"%d %d" % (number, turn)))

        async def receive() -> None:
            while sum(seen.values()) < tasks * each:
                if (message := await consumer.receive(timeout=0.2)) is not None:
                    seen[message.body] += 1
                    await message.ack()

        async with client.producer(queue) as producer, client.consumer(queue, prefetch=50) as consumer:
            await asyncio.gather(*(send(number) for number in range(tasks)), *(receive() for _ in range(tasks)))
        assert seen == Counter({b"%d %d" % (number, turn): 1 for number in range(tasks) for turn in range(each)})

    with_client(play)


def test_answers_find_the_tasks_that_asked(run: Run, fake: FakeDaemon) -> None:
    fake.handle = lambda request: ("ok", dict(request.args), None)

    async def main() -> None:
        async with penstock.connect_async(fake.endpoint) as client:

            async def ask(number: int) -> bool:
                answer = await client._connection.run(penstock.client.calls.ask("status", number=number))
                return bool(answer == {"number": number})

            assert all(await asyncio.gather(*map(ask, range(500))))

    run(main())


# -- jobs, topics, the rest --------------------------------------------------------------------------------------------


def test_jobs_are_submitted_called_and_gathered(with_client: Play) -> None:
    async def play(client: AsyncClient, queue: str) -> None:
        gathered = f"{queue}-sum"
        await client.create_queue(gathered)
        async with worker(client, queue), worker(client, gathered):
            job = await client.submit(queue, 3, id="three")
            assert (await job.result(timeout=LIMIT_S), await job.status()) == (9, "done")
            with pytest.raises(penstock.AlreadyExists):
                await client.submit(queue, 3, id="three")
            bad = await client.submit(queue, "text")
            with pytest.raises(penstock.JobFailed, match="no number"):
                await bad.result(timeout=LIMIT_S)
            again = await bad.retry()
            assert isinstance(again, penstock.AsyncJob)
            assert await again.wait(LIMIT_S) == "dead"
            jobs = await client.submit_many(queue, range(100), gather=(gathered, 5))
            assert await jobs.results(timeout=LIMIT_S) == [number**2 for number in range(100)]
            assert jobs.gather is not None
            assert await jobs.gather.result(timeout=LIMIT_S) == 25
            ended = [each.offset async for each in client.as_completed(jobs, timeout=LIMIT_S)]
            assert sorted(ended) == [each.offset for each in jobs]
            assert await asyncio.gather(*(client.call(queue, number, timeout=LIMIT_S) for number in range(20))) == [
                number**2 for number in range(20)
            ]
            assert len(await client.drain(queue, timeout=LIMIT_S)) >= 100
            assert await client.job(job.id).result() == 9
            assert await client.job_array(jobs.id).wait(LIMIT_S) == {"done": 100}
            assert {each.id for each in await client.jobs(queue, status="dead")} == {bad.id, again.id}

    with_client(play)


@penstock.task(queue="async-task")
def square(x: int) -> int:
    return x * x


def test_a_task_is_submitted_to_a_client_that_is_awaited(with_client: Play) -> None:
    async def play(client: AsyncClient, queue: str) -> None:
        await client.create_queue("async-task", exist_ok=True)
        job = await square.submit(client, x=3)
        assert (isinstance(job, penstock.AsyncJob), job.queue) == (True, "async-task")
        jobs = await square.submit_many(client, [{"x": 1}, {"x": 2}], gather=(square, {"x": 3}))
        assert (len(jobs), jobs.gather is not None) == (2, True)
        with pytest.raises(penstock.InvalidArgument, match="y"):
            await square.submit(client, y=3)
        await client.delete("async-task")

    with_client(play)


def test_topics_are_read_by_groups_and_replayed(with_client: Play) -> None:
    async def play(client: AsyncClient, queue: str) -> None:
        topic = f"{queue}-topic"
        await client.create_topic(topic)
        async with client.producer(topic) as producer:
            await producer.send_many([b"%d" % number for number in range(10)])
        async with client.consumer(topic, group="desk", start=5) as consumer:
            messages = await take(consumer, 5)
            assert [message.body for message in messages] == [b"5", b"6", b"7", b"8", b"9"]
            await consumer.ack_many(messages)
        assert [message.body async for message in client.replay(topic, start=7)] == [b"7", b"8", b"9"]
        assert [group.name for group in await client.list_groups(topic)] == ["desk"]
        peeked = await client.peek(queue)
        assert peeked == []

    with_client(play)


def test_events_are_watched_from_now_on(with_client: Play) -> None:
    async def play(client: AsyncClient, queue: str) -> None:
        async with asyncio.timeout(LIMIT_S):
            watch = await client.watch("queue.*")
            await client.pause(queue)
            await client.resume(queue)
            found = []
            async for event in watch:
                found.append(event.type)
                if event.queue == queue and event.type == "queue.resumed":
                    watch.stop()
            assert found[-2:] == ["queue.paused", "queue.resumed"]
            async for event in client.watch("queue.*", after=None):  # without a wait for its opening
                assert event.type.startswith("queue.")
                break

    with_client(play)


def test_a_watch_ends_with_its_async_with(with_client: Play) -> None:
    async def play(client: AsyncClient, queue: str) -> None:
        async with client.watch("queue.*") as watch:
            await client.pause(queue)
            event = await watch.receive(timeout=LIMIT_S)
            assert event is not None
            assert event.type == "queue.paused"
        assert await watch.receive() is None

    with_client(play)


def test_schedules_are_added_run_and_removed(with_client: Play) -> None:
    async def play(client: AsyncClient, queue: str) -> None:
        info = await client.schedules.add(f"{queue}-nightly", queue, 1, cron="0 2 * * *")
        job = await client.schedules.run(info.name)
        assert (job.queue, await job.status()) == (queue, "queued")
        await client.schedules.remove(info.name)
        with pytest.raises(penstock.NotFound):
            await client.schedules.get(info.name)

    with_client(play)


def test_a_local_read_tells_how_old_it_is(with_client: Play) -> None:
    async def play(client: AsyncClient, queue: str) -> None:
        assert queue in [info.name for info in await client.list_queues(consistency="local")]
        assert client.staleness is not None

    with_client(play)
