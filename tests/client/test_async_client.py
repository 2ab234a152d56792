"""The client that is awaited, against a real daemon, under asyncio and uvloop."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest

import penstock
from penstock import AsyncClient, AsyncMessage
from penstock.peers import values

from .conftest import START_S, Daemon, FakeDaemon
from .loops import FACTORIES, Run, run_in

LIMIT_S = 20.0
STEPS = 12  # of the loop, after each of which something is cancelled once

Scene = Callable[[AsyncClient, str], Coroutine[Any, Any, None]]
Play = Callable[[Scene], None]

_numbers = count()


@pytest.fixture(params=FACTORIES)
def run(request: pytest.FixtureRequest) -> Run:
    return lambda main: run_in(request.param, main)


@pytest.fixture
def with_client(run: Run, daemon: Daemon) -> Play:
    """Runs a function with a client, and the name of a queue of its own."""

    def with_client(play: Scene) -> None:
        async def main() -> None:
            async with penstock.connect_async(daemon.endpoint, retry_for=START_S) as client:
                name = f"async-{next(_numbers)}"
                await client.create_queue(name)
                await play(client, name)

        run(main())

    return with_client


@asynccontextmanager
async def worker(client: AsyncClient, queue: str) -> AsyncIterator[None]:
    """A task that squares numbers, and fails with what is none."""

    async def work() -> None:
        async with client.consumer(queue, prefetch=0) as consumer:
            async for message in consumer:
                value = values.unpack(message.body)
                if isinstance(value, int):
                    await message.complete(value**2)
                else:
                    await message.reject(error={"type": "TypeError", "message": "no number"})

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def settle_down(ready: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Ask until it is so."""
    async with asyncio.timeout(LIMIT_S):
        while not await ready():
            await asyncio.sleep(0.005)


async def take(consumer: penstock.AsyncConsumer, number: int) -> list[AsyncMessage]:
    messages: list[AsyncMessage] = []
    while len(messages) < number:
        some = await consumer.receive_many(number - len(messages), timeout=LIMIT_S)
        assert some, f"{len(messages)} of {number} came"
        messages += some
    return messages


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


# -- cancelling --------------------------------------------------------------------------------------------------------


