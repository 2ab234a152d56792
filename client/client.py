"""The client: what an application embeds to speak to Penstock."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, Unpack

from ..peers.errors import Closed, InvalidArgument, PenstockError
from ..peers.units import duration_ms
from . import calls
from .arrays import JobArray
from .batcher import BATCH_BYTES, BATCH_MAX
from .calling import call
from .closing import Closing
from .cluster import ClusterInfo, SnapshotInfo
from .connection import Connection, Consistency, reader
from .consumer import Consumer
from .delivery import Delivery
from .events import Watch
from .ids import parse_array_id, parse_id
from .infos import GroupInfo, QueueInfo, Staleness, TopicInfo
from .jobs import Job, JobOutcome, as_completed, drain
from .message import Message
from .options import AnyOptions, QueueOptions, TopicOptions, pack_options
from .producer import Producer
from .properties import ArrayOptions, JobOptions
from .replay import Replay, Start, Stop, pack_start
from .schedules import Schedules
from .submit import Gatherer, submit_many

T = TypeVar("T")


class Client(Closing):
    """A connection to a cluster, over which its producers and consumers travel. Thread-safe.

    It finds the daemon again when the connection is lost and asks again what was not answered; nothing is done twice.
    It does not survive a fork: connect anew in the child. Use it in a `with`, or close it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._members: list[Producer | Consumer] = []
        self._submitters: dict[str, Producer] = {}
        self._lock = threading.Lock()

    # -- queues and topics -----------------------------------------------------------------------------------------

    def create_queue(self, name: str, *, exist_ok: bool = False, **options: Unpack[QueueOptions]) -> QueueInfo:
        """Make a queue. None means no limit; what is not given is as the daemon has it (max_failures 5, result_ttl and
        unique one day).

        options: max_messages, max_bytes, overflow, max_message, rate, max_leased, ordered_by, max_failures,
        retry_delay, retry_backoff, retry_delay_max, retry_jitter, result_ttl, unique, result_queue (see QueueOptions).
        Raises AlreadyExists (not with `exist_ok`, which leaves an existing queue as it is), InvalidArgument.
        """
        info = self._run(calls.create(name, "queue", pack_options(options), exist_ok))
        assert isinstance(info, QueueInfo), info
        return info

    def create_topic(self, name: str, *, exist_ok: bool = False, **options: Unpack[TopicOptions]) -> TopicInfo:
        """Make a topic. options: retention, retention_bytes, retention_messages, max_failures, retry_delay,
        retry_backoff, retry_delay_max, retry_jitter (see TopicOptions). As `create_queue`."""
        info = self._run(calls.create(name, "topic", pack_options(options), exist_ok))
        assert isinstance(info, TopicInfo), info
        return info

    def configure(self, name: str, **options: Unpack[AnyOptions]) -> QueueInfo | TopicInfo:
        """Change options of a queue or topic (see `create_queue`, `create_topic`); what is not given stays.

        Raises NotFound, InvalidArgument.
        """
        return self._run(calls.change("configure", name, options=pack_options(options)))

    def list_queues(self, *, consistency: Consistency = "primary") -> list[QueueInfo]:
        """All queues, by name. `consistency`: "local" has the nearest node answer, primary or not; see `staleness`."""
        return [info for info in self._run(calls.listing("queue"), consistency) if isinstance(info, QueueInfo)]

    def list_topics(self, *, consistency: Consistency = "primary") -> list[TopicInfo]:
        """All topics, by name. `consistency` as in `list_queues`."""
        return [info for info in self._run(calls.listing("topic"), consistency) if isinstance(info, TopicInfo)]

    def describe(self, name: str, *, consistency: Consistency = "primary") -> QueueInfo | TopicInfo:
        """What there is to know about a queue or topic. `consistency` as in `list_queues`. Raises NotFound."""
        return self._run(calls.describe(name), consistency)

    def delete(self, name: str) -> None:
        """Remove a queue or topic with all its messages. Raises NotFound."""
        self._run(calls.command("delete", name=name))

    def purge(self, name: str) -> int:
        """Remove the messages of a queue that are not leased. Returns how many."""
        return self._run(calls.purge(name))

    def move(self, name: str, target: str, limit: int | None = None) -> int:
        """Move what waits in a queue, the oldest `limit` messages, to the end of another one. Returns how many.

        Raises NotFound, QueueFull, InvalidArgument.
        """
        return self._run(calls.move(name, target, limit))

    def pause(self, name: str) -> QueueInfo | TopicInfo:
        """Have it take messages and give none."""
        return self._run(calls.change("pause", name))

    def resume(self, name: str) -> QueueInfo | TopicInfo:
        """Have it give messages again."""
        return self._run(calls.change("resume", name))

    def peek(
        self, name: str, limit: int = 10, group: str = "", *, consistency: Consistency = "primary"
    ) -> list[Message]:
        """The next messages, without taking them: they cannot be acked. At most 1000. `consistency` as in
        `list_queues`."""
        request = reader(self._connection, consistency).call("peek", {"name": name, "group": group, "limit": limit})
        return [] if not request.data else Delivery(self._onlooker(name, group), request.body, request.data).messages

    def replay(
        self,
        topic: str,
        start: Start = "earliest",
        stop: Stop | None = None,
        *,
        wait: float | str | None = 0,
        consistency: Consistency = "primary",
    ) -> Iterator[Message]:
        """Messages of a topic as they were published, read past all groups: nothing is leased, and nobody acks them.

        `start`, `stop` (not read any more): an offset (an int) or a time (a datetime, local if it has no time zone, or
        seconds since 1970 as a float); `start` also "earliest" or "latest". Without a `stop` it ends where the topic
        ended when it began; with a `wait` when nothing has come for so long (None: never). `consistency` as in
        `list_queues`; a local replay does not wait. A message that went by its retention is passed over. Raises
        NotFound, InvalidArgument.
        """
        replay = Replay(topic, start, stop, wait)
        connection = reader(self._connection, consistency)
        if replay.waits and connection.session.read_only:
            raise InvalidArgument("a local replay does not wait", 'leave `wait` out, or consistency="local"')
        return self._replayed(replay, connection, self._onlooker(topic, ""))

    def _replayed(self, replay: Replay, connection: Connection, onlooker: Consumer) -> Iterator[Message]:
        while not replay.over:
            answer = calls.run(connection, replay.more())
            if answer is not None:
                yield from replay.messages_of(Delivery(onlooker, answer.body, answer.data or b""))

    def _onlooker(self, name: str, group: str) -> Consumer:
        """Whose messages are those that were only looked at: one that can settle nothing."""
        onlooker = Consumer(self._connection, name, group=group)
        onlooker.close()
        return onlooker

    def create_group(self, topic: str, group: str, start: Start = "earliest", *, exist_ok: bool = False) -> GroupInfo:
        """Make a group of a topic. `start`: "earliest" (all messages that are kept), "latest" (only those to come), an
        offset (an int), or a time (a datetime, local if it has no time zone, or seconds since 1970 as a float).

        Raises AlreadyExists (not with `exist_ok`), NotFound, InvalidArgument.
        """
        return self._run(calls.create_group(topic, group, pack_start(start), exist_ok))

    def seek_group(self, topic: str, group: str, start: Start) -> GroupInfo:
        """Have a group read on from `start` (as in `create_group`): to read again, or to pass over what is unread.

        It begins there as a new group would: messages in hand are lost to who has them (LeaseLost), failures are
        forgotten. Raises NotFound, InvalidArgument.
        """
        return self._run(calls.seek_group(topic, group, pack_start(start)))

    def list_groups(self, topic: str, *, consistency: Consistency = "primary") -> list[GroupInfo]:
        """The groups of a topic, by name, each with its counts and its lag. `consistency` as in `list_queues`. Raises
        NotFound."""
        return list(self.describe(topic, consistency=consistency).groups)

    def describe_group(self, topic: str, group: str, *, consistency: Consistency = "primary") -> GroupInfo:
        """One group of a topic. `consistency` as in `list_queues`. Raises NotFound."""
        return self._run(calls.describe_group(topic, group), consistency)

    def delete_group(self, topic: str, group: str) -> None:
        """Remove a group of a topic with its position. Raises NotFound."""
        self._run(calls.command("group_delete", topic=topic, group=group))

    def status(self) -> dict[str, Any]:
        """The state of the daemon: node, role, endpoints, uptime, storage, counters; docs/protocol.md lists the
        keys."""
        return self._run(calls.ask("status"))

    def watch(self, patterns: str | Iterable[str] = "*", after: str | None = "now") -> Watch:
        """What happens from now on, or `after` the cursor of an event (None: everything that the daemon still knows).

        `patterns`: globs of types of events, such as "queue.*" or "job.failed"; docs/protocol.md lists the types.
        Raises InvalidArgument for a pattern that none is like.
        """
        self._writes("a watch")
        return Watch(self._connection, patterns, after)

    @property
    def schedules(self) -> Schedules:
        """The schedules: jobs that the daemon makes again and again."""
        return Schedules(self._connection)

    @property
    def staleness(self) -> Staleness | None:
        """How old the copy was out of which the latest local read was answered. None: there was none yet."""
        return self._connection.last_staleness

    # -- the cluster -----------------------------------------------------------------------------------------------

    def cluster(self) -> ClusterInfo:
        """The cluster as the present node sees it: the primary, or with `read_only` whichever was reached."""
        return self._run(calls.cluster())

    def cluster_add(self, node: int, *, client: str, listen: str, publish: str, public_key: str | None = None) -> None:
        """Have a node join: first as a learner, then, as soon as it has caught up, with a vote.

        `client`: its endpoint for clients; `listen`, `publish`: those for the other nodes; `public_key`: where nodes
        have keys, its own. Raises AlreadyExists, NoQuorum, InvalidArgument.
        """
        args: dict[str, Any] = {"node": node, "client": client, "listen": listen, "publish": publish}
        args |= {} if public_key is None else {"public_key": public_key}
        self._run(calls.command("cluster_add", **args))

    def cluster_remove(self, node: int) -> None:
        """Have a node leave for good: its id is never used again. Raises NotFound, NoQuorum."""
        self._run(calls.command("cluster_remove", node=node))

    def cluster_transfer(self, to: int) -> None:
        """Make the node `to` the primary. Raises NotFound, and NoQuorum if it is not up to date."""
        self._run(calls.ask("cluster_transfer", to=to))

    def snapshot_node(self) -> SnapshotInfo:
        """Have the present node make a checkpoint now and cut its log behind it; returns when that is on its disk.

        Nodes do so by themselves: this is for making room at once, and for a quick start afterwards. Nothing is copied
        to anywhere else. Raises PermissionDenied.
        """
        return self._run(calls.snapshot())

    def crash_node(self) -> None:
        """For drills: have the present node's process end at once, as a power cut would. Raises PermissionDenied."""
        self._connection.check()
        with contextlib.suppress(Closed):  # the node is gone before its answer, as it should be
            self._connection.call("crash", {}, single=True)

    # -- messages --------------------------------------------------------------------------------------------------

    def producer(
        self,
        queue: str,
        *,
        linger: float | str = 0,
        batch_max: int = BATCH_MAX,
        batch_bytes: int | str = BATCH_BYTES,
    ) -> Producer:
        """A producer for a queue or topic. `linger`: how long a batch waits for more when nothing is under way."""
        self._writes("a producer")
        producer = Producer(self._connection, queue, linger=linger, batch_max=batch_max, batch_bytes=batch_bytes)
        self._join(producer)
        return producer

    def consumer(
        self,
        queue: str,
        *,
        group: str = "",
        start: Start = "earliest",
        lease: float | str = "30s",
        prefetch: int = 1000,
        renew: bool = True,
    ) -> Consumer:
        """A consumer of a queue, or of `group` of a topic, which is made if it is not there, from `start` on (as in
        `create_group`).

        `lease`: how long a message is yours; `renew` extends it in the background while the consumer lives.
        `prefetch`: how many messages are leased ahead; 0 leases only what is asked for.
        """
        self._writes("a consumer")
        if group:
            self.create_group(queue, group, start, exist_ok=True)
        consumer = Consumer(self._connection, queue, group=group, lease=lease, prefetch=prefetch, renew=renew)
        self._join(consumer)
        return consumer

    # -- jobs ------------------------------------------------------------------------------------------------------

    def submit(self, queue: str, args: Any, *, task: str | None = None, **options: Unpack[JobOptions]) -> Job:
        """Put work into a queue: durable when this returns. `args`: a msgpack value, numpy arrays included.

        `task` names what shall be done with it, where a queue serves several tasks. options, all optional: priority,
        delay, due, ttl, id, if_exists, key, headers, after, on_failure, time_limit, max_failures, retry_delay,
        retry_backoff, retry_delay_max, retry_jitter (see JobOptions). Raises InvalidArgument, NotFound, QueueFull, and
        AlreadyExists (whose `job` is the other one) if the id is taken.
        """
        given: dict[str, Any] = dict(options)
        if (id := given.pop("id", None)) is not None:
            given["ids"] = [id]
        return submit_many(self._connection, self._submitter(queue), [args], task, given)[0]

    def submit_many(
        self,
        queue: str,
        many_args: Iterable[Any],
        *,
        task: str | None = None,
        gather: tuple[str | Gatherer, Any] | None = None,
        **options: Unpack[ArrayOptions],
    ) -> JobArray:
        """Submit many jobs, in batches of at most 5000 jobs or 4 MiB; each batch is durable as a whole or not at all.

        Returns the jobs in the order of their arguments, durable. options: as `submit` has, for all of them, with
        `ids`, `delays` or `dues`, one for each job, in place of id, delay and due (see ArrayOptions). `gather`: a queue
        (or a task) and arguments: one job more, which runs when all the others are done, and is cancelled if one of
        them is not; it is given their ids (`current_job().parents`), and is the `gather` of what comes back. Raises as
        `submit`; then some batches may be durable.
        """
        if gather is not None and not isinstance(gather[0], str):
            gather[0].check(gather[1])  # before anything is sent
        jobs = submit_many(self._connection, self._submitter(queue), many_args, task, options)
        if gather is not None:
            target, args = gather
            jobs.gather = (
                self.submit(target, args, after=jobs)
                if isinstance(target, str)
                else target.options(after=jobs).submit(self, **args)
            )
        return jobs

    def call(
        self,
        queue: str,
        args: Any,
        *,
        task: str | None = None,
        timeout: float | str | None = None,
        keep: bool = False,
        **options: Unpack[JobOptions],
    ) -> Any:
        """Have work done and return its result: `submit`, wait and forget, with one round trip to the daemon.

        `timeout` in seconds or as text; None waits for ever. The job is cancelled when it is over, unless `keep`.
        options: as `submit` has, without if_exists. Raises JobFailed (with traceback and rank), JobCancelled, Timeout,
        and what `submit` raises.
        """
        return self._run(call(queue, args, task, timeout, keep, options))

    def job(self, job_id: str) -> Job:
        """The job of this id ("forecast/42"); nothing is asked yet. Raises InvalidArgument."""
        return Job(self._connection, *parse_id(job_id))

    def job_array(self, array_id: str) -> JobArray:
        """The jobs of this id ("forecast/0-499"); nothing is asked yet. Raises InvalidArgument."""
        return JobArray(self._connection, *parse_array_id(array_id))

    def jobs(
        self,
        queue: str,
        status: str | None = None,
        limit: int = 100,
        after: int | None = None,
        *,
        consistency: Consistency = "primary",
    ) -> list[Job]:
        """Jobs of a queue in order, each with its `info`. `status`: only those; `after`: only those behind this
        offset. `consistency` as in `list_queues`."""
        jobs: list[Job] = []
        for info in self._run(calls.list_jobs(queue, status, limit, after), consistency):
            job = Job(self._connection, queue, info.offset)
            job.info = info
            jobs.append(job)
        return jobs

    def retry_dead(self, queue: str, limit: int | None = None) -> JobArray:
        """Submit the dead jobs of a queue again, the oldest `limit` of them: the new jobs. Raises NotFound,
        QueueFull."""
        return JobArray(self._connection, queue, self._run(calls.retry_dead(queue, limit)))

    def as_completed(self, jobs: Iterable[Job], timeout: float | str | None = None) -> Iterator[Job]:
        """The jobs, each as soon as it has ended; their `result` then answers at once. `timeout` in seconds or as text.

        Raises Timeout, and NotFound for a job that never existed.
        """
        timeout_s = None if timeout is None else duration_ms(timeout, "timeout") / 1000
        return as_completed(self._connection, jobs, timeout_s)

    def drain(self, queue: str, timeout: float | str | None = None) -> list[JobOutcome]:
        """Wait until the queue is empty and nothing runs, then every outcome that is kept, failures included, by
        offset.

        Somebody else must do the work: a pool, or consumers. `timeout` in seconds or as text. Raises Timeout, NotFound.
        """
        return drain(self._connection, queue, None if timeout is None else duration_ms(timeout, "timeout") / 1000)

    # -- the end ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Flush and close all producers and consumers, end the session (leases in hand return), disconnect.

        Raises the first error of a flush, after everything is closed. Twice does nothing.
        """
        first: PenstockError | None = None
        for member in self._members:
            try:
                member.close()
            except PenstockError as fault:
                first = first or fault
        self._members.clear()
        self._connection.close()
        if first is not None:
            raise first

    def _name(self) -> str:
        return "the client"

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _run(self, steps: calls.Steps[T], consistency: Consistency = "primary") -> T:
        return calls.run(reader(self._connection, consistency), steps)

    def _writes(self, what: str) -> None:
        self._connection.check()
        if self._connection.session.read_only:
            raise InvalidArgument(f"this client only reads, {what} needs more", "connect without read_only")

    def _join(self, member: Producer | Consumer) -> None:
        with self._lock:
            self._members = [each for each in self._members if not each.closed]
            self._members.append(member)

    def _submitter(self, queue: str) -> Producer:
        producer = self._submitters.get(queue)
        if producer is None:
            # Two threads may make one each: the second one is kept, and both are closed with the client.
            producer = self._submitters[queue] = self.producer(queue)
        return producer
