"""Jobs, arrays of them and schedules, to await."""

from __future__ import annotations

from .arrays import BaseJobArray, JobArray
from .awaiting import Awaiting, awaited, like
from .jobs import BaseJob, Job
from .schedules import BaseSchedules, Schedules


class AsyncJob(Awaiting, BaseJob):
    """A job of a queue, with the methods of `Job`, awaited. `id` is QUEUE/OFFSET; `info` is what was last seen of it,
    or None."""

    __slots__ = ()

    status = awaited(Job.status)
    wait = awaited(Job.wait)
    result = awaited(Job.result)
    cancel = awaited(Job.cancel)
    describe = awaited(Job.describe)
    explain = awaited(Job.explain)

    @like(Job.retry)
    async def retry(self) -> AsyncJob:
        return await self._run(self._retry())


class AsyncJobArray(Awaiting, BaseJobArray[AsyncJob]):
    """Jobs of one queue, in the order of their submission: a sequence of `AsyncJob`, with the methods of `JobArray`,
    awaited."""

    JOB = AsyncJob

    statuses = awaited(JobArray.statuses)
    wait = awaited(JobArray.wait)
    outcomes = awaited(JobArray.outcomes)
    results = awaited(JobArray.results)
    cancel = awaited(JobArray.cancel)

    @like(JobArray.retry)
    async def retry(self) -> AsyncJobArray:
        return await self._run(self._retry())


class AsyncSchedules(Awaiting, BaseSchedules[AsyncJob]):
    """The schedules of a cluster: what `AsyncClient.schedules` is. Its methods are those of `Schedules`, awaited."""

    JOB = AsyncJob

    add = awaited(Schedules.add)
    list = awaited(Schedules.list)
    get = awaited(Schedules.get)
    remove = awaited(Schedules.remove)
    pause = awaited(Schedules.pause)
    resume = awaited(Schedules.resume)
    run = awaited(Schedules.run, AsyncJob)
