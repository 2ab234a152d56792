"""The client that is awaited while daemons are killed: it finds the next one, and nothing is lost or done twice."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.cluster import Cluster

import penstock

from .conftest import START_S, Daemon
from .loops import FACTORIES, run_in

LIMIT_S = 30.0


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Three nodes."""
    folder = Path(tempfile.mkdtemp(prefix="pa"))
    with Cluster(folder) as cluster:
        cluster.whole()
        yield cluster
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("loop", FACTORIES)
def test_what_is_under_way_survives_a_daemon_that_is_killed(loop: str, own_daemon: Daemon) -> None:
    async def main() -> None:
        async with penstock.connect_async(own_daemon.endpoint, retry_for=START_S) as client:
            await client.create_queue("work")
            async with client.consumer("work") as consumer, client.producer("work") as producer:
                waiting = asyncio.create_task(consumer.receive(timeout=LIMIT_S))
                own_daemon.kill()
                receipts = [await producer.send(b"%d" % number) for number in range(100)]
                own_daemon.start()
                assert [await receipt for receipt in receipts] == list(range(100))
                got = [await waiting]
                while len(got) < 100:
                    got += await consumer.receive_many(100, timeout=LIMIT_S)
                messages = [message for message in got if message is not None]
                assert Counter(message.offset for message in messages) == Counter(range(100))
                await (await consumer.ack_many(messages))
            info = await client.describe("work")
            assert (info.ready, info.leased, info.done) == (0, 0, 100)

    run_in(loop, main())


def test_a_primary_that_is_killed_is_followed_and_nothing_is_lost(cluster: Cluster) -> None:
    sent = 600

    async def main() -> None:
        async with penstock.connect_async(cluster.endpoint, retry_for=START_S) as client:
            await client.create_queue("work")
            seen: Counter[bytes] = Counter()

            async def send() -> None:
                async with client.producer("work") as producer:
                    for number in range(sent):
                        await (await producer.send(b"%d" % number))
                        if number == sent // 3:
                            cluster.kill(cluster.primary())

            async def receive() -> None:
                async with client.consumer("work", prefetch=20) as consumer:
                    while len(seen) < sent:
                        for message in await consumer.receive_many(20, timeout=1.0):
                            seen[message.body] += 1
                            await message.ack()
                    await consumer.flush()

            await asyncio.gather(send(), *(receive() for _ in range(3)))
            assert set(seen) == {b"%d" % number for number in range(sent)}
            info = await client.describe("work")
            assert (info.ready, info.leased, info.done) == (0, 0, sent)

    run_in("asyncio", main())
