"""What is awaited may be cancelled at any step, and closed in the midst of things."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest

import penstock
from penstock import AsyncClient, AsyncMessage

from .conftest import START_S, Daemon
from .loops import FACTORIES, LIMIT_S, Play, Run, settle_down, take, worker

STEPS = 12  # of the loop, after each of which something is cancelled once


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
            assert {message.failures for message in got} == {0}
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
