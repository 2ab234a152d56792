"""What a client is, whoever waits: its members, and the steps of the methods that need more than one request."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar, Unpack

from ..peers.errors import InvalidArgument, PenstockError
from ..peers.units import Duration
from . import calls
from .arrays import BaseJobArray
from .channel import Channel, Consistency
from .consumer import BaseConsumer
from .delivery import Delivery
from .events import BaseWatch, Stream
from .ids import Span
from .infos import Staleness
from .jobs import BaseJob
from .message import BaseMessage
from .producer import BaseProducer
from .properties import JobOptions
from .replay import Replay, Start, Stop, pack_start
from .requests import Request
from .schedules import BaseSchedules
from .steps import Steps
from .submit import Gatherer, submit_many

P = TypeVar("P", bound=BaseProducer[Any])
C = TypeVar("C", bound=BaseConsumer[Any, Any])
M = TypeVar("M", bound=BaseMessage)
J = TypeVar("J", bound=BaseJob)
A = TypeVar("A", bound=BaseJobArray[Any])
S = TypeVar("S", bound=BaseSchedules[Any])
W = TypeVar("W", bound=BaseWatch)

Gather = tuple[str | Gatherer, Any]


class BaseClient(Generic[P, C, M, J, A, S, W]):
    """What a client has beside its connection, of the kinds that go with that: those that wait, or those to await."""

    PRODUCER: type[P]
    CONSUMER: type[C]
    JOB: type[J]
    ARRAY: type[A]
    SCHEDULES: type[S]
    WATCH: type[W]

    def __init__(self, connection: Channel) -> None:
        self._connection: Any = connection
        self._schedules = self.SCHEDULES(connection)
        self._members: list[P | C] = []
        self._submitters: dict[str, P] = {}
        self._lock = threading.Lock()

    @property
    def schedules(self) -> S:
        """The schedules: jobs that the daemon makes again and again."""
        return self._schedules

    @property
    def staleness(self) -> Staleness | None:
        """How old the copy was out of which the latest local read was answered. None: there was none yet."""
        staleness: Staleness | None = self._connection.last_staleness
        return staleness

    @property
    def max_message(self) -> int:
        """How many bytes the daemon takes at once: a batch of messages, the arguments of a job, or a result."""
        size: int = self._connection.session.max_message
        return size

    def _name(self) -> str:
        return "the client"

    # -- members ---------------------------------------------------------------------------------------------------

    def _writes(self, what: str) -> None:
        self._connection.check()
        if self._connection.session.read_only:
            raise InvalidArgument(f"this client only reads, {what} needs more", "connect without read_only")

    def _join(self, member: P | C) -> None:
        with self._lock:
            self._members = [each for each in self._members if not each.closed]
            self._members.append(member)

    def _new_producer(self, queue: str, **options: Any) -> P:
        self._writes("a producer")
        producer = self.PRODUCER(self._connection, queue, **options)
        self._join(producer)
        return producer

    def _submitter(self, queue: str) -> P:
        self._connection.check()
        producer = self._submitters.get(queue)
        if producer is None:
            # Two threads may make one each: the second one is kept, and both are closed with the client.
            producer = self._submitters[queue] = self._new_producer(queue)
        return producer

    def _open_consumer(self, queue: str, group: str, start: Start, **options: Any) -> Steps[C]:
        self._writes("a consumer")
        if group:
            yield from calls.create_group(queue, group, pack_start(start), exist_ok=True)
        consumer = self.CONSUMER(self._connection, queue, group=group, **options)
        self._join(consumer)
        return consumer

    def _watch(self, patterns: str | Iterable[str], after: str | None) -> Steps[W]:
        self._writes("a watch")
        stream = Stream(patterns, after)
        yield from stream.begin()
        return self.WATCH(self._connection, stream)

    def _close(self) -> Steps[None]:
        first: PenstockError | None = None
        try:
            for member in self._members:
                try:
                    yield from member._close()
                except PenstockError as fault:
                    first = first or fault
            yield from self._connection.bye()
        finally:
            self._connection.end()  # also if this was interrupted
        self._members.clear()
        if first is not None:
            raise first

    # -- reading ---------------------------------------------------------------------------------------------------

    def _peek(self, name: str, limit: int, group: str) -> Steps[list[M]]:
        answer = yield Request("peek", {"name": name, "group": group, "limit": limit})
        if not answer.data:
            return []
        return Delivery(self._onlooker(name, group), answer.body, answer.data).messages

    def _replay(
        self, topic: str, start: Start, stop: Stop | None, wait: Duration | None, consistency: Consistency
    ) -> Replay:
        replay = Replay(self._onlooker(topic, ""), start, stop, wait)
        if replay.waits and self._connection.reader(consistency).session.read_only:
            raise InvalidArgument("a local replay does not wait", 'leave `wait` out, or consistency="local"')
        return replay

    def _onlooker(self, name: str, group: str) -> C:
        """Whose messages are those that were only looked at: one that can settle nothing."""
        onlooker = self.CONSUMER(self._connection, name, group=group)
        onlooker.retire()
        return onlooker

    # -- jobs ------------------------------------------------------------------------------------------------------

    def _one_job(self, queue: str, offset: int) -> J:
        return self.JOB(self._connection, queue, offset)

    def _array(self, queue: str, spans: Iterable[Span], cursor: int = 0) -> A:
        return self.ARRAY(self._connection, queue, spans, cursor)

    def _jobs(self, queue: str, status: str | None, limit: int, after: int | None) -> Steps[list[J]]:
        jobs = []
        for info in (yield from calls.list_jobs(queue, status, limit, after)):
            job = self._one_job(queue, info.offset)
            job.info = info
            jobs.append(job)
        return jobs

    def _retry_dead(self, queue: str, limit: int | None) -> Steps[A]:
        return self._array(queue, (yield from calls.retry_dead(queue, limit)))

    def _submit(self, queue: str, args: Any, *, task: str | None = None, **options: Unpack[JobOptions]) -> Steps[J]:
        given: dict[str, Any] = dict(options)
        if (id := given.pop("id", None)) is not None:
            given["ids"] = [id]
        job: J = (yield from self._submit_all(queue, [args], task, given))[0]
        return job

    def _submit_many(
        self,
        queue: str,
        many_args: Iterable[Any],
        task: str | None,
        gather: Gather | None,
        options: Mapping[str, Any],
    ) -> Steps[A]:
        if gather is not None and not isinstance(gather[0], str):
            gather[0].check(gather[1])  # before anything is sent
        jobs = yield from self._submit_all(queue, many_args, task, options)
        if gather is not None:
            target, args = gather
            jobs.gather = yield from (
                self._submit(target, args, after=jobs)
                if isinstance(target, str)
                else target.options(after=jobs).submit(_Submitting(self), **args)
            )
        return jobs

    def _submit_all(
        self, queue: str, many_args: Iterable[Any], task: str | None, options: Mapping[str, Any]
    ) -> Steps[A]:
        return self._array(queue, *(yield from submit_many(self._submitter(queue), many_args, task, options)))


class _Submitting:
    """The client that a task of a gathering submits to: it gives the steps."""

    def __init__(self, client: BaseClient[Any, Any, Any, Any, Any, Any, Any]) -> None:
        self.submit = client._submit