async def cancelled_after(steps: int, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Cancel it after so many rounds of the loop. What it returned, if it was faster."""
    task = asyncio.create_task(coroutine)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return None if task.cancelled() else task.result()


@pytest.mark.parametrize("prefetch", [0, 100])
def test_a_cancelled_receive_loses_no_message(with_client: Play, prefetch: int) -> None:
    number = 100

    async def play(client: AsyncClient, queue: str) -> None:
        got: list[AsyncMessage] = []
        async with client.producer(queue) as producer, client.consumer(queue, prefetch=prefetch) as consumer:
            for turn in range(number):
                await producer.send(b"%d" % turn)
                message = await cancelled_after(turn % STEPS, consumer.receive(timeout=LIMIT_S))
                got += [] if message is None else [message]
            got += await take(consumer, number - len(got))
            assert Counter(message.body for message in got) == Counter(b"%d" % turn for turn in range(number))
            assert {message.attempt for message in got} <= {1, 2}
            await (await consumer.ack_many(got))

    with_client(play)


def test_what_a_cancelled_receive_without_prefetch_asked_for_is_called_off(with_client: Play) -> None:
    async def play(client: AsyncClient, queue: str) -> None:
        async def parked() -> bool:
            return (await client.status())["parked"] == 1

        async with client.consumer(queue, prefetch=0) as consumer, client.producer(queue) as producer:
            task = asyncio.create_task(consumer.receive())
            await settle_down(parked)
            task.cancel()
            await asyncio.wait([task])
            await settle_down(lambda: not_(parked()))
            await (await producer.send(b"for the next one"))
            assert (await client.describe(queue)).ready == 1

    with_client(play)


async def not_(so: Coroutine[Any, Any, bool]) -> bool:
    return not await so


def test_what_is_cancelled_at_any_step_leaves_a_client_that_works(with_client: Play) -> None:
    async def play(client: AsyncClient, queue: str) -> None:
        producer, watch = await client.producer(queue), await client.watch("schedule.*")
        for steps in range(STEPS):
            job = await client.submit(queue, steps)
            for ask in (
                client.status,
                lambda: client.submit(queue, "again"),
                lambda: client.submit_many(queue, range(10)),
                lambda job=job: job.wait(),
                lambda: client.call(queue, 1),
                lambda: client.drain(queue),
                lambda: producer.send(b"x"),
                producer.flush,
                watch.receive,
            ):
                await cancelled_after(steps, ask())  # type: ignore[operator]  # coroutines of all sorts
        await client.delete(queue)
        await client.create_queue(queue)
        async with worker(client, queue):
            assert await client.call(queue, 7, timeout=LIMIT_S) == 49

    with_client(play)


def test_waits_that_are_cancelled_free_their_places_at_the_daemon(with_client: Play) -> None:
    async def play(client: AsyncClient, queue: str) -> None:
        job = await client.submit(queue, 3)
        waits = [asyncio.create_task(job.wait()) for _ in range(200)]
        await asyncio.sleep(0)
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)
        async with worker(client, queue):
            assert await job.result(timeout=LIMIT_S) == 9

    with_client(play)


def test_a_cancelled_call_has_its_job_cancelled(with_client: Play) -> None:
    async def play(client: AsyncClient, queue: str) -> None:
        async def ready(number: int) -> bool:
            return (await client.describe(queue)).ready == number

        for keep in (False, True):
            call = asyncio.create_task(client.call(queue, 1, keep=keep))
            await settle_down(lambda: ready(1))
            call.cancel()
            await asyncio.wait([call])
            await settle_down(lambda keep=keep: ready(int(keep)))  # type: ignore[misc]

    with_client(play)


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


# -- the end -----------------------------------------------------------------------------------------------------------


def test_closing_ends_what_waits_and_gives_leases_back(with_client: Play, daemon: Daemon) -> None:
    async def play(client: AsyncClient, queue: str) -> None:
        other = await penstock.connect_async(daemon.endpoint)
        consumer = await other.consumer(queue, prefetch=0)
        async with client.producer(queue) as producer:
            await producer.send_many([b"a", b"b"])
        (message,) = await take(consumer, 1)
        waits = [asyncio.create_task(consumer.receive()) for _ in range(3)]
        watch = asyncio.create_task((await other.watch("schedule.*")).receive())
        await asyncio.sleep(0)
        await other.close()
        await other.close()
        done, pending = await asyncio.wait([*waits, watch])
        assert not pending
        assert {type(task.exception()) for task in done} <= {penstock.Closed, type(None)}
        with pytest.raises(penstock.Closed):
            await message.ack()
        with pytest.raises(penstock.Closed):
            await other.status()
        assert (await client.describe(queue)).ready == 2

    with_client(play)


def test_an_error_in_the_body_is_the_one_that_is_raised(run: Run, daemon: Daemon) -> None:
    async def main() -> None:
        async def refused(error: Exception | None) -> None:
            async with penstock.connect_async(daemon.endpoint, retry_for=START_S) as client:
                producer = await client.producer("nowhere")
                await producer.send(b"x")
                if error is not None:
                    raise error

        with pytest.raises(ValueError, match="mine"):
            await refused(ValueError("mine"))
        with pytest.raises(penstock.NotFound):
            await refused(None)

    run(main())


def test_a_close_that_is_cancelled_disconnects_all_the_same(run: Run, daemon: Daemon) -> None:
    async def main() -> None:
        for steps in range(STEPS):
            client = await penstock.connect_async(daemon.endpoint, retry_for=START_S)
            await client.create_queue("closed", exist_ok=True)
            await (await client.producer("closed")).send(b"x")
            task = asyncio.create_task(client.close())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if steps:
                with pytest.raises(penstock.Closed):
                    await client.status()
            await client.close()

    run(main())


def test_nobody_there_is_told_after_the_time_to_try(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(penstock.Timeout):
            await penstock.connect_async("ipc:///nowhere/at/all", retry_for=0.2)
        with pytest.raises(penstock.InvalidArgument):
            await penstock.connect_async("nonsense")

    run(main())


def test_a_client_belongs_to_its_loop(daemon: Daemon) -> None:
    async def connected() -> AsyncClient:
        return await penstock.connect_async(daemon.endpoint, retry_for=START_S)

    with asyncio.Runner() as runner:
        client = runner.run(connected())
        with asyncio.Runner() as other, pytest.raises(penstock.InvalidArgument, match="loop"):
            other.run(client.status())
        runner.run(client.close())


def test_a_loop_that_is_shut_down_in_the_midst_of_everything_complains_of_nothing(run: Run, daemon: Daemon) -> None:
    async def main() -> None:
        async with penstock.connect_async(daemon.endpoint, retry_for=START_S) as client:
            await client.create_queue("shut-down", exist_ok=True)

            async def idle() -> None:
                async with client.consumer("shut-down") as consumer:
                    async for _ in consumer:
                        raise AssertionError("nothing was sent")

            tasks = [asyncio.create_task(idle()) for _ in range(10)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            assert all(
                isinstance(each, asyncio.CancelledError)
                for each in await asyncio.gather(*tasks, return_exceptions=True)
            )

    run(main())


@pytest.mark.parametrize("loop", FACTORIES)
def test_a_client_that_nobody_closed_is_told_of_and_holds_up_nobody(loop: str, daemon: Daemon) -> None:
    async def main() -> None:
        client = await penstock.connect_async(daemon.endpoint, retry_for=START_S)
        await client.status()

    with asyncio.Runner(loop_factory=FACTORIES[loop]) as runner:
        runner.run(main())
    with pytest.warns(ResourceWarning, match="AsyncClient"):
        gc.collect()


def test_no_thread_is_started(with_client: Play) -> None:
    before = threading.active_count()

    async def play(client: AsyncClient, queue: str) -> None:
        async with client.producer(queue) as producer, client.consumer(queue) as consumer:
            await producer.send(b"x")
            await (await (await take(consumer, 1))[0].ack())
            assert threading.active_count() == before

    with_client(play)
