"""The client: what an application embeds to speak to Penstock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Unpack

from ..peers.units import Duration
from . import calls
from .arrays import JobArray
from .base import BaseClient, Gather
from .batcher import BATCH_BYTES, BATCH_MAX
from .calling import call
from .channel import Consistency
from .closing import Closing
from .cluster import ClusterInfo, SnapshotInfo
from .consumer import Consumer
from .events import Watch
from .ids import parse_array_id, parse_id
from .infos import GroupInfo, QueueInfo, TopicInfo
from .jobs import Job
from .message import Message
from .options import AnyOptions, QueueOptions, TopicOptions, pack_options
from .outcomes import Completions, JobOutcome, drain
from .producer import Producer
from .properties import ArrayOptions, JobOptions
from .replay import Replay, Start, Stop, pack_start
from .schedules import Schedules
from .waiting import Waiting


class Client(Waiting, BaseClient[Producer, Consumer, Message, Job, JobArray, Schedules, Watch], Closing):
    """A connection to a cluster, over which its producers and consumers travel. Thread-safe.

    It finds the daemon again when the connection is lost and asks again what was not answered; nothing is done twice.
    It does not survive a fork: connect anew in the child. Use it in a `with`, or close it.

    Wherever it asks for a duration: seconds, a text ("500ms", "10s", "1h30m", "7d") or a timedelta; for a moment: a
    datetime (without a zone: local time) or seconds since 1970.
    """

    PRODUCER, CONSUMER, JOB, ARRAY, SCHEDULES, WATCH = Producer, Consumer, Job, JobArray, Schedules, Watch

    # -- queues and topics -----------------------------------------------------------------------------------------

    def create_queue(self, name: str, *, exist_ok: bool = False, **options: Unpack[QueueOptions]) -> QueueInfo:
        """Make a queue. None means no limit; what is not given is as the daemon has it (max_failures 5, result_ttl and
        unique one day).

        options: max_messages, max_bytes, overflow, max_message, rate, max_leased, ordered_by, max_failures,
        retry_delay, retry_backoff, retry_delay_max, retry_jitter, result_ttl, unique, result_queue (see QueueOptions).
        Raises AlreadyExists (not with `exist_ok`, which leaves an existing queue as it is), InvalidArgument.
        """
        return self._run(calls.create_queue(name, pack_options(options), exist_ok))

    def create_topic(self, name: str, *, exist_ok: bool = False, **options: Unpack[TopicOptions]) -> TopicInfo:
        """Make a topic. options: retention, retention_bytes, retention_messages, max_failures, retry_delay,
        retry_backoff, retry_delay_max, retry_jitter (see TopicOptions). As `create_queue`."""
        return self._run(calls.create_topic(name, pack_options(options), exist_ok))

    def configure(self, name: str, **options: Unpack[AnyOptions]) -> QueueInfo | TopicInfo:
        """Change options of a queue or topic (see `create_queue`, `create_topic`); what is not given stays.

        Raises NotFound, InvalidArgument.
        """
        return self._run(calls.change("configure", name, options=pack_options(options)))

    def list_queues(self, *, consistency: Consistency = "primary") -> list[QueueInfo]:
        """All queues, by name. `consistency`: "local" has the nearest node answer, primary or not; see `staleness`."""
        return self._run(calls.list_queues(), consistency)

    def list_topics(self, *, consistency: Consistency = "primary") -> list[TopicInfo]:
        """All topics, by name. `consistency` as in `list_queues`."""
        return self._run(calls.list_topics(), consistency)

    def describe(self, name: str, *, consistency: Consistency = "primary") -> QueueInfo | TopicInfo:
        """What there is to know about a queue or topic. `consistency` as in `list_queues`. Raises NotFound."""
        return self._run(calls.describe(name), consistency)

    def delete(self, name: str) -> None:
        """Remove a queue or topic with all its messages. Raises NotFound."""
        return self._run(calls.command("delete", name=name))

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
        return self._run(self._peek(name, limit, group), consistency)

    def replay(
        self,
        topic: str,
        start: Start = "earliest",
        stop: Stop | None = None,
        *,
        wait: Duration | None = 0,
        consistency: Consistency = "primary",
    ) -> Iterator[Message]:
        """Messages of a topic as they were published, read past all groups: nothing is leased, and nobody acks them.

        `start`, `stop` (not read any more): an offset (an int) or a time (a datetime, local if it has no time zone, or
        seconds since 1970 as a float); `start` also "earliest" or "latest". Without a `stop` it ends where the topic
        ended when it began; with a `wait` when nothing has come for so long (None: never). `consistency` as in
        `list_queues`; a local replay does not wait. A message that went by its retention is passed over. Raises
        NotFound, InvalidArgument.
        """
        return self._replayed(self._replay(topic, start, stop, wait, consistency), consistency)

    def _replayed(self, replay: Replay, consistency: Consistency) -> Iterator[Message]:
        while not replay.over:
            yield from self._run(replay.more(), consistency)

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

    def retry_group(self, topic: str, group: str, limit: int | None = None) -> int:
        """Give a group its dead letters of a topic again, the oldest `limit` of them, and no other group: how many
        those are. Their failures are forgotten.

        Letters whose messages the topic no longer keeps stay where they are. Raises NotFound, InvalidArgument.
        """
        return self._run(calls.retry_group(topic, group, limit))

    def list_groups(self, topic: str, *, consistency: Consistency = "primary") -> list[GroupInfo]:
        """The groups of a topic, by name, each with its counts and its lag. `consistency` as in `list_queues`. Raises
        NotFound."""
        return self._run(calls.list_groups(topic), consistency)

    def describe_group(self, topic: str, group: str, *, consistency: Consistency = "primary") -> GroupInfo:
        """One group of a topic. `consistency` as in `list_queues`. Raises NotFound."""
        return self._run(calls.describe_group(topic, group), consistency)

    def delete_group(self, topic: str, group: str) -> None:
        """Remove a group of a topic with its position. Raises NotFound."""
        return self._run(calls.command("group_delete", topic=topic, group=group))

    def status(self) -> dict[str, Any]:
        """The state of the daemon: node, role, endpoints, uptime, storage, counters; docs/protocol.md lists the
        keys."""
        return self._run(calls.ask("status"))

    def watch(self, patterns: str | Iterable[str] = "*", after: str | None = "now") -> Watch:
        """What happens from now on, or `after` the cursor of an event ("earliest", or None: everything that the daemon
        still knows).

        `patterns`: globs of types of events, such as "queue.*" or "job.failed"; docs/protocol.md lists the types.
        Raises InvalidArgument for a pattern that none is like.
        """
        return self._run(self._watch(patterns, after))

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
        return self._run(calls.command("cluster_add", **args))

    def cluster_remove(self, node: int) -> None:
        """Have a node leave for good: its id is never used again. Raises NotFound, NoQuorum."""
        return self._run(calls.command("cluster_remove", node=node))

    def cluster_transfer(self, to: int) -> None:
        """Make the node `to` the primary. Raises NotFound, and NoQuorum if it is not up to date."""
        return self._run(calls.transfer(to))

    def snapshot_node(self) -> SnapshotInfo:
        """Have the present node make a checkpoint now and cut its log behind it; returns when that is on its disk.

        Nodes do so by themselves: this is for making room at once, and for a quick start afterwards. Nothing is copied
        to anywhere else. Raises PermissionDenied.
        """
        return self._run(calls.snapshot())

    def crash_node(self) -> None:
        """For drills: have the present node's process end at once, as a power cut would. Raises PermissionDenied."""
        return self._run(calls.crash())

    # -- messages --------------------------------------------------------------------------------------------------

    def producer(
        self,
        queue: str,
        *,
        linger: Duration = 0,
        batch_max: int = BATCH_MAX,
        batch_bytes: int | str = BATCH_BYTES,
    ) -> Producer:
        """A producer for a queue or topic. `linger`: how long a batch waits for more when nothing is under way."""
        return self._new_producer(queue, linger=linger, batch_max=batch_max, batch_bytes=batch_bytes)

    def consumer(
        self,
        queue: str,
        *,
        group: str = "",
        start: Start = "earliest",
        lease: Duration = "30s",
        prefetch: int = 1000,
        renew: bool = True,
    ) -> Consumer:
        """A consumer of a queue, or of `group` of a topic, which is made if it is not there, from `start` on (as in
        `create_group`).

        `lease`: how long a message is yours; `renew` extends it in the background while the consumer lives.
        `prefetch`: how many messages are leased ahead; 0 leases only what is asked for.
        """
        return self._run(self._open_consumer(queue, group, start, lease=lease, prefetch=prefetch, renew=renew))

    # -- jobs ------------------------------------------------------------------------------------------------------

    def submit(self, queue: str, args: Any, *, task: str | None = None, **options: Unpack[JobOptions]) -> Job:
        """Put work into a queue: durable when this returns. `args`: a msgpack value, numpy arrays included.

        `task` names what shall be done with it, where a queue serves several tasks. options, all optional: priority,
        delay, due, ttl, id, if_exists, key, headers, after, on_failure, time_limit, max_failures, retry_delay,
        retry_backoff, retry_delay_max, retry_jitter (see JobOptions). Raises InvalidArgument, NotFound, QueueFull, and
        AlreadyExists (whose `job` is the other one) if the id is taken.
        """
        return self._run(self._submit(queue, args, task=task, **options))

    def submit_many(
        self,
        queue: str,
        many_args: Iterable[Any],
        *,
        task: str | None = None,
        gather: Gather | None = None,
        **options: Unpack[ArrayOptions],
    ) -> JobArray:
        """Submit many jobs, in batches of at most 5000 jobs or 4 MiB; each batch is durable as a whole or not at all.

        Returns the jobs in the order of their arguments, durable. options: as `submit` has, for all of them, with
        `ids`, `delays`, `dues` or `afters`, one for each job, in place of id, delay, due and after (see ArrayOptions).
        `gather`: a queue (or a task) and arguments: one job more, which runs when all the others are done, and is
        cancelled if one of them is not; it is given their ids (`current_job().parents`), and is the `gather` of what
        comes back. Raises as `submit`; then some batches may be durable.
        """
        return self._run(self._submit_many(queue, many_args, task, gather, options))

    def call(
        self,
        queue: str,
        args: Any,
        *,
        task: str | None = None,
        timeout: Duration | None = None,
        keep: bool = False,
        **options: Unpack[JobOptions],
    ) -> Any:
        """Have work done and return its result: `submit`, wait and forget, with one round trip to the daemon.

        `timeout` is a duration; None waits for ever. The job is cancelled when it is over, unless `keep`; without a
        `ttl` of its own it has that of the timeout, so that nobody begins it later, if the daemon cannot be told.
        options: as `submit` has, without if_exists. Raises JobFailed (with traceback and rank), JobCancelled, Timeout,
        and what `submit` raises.
        """
        return self._run(call(queue, args, task, timeout, keep, options))

    def job(self, job_id: str) -> Job:
        """The job of this id ("forecast/42"); nothing is asked yet. Raises InvalidArgument."""
        return self._one_job(*parse_id(job_id))

    def job_array(self, array_id: str) -> JobArray:
        """The jobs of this id ("forecast/0-499"); nothing is asked yet. Raises InvalidArgument."""
        return self._array(*parse_array_id(array_id))

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
        return self._run(self._jobs(queue, status, limit, after), consistency)

    def retry_dead(self, queue: str, limit: int | None = None) -> JobArray:
        """Submit the dead jobs of a queue again, the oldest `limit` of them: the new jobs. Raises NotFound,
        QueueFull."""
        return self._run(self._retry_dead(queue, limit))

    def as_completed(self, jobs: Iterable[Job], timeout: Duration | None = None) -> Iterator[Job]:
        """The jobs, each as soon as it has ended; their `result` then answers at once. `timeout` is a duration.

        Raises Timeout, and NotFound for a job that never existed.
        """
        if isinstance(jobs, JobArray):
            self._run(jobs._known())
        return self._completed(Completions(jobs, timeout))

    def _completed(self, completions: Completions[Job]) -> Iterator[Job]:
        while not completions.over:
            yield from self._run(completions.more())

    def drain(self, queue: str, timeout: Duration | None = None) -> list[JobOutcome]:
        """Wait until the queue is empty and nothing runs, then every outcome that is kept, failures included, by
        offset.

        Somebody else must do the work: a pool, or consumers. `timeout` is a duration. Raises Timeout, NotFound.
        """
        return self._run(drain(queue, timeout))

    # -- the end ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Flush and close all producers and consumers, end the session (leases in hand return), disconnect.

        Raises the first error of a flush, after everything is closed. Twice does nothing.
        """
        return self._run(self._close())
