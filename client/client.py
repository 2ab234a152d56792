"""The client: what an application embeds to speak to Penstock."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from ..peers import values, wire
from ..peers.errors import AlreadyExists, Closed, InvalidArgument, NotFound, PenstockError
from ..peers.units import duration_ms
from .batcher import BATCH_BYTES, BATCH_MAX
from .cluster import ClusterInfo
from .connection import Connection, Consistency, reader
from .consumer import Consumer
from .delivery import Delivery
from .headers import TASK, Header
from .infos import GroupInfo, Info, JobInfo, QueueInfo, Staleness, TopicInfo, info_from_body
from .jobs import Job, JobOutcome, as_completed, drain, parse_id
from .message import Message
from .options import KEEP, Keep, pack_options
from .producer import Producer

SUBMIT_BYTES = 4 * 2**20  # of arguments in one batch of `submit_many`
SUBMIT_MAX = 5_000
JOBS_MAX = 1_000  # in one answer

log = logging.getLogger("penstock")


def connect(
    endpoint: str | Sequence[str] = "tcp://127.0.0.1:7470",
    user: str | None = None,
    password: str | None = None,
    *,
    retry_for: float | str = "25s",
    read_only: bool = False,
    name: str = "penstock-python",
) -> Client:
    """A client, connected. `endpoint`: one address of a node, or those of several ("tcp://host:port", "ipc:///path").

    `retry_for` (seconds or text): how long each request looks for a daemon that can serve it, with rising pauses,
    before it fails with Timeout, or NoQuorum where nodes answer but none is the primary. `read_only`: any node will do,
    and answers reads from its own copy, which may be old (`Client.staleness`); everything else is refused. `name` tells
    people at the daemon who you are. Raises Timeout if nobody answers, NoQuorum, Unauthenticated, InvalidArgument.
    """
    endpoints = [endpoint] if isinstance(endpoint, str) else list(endpoint)
    if not endpoints or not all(isinstance(each, str) and "://" in each for each in endpoints):
        raise InvalidArgument(f"endpoint is {endpoint!r}", 'give one such as "tcp://127.0.0.1:7470", or a list of them')
    hello: dict[str, Any] = {"version": wire.VERSION, "client": name}
    if user is not None:
        hello["user"], hello["password"] = user, password
    if read_only:
        hello["read_only"] = True
    connection = Connection(endpoints, hello, duration_ms(retry_for, "retry_for"))
    try:
        connection.call("ping", {})
    except BaseException:
        connection.close()
        raise
    return Client(connection)


class Client:
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

    def create_queue(
        self,
        name: str,
        *,
        max_messages: int | Keep | None = KEEP,
        max_bytes: int | str | Keep | None = KEEP,
        max_failures: int | Keep | None = KEEP,
        retry_delay: float | str | Keep = KEEP,
        result_ttl: float | str | Keep = KEEP,
        exist_ok: bool = False,
    ) -> QueueInfo:
        """Make a queue. None means no limit; what is not given is as the daemon has it (max_failures 5, result_ttl one
        day).

        `retry_delay`: the pause before a failed message is given again. Raises AlreadyExists (not with `exist_ok`,
        which leaves an existing queue as it is), InvalidArgument.
        """
        options = pack_options(max_messages, max_bytes, max_failures, retry_delay, result_ttl)
        info = self._create(name, "queue", options, exist_ok)
        assert isinstance(info, QueueInfo), info
        return info

    def create_topic(
        self,
        name: str,
        *,
        retention: float | str | Keep | None = KEEP,
        max_messages: int | Keep | None = KEEP,
        max_bytes: int | str | Keep | None = KEEP,
        max_failures: int | Keep | None = KEEP,
        retry_delay: float | str | Keep = KEEP,
        exist_ok: bool = False,
    ) -> TopicInfo:
        """Make a topic. `retention`: messages older than this go; None keeps them. As `create_queue`."""
        options = pack_options(max_messages, max_bytes, max_failures, retry_delay, retention=retention)
        info = self._create(name, "topic", options, exist_ok)
        assert isinstance(info, TopicInfo), info
        return info

    def configure(
        self,
        name: str,
        *,
        max_messages: int | Keep | None = KEEP,
        max_bytes: int | str | Keep | None = KEEP,
        max_failures: int | Keep | None = KEEP,
        retry_delay: float | str | Keep = KEEP,
        result_ttl: float | str | Keep = KEEP,
        retention: float | str | Keep | None = KEEP,
    ) -> QueueInfo | TopicInfo:
        """Change options of a queue or topic; what is not given stays. Raises NotFound, InvalidArgument."""
        options = pack_options(max_messages, max_bytes, max_failures, retry_delay, result_ttl, retention)
        return info_from_body(self._command("configure", name=name, options=options))

    def list_queues(self, *, consistency: Consistency = "primary") -> list[QueueInfo]:
        """All queues, by name. `consistency`: "local" has the nearest node answer, primary or not; see `staleness`."""
        return [info for info in self._list("queue", consistency) if isinstance(info, QueueInfo)]

    def list_topics(self, *, consistency: Consistency = "primary") -> list[TopicInfo]:
        """All topics, by name. `consistency` as in `list_queues`."""
        return [info for info in self._list("topic", consistency) if isinstance(info, TopicInfo)]

    def describe(self, name: str, *, consistency: Consistency = "primary") -> QueueInfo | TopicInfo:
        """What there is to know about a queue or topic. `consistency` as in `list_queues`. Raises NotFound."""
        return info_from_body(reader(self._connection, consistency).call("describe", {"name": name}).body)

    def delete(self, name: str) -> None:
        """Remove a queue or topic with all its messages. Raises NotFound."""
        self._command("delete", name=name)

    def purge(self, name: str) -> int:
        """Remove the messages of a queue that are not leased. Returns how many."""
        return int(self._command("purge", name=name)["purged"])

    def pause(self, name: str) -> QueueInfo | TopicInfo:
        """Have it take messages and give none."""
        return info_from_body(self._command("pause", name=name))

    def resume(self, name: str) -> QueueInfo | TopicInfo:
        """Have it give messages again."""
        return info_from_body(self._command("resume", name=name))

    def peek(
        self, name: str, limit: int = 10, group: str = "", *, consistency: Consistency = "primary"
    ) -> list[Message]:
        """The next messages, without taking them: they cannot be acked. At most 1000. `consistency` as in
        `list_queues`."""
        request = reader(self._connection, consistency).call("peek", {"name": name, "group": group, "limit": limit})
        if not request.data:
            return []
        onlooker = Consumer(self._connection, name, group=group)
        onlooker.close()
        return Delivery(onlooker, request.body, request.data).messages

    def create_group(self, topic: str, group: str, start: str = "earliest", *, exist_ok: bool = False) -> GroupInfo:
        """Make a group of a topic. `start`: "earliest" (all messages that are kept) or "latest" (only those to come).

        Raises AlreadyExists (not with `exist_ok`), NotFound.
        """
        try:
            return GroupInfo.from_body(self._command("group_create", topic=topic, group=group, start=start))
        except AlreadyExists:
            if not exist_ok:
                raise
        for info in self.list_groups(topic):
            if info.name == group:
                return info
        raise NotFound(f"group {group!r} of {topic!r} was deleted meanwhile")

    def list_groups(self, topic: str) -> list[GroupInfo]:
        """The groups of a topic. Raises NotFound."""
        return list(self.describe(topic).groups)

    def delete_group(self, topic: str, group: str) -> None:
        """Remove a group of a topic with its position. Raises NotFound."""
        self._command("group_delete", topic=topic, group=group)

    def status(self) -> dict[str, Any]:
        """The state of the daemon: node, role, endpoints, uptime, storage, counters; docs/protocol.md lists the
        keys."""
        return self._connection.call("status", {}).body

    @property
    def staleness(self) -> Staleness | None:
        """How old the copy was out of which the latest local read was answered. None: there was none yet."""
        return self._connection.last_staleness

    # -- the cluster -----------------------------------------------------------------------------------------------

    def cluster(self) -> ClusterInfo:
        """The cluster as the present node sees it: the primary, or with `read_only` whichever was reached."""
        return ClusterInfo.from_body(self._connection.call("cluster", {}).body)

    def cluster_add(self, node: int, *, client: str, listen: str, publish: str) -> None:
        """Have a node join: first as a learner, then, as soon as it has caught up, with a vote.

        `client`: its endpoint for clients; `listen`, `publish`: those for the other nodes. Raises AlreadyExists,
        NoQuorum, InvalidArgument.
        """
        self._command("cluster_add", node=node, client=client, listen=listen, publish=publish)

    def cluster_remove(self, node: int) -> None:
        """Have a node leave for good: its id is never used again. Raises NotFound, NoQuorum."""
        self._command("cluster_remove", node=node)

    def cluster_transfer(self, to: int) -> None:
        """Make the node `to` the primary. Raises NotFound, and NoQuorum if it is not up to date."""
        self._connection.call("cluster_transfer", {"to": to})

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
        start: str = "earliest",
        lease: float | str = "30s",
        prefetch: int = 1000,
        renew: bool = True,
    ) -> Consumer:
        """A consumer of a queue, or of `group` of a topic, which is made if it is not there, from `start` on.

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

    def submit(self, queue: str, args: Any, *, task: str | None = None) -> Job:
        """Put work into a queue: durable when this returns. `args`: a msgpack value, numpy arrays included.

        `task` names what shall be done with it, where a queue serves several tasks. Raises InvalidArgument, NotFound,
        QueueFull.
        """
        return self.submit_many(queue, [args], task=task)[0]

    def submit_many(self, queue: str, many_args: Iterable[Any], *, task: str | None = None) -> list[Job]:
        """Submit many jobs, in batches of at most 5000 jobs or 4 MiB; each batch is durable as a whole or not at all.

        Returns the jobs in the order of their arguments, durable. Raises as `submit`; then some batches may be durable.
        """
        producer = self._submitter(queue)
        packed = [values.pack(args) for args in many_args]
        header = None if task is None else {TASK: task}
        receipts = []
        for batch in _batches(packed, min(SUBMIT_MAX, self._connection.session.max_batch)):
            headers: list[Header] | None = None if header is None else [header] * len(batch)
            receipts.append((producer.send_packed(batch, headers), len(batch)))
        jobs: list[Job] = []
        refusal: PenstockError | None = None
        for receipt, count in receipts:
            try:
                first = receipt.wait()
                jobs += [Job(self._connection, queue, first + i, receipt.log_index) for i in range(count)]
            except PenstockError as fault:
                refusal = refusal or fault
        if refusal is not None:
            raise refusal
        return jobs

    def job(self, job_id: str) -> Job:
        """The job of this id ("forecast/42"); nothing is asked yet. Raises InvalidArgument."""
        return Job(self._connection, *parse_id(job_id))

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
        found: list[Job] = []
        more = True
        while more and len(found) < limit:
            args: dict[str, Any] = {"queue": queue, "limit": min(JOBS_MAX, limit - len(found))}
            args |= {} if status is None else {"status": status}
            args |= {} if after is None else {"after": after}
            body = reader(self._connection, consistency).call("jobs", args).body
            for each in body["jobs"]:
                job = Job(self._connection, queue, each["offset"])
                job.info = JobInfo.from_body(each)
                found.append(job)
            more, after = bool(body["more"]), int(body["next"])
        return found

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

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except PenstockError as fault:
            if error is None:
                raise
            # The error under way is the better story; this one must not hide it.
            log.warning("closing the client: %s", fault)

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _command(self, op: str, **args: Any) -> dict[str, Any]:
        return self._connection.call(op, args, counted=True).body

    def _create(self, name: str, kind: str, options: Mapping[str, Any], exist_ok: bool) -> QueueInfo | TopicInfo:
        try:
            return info_from_body(self._command("create", name=name, kind=kind, options=options))
        except AlreadyExists:
            if not exist_ok:
                raise
        info = self.describe(name)
        if info.kind != kind:
            raise AlreadyExists(f"{name!r} is a {info.kind}", "take another name")
        return info

    def _writes(self, what: str) -> None:
        self._connection.check()
        if self._connection.session.read_only:
            raise InvalidArgument(f"this client only reads, {what} needs more", "connect without read_only")

    def _list(self, kind: str, consistency: Consistency) -> list[Info]:
        body = reader(self._connection, consistency).call("list", {"kind": kind}).body
        return [info_from_body(item) for item in body["items"]]

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


def _batches(packed: list[bytes], count_max: int) -> Iterator[list[bytes]]:
    """Slices of at most `count_max` and, unless one alone is larger, SUBMIT_BYTES."""
    first = size = 0
    for index, data in enumerate(packed):
        if index > first and (index - first >= count_max or size + len(data) > SUBMIT_BYTES):
            yield packed[first:index]
            first, size = index, 0
        size += len(data)
    if packed:
        yield packed[first:]
