"""The client for an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from ..peers.units import Duration
from .async_jobs import AsyncJob, AsyncJobArray, AsyncSchedules
from .async_messages import AsyncConsumer, AsyncMessage, AsyncProducer, AsyncWatch
from .awaiting import AsyncClosing, Awaiting, awaited, like, opened
from .base import BaseClient
from .channel import Consistency
from .client import Client
from .ids import parse_array_id, parse_id
from .outcomes import Completions
from .replay import Replay, Start, Stop


class AsyncClient(
    Awaiting,
    BaseClient[AsyncProducer, AsyncConsumer, AsyncMessage, AsyncJob, AsyncJobArray, AsyncSchedules, AsyncWatch],
    AsyncClosing,
):
    """A connection to a cluster, for any number of tasks of one event loop (asyncio's or uvloop's), with the methods of
    `Client`, awaited.

    It finds the daemon again when the connection is lost and asks again what was not answered; nothing is done twice.
    What is cancelled while it waits leaves the client whole; what it asked for may have been done. Use it in an
    `async with`, or close it.
    """

    PRODUCER, CONSUMER, JOB, ARRAY = AsyncProducer, AsyncConsumer, AsyncJob, AsyncJobArray
    SCHEDULES, WATCH = AsyncSchedules, AsyncWatch

    # -- queues and topics -----------------------------------------------------------------------------------------

    create_queue = awaited(Client.create_queue)
    create_topic = awaited(Client.create_topic)
    configure = awaited(Client.configure)
    list_queues = awaited(Client.list_queues)
    list_topics = awaited(Client.list_topics)
    describe = awaited(Client.describe)
    delete = awaited(Client.delete)
    purge = awaited(Client.purge)
    move = awaited(Client.move)
    pause = awaited(Client.pause)
    resume = awaited(Client.resume)
    peek = awaited(Client.peek, list[AsyncMessage])

    @like(Client.replay)
    def replay(
        self,
        topic: str,
        start: Start = "earliest",
        stop: Stop | None = None,
        *,
        wait: Duration | None = 0,
        consistency: Consistency = "primary",
    ) -> AsyncIterator[AsyncMessage]:
        return self._replayed(self._replay(topic, start, stop, wait, consistency), consistency)

    async def _replayed(self, replay: Replay, consistency: Consistency) -> AsyncIterator[AsyncMessage]:
        while not replay.over:
            for message in await self._run(replay.more(), consistency):
                yield message

    create_group = awaited(Client.create_group)
    seek_group = awaited(Client.seek_group)
    retry_group = awaited(Client.retry_group)
    list_groups = awaited(Client.list_groups)
    describe_group = awaited(Client.describe_group)
    delete_group = awaited(Client.delete_group)
    status = awaited(Client.status)
    watch = opened(Client.watch, AsyncWatch)

    # -- the cluster -----------------------------------------------------------------------------------------------

    cluster = awaited(Client.cluster)
    cluster_add = awaited(Client.cluster_add)
    cluster_remove = awaited(Client.cluster_remove)
    cluster_transfer = awaited(Client.cluster_transfer)
    snapshot_node = awaited(Client.snapshot_node)
    crash_node = awaited(Client.crash_node)

    # -- messages and jobs -----------------------------------------------------------------------------------------

    producer = opened(Client.producer, AsyncProducer)
    consumer = opened(Client.consumer, AsyncConsumer)
    submit = awaited(Client.submit, AsyncJob)
    submit_many = awaited(Client.submit_many, AsyncJobArray)
    call = awaited(Client.call)
    jobs = awaited(Client.jobs, list[AsyncJob])
    retry_dead = awaited(Client.retry_dead, AsyncJobArray)
    drain = awaited(Client.drain)
    close = awaited(Client.close)

    @like(Client.job)
    def job(self, job_id: str) -> AsyncJob:
        return self._one_job(*parse_id(job_id))

    @like(Client.job_array)
    def job_array(self, array_id: str) -> AsyncJobArray:
        return self._array(*parse_array_id(array_id))

    @like(Client.as_completed)
    def as_completed(self, jobs: Iterable[AsyncJob], timeout: Duration | None = None) -> AsyncIterator[AsyncJob]:
        return self._completed(jobs, timeout)

    async def _completed(self, jobs: Iterable[AsyncJob], timeout: Duration | None) -> AsyncIterator[AsyncJob]:
        if isinstance(jobs, AsyncJobArray):
            await self._run(jobs._known())
        completions = Completions(jobs, timeout)
        while not completions.over:
            for job in await self._run(completions.more()):
                yield job
