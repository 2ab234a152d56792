"""Each feature, amid its life when daemons are killed: a story begins before that, and is told to its end after it.

All stories begin on the same three daemons. Then kill -9 ends their primary; or all three, which begin anew from a
checkpoint that each of them made before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

import penstock
from faults.cluster import NODES, Cluster
from faults.conftest import a_folder
from faults.crew import until
from penstock import Client
from penstock.peers import values

LIMIT_S = 60.0
NOTHING_S = 0.05  # long enough for a message that is ready
Telling = Iterator[None]  # up to its only yield, at which daemons are killed; then to its end
Story = Callable[[Client], Telling]
STORIES: list[Story] = []
IN_MEMORY: set[Story] = set()  # of what a node knows that lived through it


def story(told: Story) -> Story:
    STORIES.append(told)
    return told


def story_of_a_fail_over(told: Story) -> Story:
    IN_MEMORY.add(told)
    return story(told)


class Stage:
    """The stories that have begun."""

    def __init__(self, client: Client, stories: Iterable[Story]) -> None:
        self.begun: dict[Story, Telling | Exception] = {}
        for told in stories:
            telling = told(client)
            try:
                next(telling)
                self.begun[told] = telling
            except Exception as fault:  # it is raised by its own test, and keeps no other story from being told
                self.begun[told] = fault

    def end(self, told: Story) -> None:
        telling = self.begun[told]
        if isinstance(telling, Exception):
            raise telling
        assert next(telling, "the end") == "the end"

    def close(self) -> None:
        for telling in self.begun.values():
            if not isinstance(telling, Exception):
                telling.close()


@contextmanager
def three_daemons() -> Iterator[tuple[Cluster, Client]]:
    with a_folder() as folder, Cluster(folder) as cluster, penstock.connect(cluster.endpoint, retry_for=60) as client:
        cluster.whole()
        yield cluster, client
        client.close()  # first: so that nobody waits for the end of a story that was not told
        cluster.start(*(node for node in NODES if node not in cluster.alive))
        cluster.whole()
        cluster.alike()


@pytest.fixture(scope="module")
def failed_over() -> Iterator[Stage]:
    with three_daemons() as (cluster, client):
        stage = Stage(client, STORIES)
        victim = cluster.primary()
        cluster.kill(victim)
        assert cluster.primary() != victim
        yield stage
    stage.close()


@pytest.fixture(scope="module")
def restarted() -> Iterator[Stage]:
    with three_daemons() as (cluster, client):
        stage = Stage(client, (told for told in STORIES if told not in IN_MEMORY))
        cluster.alike()
        for node in NODES:
            with penstock.connect(cluster.client(node), read_only=True) as reader:
                reader.snapshot_node()
        cluster.kill(*NODES)
        cluster.start(*NODES)
        cluster.primary()
        yield stage
    stage.close()


# -- what the stories are made of -------------------------------------------------------------------------------------


def send(client: Client, queue: str, *bodies: bytes, **options: Any) -> None:
    with client.producer(queue) as producer:
        for body in bodies:
            producer.send(body, **options)


def take(consumer: penstock.Consumer) -> penstock.Message:
    message = consumer.receive(LIMIT_S)
    assert message is not None
    return message


def bodies(consumer: penstock.Consumer, count: int) -> list[bytes]:
    """The next messages, each acked before the next one is taken."""
    found = []
    for _ in range(count):
        message = take(consumer)
        found.append(message.body)
        message.ack().wait(LIMIT_S)
    return found


def nothing(consumer: penstock.Consumer) -> bool:
    """Nothing is given now. What is given in the next moment may still come by the pull that asked for this."""
    return consumer.receive(NOTHING_S) is None


def work(client: Client, queue: str, count: int) -> None:
    """Do the next jobs: numbers come back tenfold, negative ones are rejected."""
    with client.consumer(queue, prefetch=0) as consumer:
        for _ in range(count):
            message = take(consumer)
            number = values.unpack(message.body)
            if number < 0:
                message.reject("it is negative", error=ValueError(f"{number} is negative")).wait(LIMIT_S)
            else:
                message.complete(10 * number).wait(LIMIT_S)


# -- when -------------------------------------------------------------------------------------------------------------


@story
def the_more_urgent_comes_first(client: Client) -> Telling:
    client.create_queue("priority")
    for number, priority in enumerate([0, 5, 9, 5, 0]):
        send(client, "priority", b"%d" % number, priority=priority)
    with client.consumer("priority", prefetch=0) as consumer:
        take(consumer).nack().wait(LIMIT_S)
        yield
        send(client, "priority", b"late", priority=9)
        assert bodies(consumer, 6) == [b"2", b"late", b"1", b"3", b"0", b"4"]


@story
def what_is_delayed_comes_once_and_not_before_its_time(client: Client) -> Telling:
    client.create_queue("delay")
    due_s = time.time() + 6  # by then the first primary is gone
    send(client, "delay", b"due", due=due_s)
    send(client, "delay", b"in an hour", delay="1h")
    yield
    with client.consumer("delay", prefetch=0) as consumer:
        message = take(consumer)
        assert time.time() >= due_s
        assert (message.body, message.attempt) == (b"due", 1)
        message.ack().wait(LIMIT_S)
        assert nothing(consumer)
    info = client.describe("delay")
    assert (info.done, info.delayed) == (1, 1)


@story
def what_outlives_its_time_expires(client: Client) -> Telling:
    client.create_queue("ttl")
    short = client.submit("ttl", 1, ttl="5s", delay="1h")
    long = client.submit("ttl", 2, ttl="1h")
    yield
    assert short.wait(LIMIT_S) == "expired"
    work(client, "ttl", 1)
    assert long.result(LIMIT_S) == 20


# -- again ------------------------------------------------------------------------------------------------------------


@story
def failures_and_pauses_are_counted_on(client: Client) -> Telling:
    client.create_queue("retry", max_failures=3, retry_delay="2s", retry_backoff="exponential", retry_jitter=50)
    job = client.submit("retry", 1)
    with client.consumer("retry", prefetch=0) as consumer:
        take(consumer).nack(error=OSError("no disk")).wait(LIMIT_S)
        before = job.describe()
        assert before.due_ms is not None
        yield
        after = job.describe()
        assert (after.failures, after.due_ms, after.error) == (1, before.due_ms, before.error)
        second = take(consumer)
        assert (second.attempt, second.failures) == (2, 1)
        second.nack(delay=0).wait(LIMIT_S)
        take(consumer).nack(error=OSError("still none")).wait(LIMIT_S)
    assert job.wait(LIMIT_S) == "dead"
    assert job.describe().failures == 3


@story
def dead_letters_are_kept_tried_again_and_moved(client: Client) -> Telling:
    client.create_queue("dead", max_failures=1)
    client.create_queue("moved")
    jobs = client.submit_many("dead", [-1, -2, -3])
    work(client, "dead", 3)
    before = jobs[0].describe().error
    assert before is not None
    yield
    assert [job.status() for job in jobs] == ["dead"] * 3
    letters = client.peek("dead.dead")
    assert {letter.all_headers["penstock-reason"] for letter in letters} == {"it is negative"}
    assert jobs[0].describe().error == before
    assert client.retry_dead("dead", limit=1).id == "dead/3"
    assert client.move("dead.dead", "moved") == 2
    assert [values.unpack(message.body) for message in client.peek("moved")] == [-2, -3]
    assert client.describe("dead.dead").unfinished == 0


# -- once -------------------------------------------------------------------------------------------------------------


@story
def an_id_stays_taken(client: Client) -> Telling:
    client.create_queue("ids")
    client.create_queue("short-ids", unique="100ms")
    done = client.submit("ids", 1, id="nightly")
    waiting = client.submit("short-ids", 1, id="a")
    work(client, "ids", 1)
    yield
    with pytest.raises(penstock.AlreadyExists) as refusal:
        client.submit("ids", 2, id="nightly")
    assert refusal.value.job == done.id
    assert client.submit("ids", 2, id="nightly", if_exists="return").result(LIMIT_S) == 10
    with pytest.raises(penstock.AlreadyExists):
        client.submit("short-ids", 2, id="a")
    waiting.cancel()
    assert client.submit("short-ids", 3, id="a").offset == 1


# -- many, after others -----------------------------------------------------------------------------------------------


@story
def an_array_is_known_as_one(client: Client) -> Telling:
    client.create_queue("array")
    jobs = client.submit_many("array", [1, -2, 3, -4, 5, 6])
    work(client, "array", 3)
    yield
    again = client.job_array(jobs.id)
    assert again.statuses() == {"done": 2, "dead": 1, "queued": 3}
    work(client, "array", 2)
    assert again.retry().id == "array/6-7"  # only what failed
    assert client.job_array("array/5,6,7").cancel() == 3
    assert again.wait(LIMIT_S) == {"done": 3, "dead": 2, "cancelled": 1}


@story
def children_wait_for_parents_and_end_as_they_were_told(client: Client) -> Telling:
    client.create_queue("parents")
    client.create_queue("children")
    good, bad = client.submit_many("parents", [1, -1])
    after_good = client.submit("children", 1, after=good)
    cancelled = client.submit("children", 2, after=[good, bad])
    below = client.submit("children", 3, after=cancelled)
    released = client.submit("children", 4, after=bad, on_failure="release")
    children = (after_good, cancelled, below, released)
    yield
    assert [job.status() for job in children] == ["waiting"] * 4
    assert client.peek("children") == []
    work(client, "parents", 2)
    assert [job.status() for job in children] == ["queued", "cancelled", "cancelled", "queued"]
    with client.consumer("children", prefetch=0) as consumer:
        assert [values.unpack(body) for body in bodies(consumer, 2)] == [1, 4]


@story
def a_gather_comes_after_all_and_knows_them(client: Client) -> Telling:
    client.create_queue("parts")
    client.create_queue("sums")
    jobs = client.submit_many("parts", [1, 2, 3], gather=("sums", "all"))
    work(client, "parts", 1)
    yield
    assert jobs.gather is not None
    assert jobs.gather.status() == "waiting"
    work(client, "parts", 2)
    with client.consumer("sums", prefetch=0) as consumer:
        message = take(consumer)
        assert message.all_headers["penstock-after"] == [["parts", 0, 3]]
        message.complete(sum(client.job_array("parts/0-2").results(LIMIT_S))).wait(LIMIT_S)
    assert jobs.gather.result(LIMIT_S) == 60


# -- order and limits -------------------------------------------------------------------------------------------------


@story
def of_a_key_one_is_in_hand_and_a_failed_one_blocks_its_own(client: Client) -> Telling:
    client.create_queue("keys", ordered_by="key")
    for key in "abc":
        send(client, "keys", f"{key}1".encode(), f"{key}2".encode(), key=key)
    with client.consumer("keys", prefetch=0) as consumer:
        first = {message.body: message for message in consumer.receive_many(10, LIMIT_S)}
        assert sorted(first) == [b"a1", b"b1", b"c1"]
        first[b"b1"].nack(delay="1h").wait(LIMIT_S)
        first[b"c1"].ack().wait(LIMIT_S)
        yield
        assert bodies(consumer, 1) == [b"c2"]
        assert nothing(consumer)
        first[b"a1"].ack().wait(LIMIT_S)
        assert bodies(consumer, 1) == [b"a2"]
        assert nothing(consumer)


@story
def a_full_queue_refuses_or_drops_as_it_was_told(client: Client) -> Telling:
    client.create_queue("full", max_messages=3)
    client.create_queue("full-bytes", max_bytes=30)
    client.create_queue("drops", max_messages=3, overflow="drop_oldest")
    for queue in ("full", "full-bytes", "drops"):
        send(client, queue, b"1111", b"2222", b"3333")
    with client.producer("full") as producer, client.consumer("full", prefetch=0) as consumer:
        yield
        for queue in ("full", "full-bytes"):
            with pytest.raises(penstock.QueueFull):
                send(client, queue, b"4444")
        assert not producer.can_send()
        assert consumer.size() == 3
        assert bodies(consumer, 1) == [b"1111"]
        assert producer.can_send()
    send(client, "drops", b"4444")
    assert [message.body for message in client.peek("drops")] == [b"2222", b"3333", b"4444"]
    assert client.job("drops/0").status() == "expired"


@story
def what_is_too_large_is_refused(client: Client) -> Telling:
    client.create_queue("small", max_message=4)
    yield
    with pytest.raises(penstock.TooLarge, match="max_message"):
        send(client, "small", b"12345")
    send(client, "small", b"1234")
    assert client.describe("small").ready == 1


@story
def what_is_paused_stays_so(client: Client) -> Telling:
    client.create_queue("paused")
    client.pause("paused")
    send(client, "paused", b"x")
    yield
    with client.consumer("paused", prefetch=0) as consumer:
        assert nothing(consumer)
        client.resume("paused")
        assert bodies(consumer, 1) == [b"x"]


@story
def a_rate_that_is_used_up_is_so_at_the_next_primary(client: Client) -> Telling:
    client.create_queue("rate", rate="1/h")
    jobs = client.submit_many("rate", [1, 2])
    work(client, "rate", 1)
    yield
    with client.consumer("rate", prefetch=0) as consumer:
        assert nothing(consumer)
        assert "rate" in [reason.code for reason in jobs[1].explain()]
        client.configure("rate", rate=None)
        assert bodies(consumer, 1) == [values.pack(2)]


@story
def no_more_are_in_hand_than_the_queue_allows(client: Client) -> Telling:
    client.create_queue("leased", max_leased=2)
    send(client, "leased", b"1", b"2", b"3")
    with client.consumer("leased", prefetch=0) as consumer:
        held = consumer.receive_many(10, LIMIT_S)
        assert len(held) == 2
        yield
        assert nothing(consumer)
        held[0].ack().wait(LIMIT_S)
        assert bodies(consumer, 1) == [b"3"]


@story
def what_was_leased_ahead_is_given_once(client: Client) -> Telling:
    client.create_queue("window")
    send(client, "window", *(b"%d" % number for number in range(20)))
    with client.consumer("window", prefetch=5) as consumer:
        first = take(consumer)
        until(lambda: client.describe("window").leased >= 5, "it leases ahead")
        yield
        assert client.describe("window").leased <= 6
        found = [first]
        while len(found) < 20:
            found.append(take(consumer))
            found[-2].ack()
        found[-1].ack()
        consumer.flush(LIMIT_S)
        assert [(message.offset, message.attempt) for message in found] == [(number, 1) for number in range(20)]
    assert client.describe("window").done == 20


# -- topics -----------------------------------------------------------------------------------------------------------


@story
def a_topic_keeps_its_groups_its_times_and_its_bounds(client: Client) -> Telling:
    client.create_topic("news", retention_messages=4, max_failures=1)
    send(client, "news", b"0", b"1")
    between_s = client.status()["now_ms"] / 1000 + 0.001
    until(lambda: client.status()["now_ms"] / 1000 > between_s, "time passes")
    send(client, "news", b"2", b"3")
    client.create_group("news", "late", "latest")
    with client.consumer("news", group="all", prefetch=0) as consumer:
        message = take(consumer)
        client.create_group("news", "sought")
        client.seek_group("news", "sought", 3)
        yield
        message.nack().wait(LIMIT_S)
        (letter,) = client.peek("news.dead")
        assert (letter.all_headers["penstock-group"], letter.all_headers["penstock-offset"]) == ("all", 0)
    groups = {group.name: (group.floor, group.lag, group.dead) for group in client.list_groups("news")}
    assert groups == {"all": (1, 3, 1), "late": (4, 0, 0), "sought": (3, 1, 0)}
    assert client.create_group("news", "by-time", between_s).floor == 2
    assert [message.body for message in client.replay("news", 1, 3)] == [b"1", b"2"]
    send(client, "news", b"4", b"5")
    with client.consumer("news", group="late", prefetch=0) as consumer:
        assert bodies(consumer, 2) == [b"4", b"5"]
    until(lambda: client.describe("news").first == 2, "the new primary looks after what is kept")


@story
def dead_letters_of_a_group_come_back_to_it(client: Client) -> Telling:
    client.create_topic("post", max_failures=1)
    for group in ("strict", "other"):
        client.create_group("post", group)
    send(client, "post", b"0", b"1")
    with client.consumer("post", group="strict", prefetch=0) as consumer:
        for _ in range(2):
            take(consumer).nack().wait(LIMIT_S)
    assert client.retry_group("post", "strict", limit=1) == 1
    yield
    assert client.retry_group("post", "strict") == 1
    for group in ("strict", "other"):
        with client.consumer("post", group=group, prefetch=0) as consumer:
            assert bodies(consumer, 2) == [b"0", b"1"]
    assert client.describe("post.dead").unfinished == 0


# -- jobs -------------------------------------------------------------------------------------------------------------


@story
def what_a_job_told_is_known(client: Client) -> Telling:
    client.create_queue("told")
    job = client.submit("told", 1, key="k", time_limit="1h")
    with client.consumer("told", prefetch=0) as consumer:
        message = take(consumer)
        message.progress(0.4, "of the way").wait(LIMIT_S)
        message.log("one", "two").wait(LIMIT_S)
        before = job.describe()
        yield
        assert job.describe() == before
        assert (before.status, before.progress, before.lines) == ("running", 0.4, ("one", "two"))
        assert before.time_limit_ms == 3_600_000
        message.log("three").wait(LIMIT_S)
        message.complete("fine").wait(LIMIT_S)
    after = job.describe()
    assert after.lines == ("one", "two", "three")
    assert after.history[: len(before.history)] == before.history
    assert [step.what for step in after.history] == ["submitted", "leased", "done"]


@story
def what_was_cancelled_is_refused_and_who_holds_it_is_told(client: Client) -> Telling:
    client.create_queue("cancel")
    jobs = client.submit_many("cancel", range(3))
    with client.consumer("cancel", lease="6s", prefetch=0) as consumer:
        told: list[int] = []
        consumer.on_cancelled = lambda message: told.append(message.offset)
        messages = consumer.receive_many(3, LIMIT_S)
        jobs[0].cancel()
        yield
        jobs[1].cancel()
        until(lambda: sorted(told) == [0, 1], "who holds them is told")
        for message in messages[:2]:
            with pytest.raises(penstock.LeaseLost):
                message.complete("too late").wait(LIMIT_S)
        messages[2].complete("in time").wait(LIMIT_S)
    assert [job.status() for job in jobs] == ["cancelled", "cancelled", "done"]


@story
def results_are_kept_for_their_time(client: Client) -> Telling:
    client.create_queue("results", result_ttl="1h")
    client.create_queue("short-results", result_ttl="4s")
    kept, failed = client.submit_many("results", [1, -1])
    gone = client.submit("short-results", 1)
    work(client, "results", 2)
    work(client, "short-results", 1)
    yield
    assert client.job(kept.id).result(LIMIT_S) == 10
    with pytest.raises(penstock.JobFailed, match="-1 is negative"):
        client.job(failed.id).result(LIMIT_S)
    assert client.job(kept.id).result(LIMIT_S, remove=True) == 10
    for job in (kept, gone):
        until(lambda job=job: client.job(job.id).status() == "expired", "it is forgotten")  # type: ignore[misc]


@story
def results_and_outputs_go_where_they_were_told(client: Client) -> Telling:
    client.create_queue("to", result_queue="to-results")
    client.create_queue("to-next")
    client.submit_many("to", [1, 2])
    with client.consumer("to", prefetch=0) as consumer:
        take(consumer).complete(10, outputs={"to-next": [b"one"]}).wait(LIMIT_S)
        second = take(consumer)
        yield
        second.complete(20, outputs={"to-next": [b"two"]}).wait(LIMIT_S)
    with client.consumer("to-results", prefetch=0) as results, client.consumer("to-next", prefetch=0) as further:
        assert [values.unpack(body) for body in bodies(results, 2)] == [10, 20]
        assert bodies(further, 2) == [b"one", b"two"]
        assert nothing(results)


@story
def who_waits_for_jobs_waits_on(client: Client) -> Telling:
    client.create_queue("ends")
    jobs = client.submit_many("ends", [1, 2, -3])
    with ThreadPoolExecutor() as threads:
        asked: list[Future[Any]] = [
            threads.submit(lambda: [job.offset for job in client.as_completed(jobs, LIMIT_S)]),
            threads.submit(client.drain, "ends", LIMIT_S),
            threads.submit(client.job(jobs[1].id).wait, LIMIT_S),
        ]
        work(client, "ends", 1)
        yield
        work(client, "ends", 2)
        ended, drained, status = (future.result(LIMIT_S) for future in asked)
    assert sorted(ended) == [0, 1, 2]
    assert [(outcome.offset, outcome.status, outcome.value) for outcome in drained] == [
        (0, "done", 10), (1, "done", 20), (2, "dead", None),
    ]  # fmt: skip
    assert status == "done"


@story
def a_call_is_answered_and_asked_once(client: Client) -> Telling:
    client.create_queue("calls")
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(client.call, "calls", 7, timeout=LIMIT_S)
        until(lambda: client.describe("calls").ready == 1, "the call is there")
        yield
        work(client, "calls", 1)
        assert answer.result(LIMIT_S) == 70
    assert client.describe("calls").next == 1
    until(lambda: client.job("calls/0").status() == "expired", "its result is forgotten")


@story
def it_is_explained_why_a_job_does_not_run(client: Client) -> Telling:
    client.create_queue("why", max_leased=1, ordered_by="key")
    jobs = [client.submit("why", number, key="k") for number in range(2)]
    late = client.submit("why", 3, delay="1h")
    child = client.submit("why", 4, after=late)
    client.pause("why")
    yield
    expected = [(jobs[0], {"paused"}), (late, {"paused", "delayed"}), (child, {"paused", "parents"})]
    for job, codes in expected:
        assert codes <= {reason.code for reason in job.explain()}, job
    client.resume("why")
    with client.consumer("why", prefetch=0) as consumer:
        message = take(consumer)
        assert [reason.code for reason in jobs[0].explain()] == ["running"]
        assert {"key", "max_leased"} <= {reason.code for reason in jobs[1].explain()}
        message.ack().wait(LIMIT_S)


@story_of_a_fail_over
def a_watch_goes_on_and_misses_nothing(client: Client) -> Telling:
    watch = client.watch(["queue.*", "job.*"])
    client.create_queue("seen", max_failures=1)
    client.submit_many("seen", [1, -1])
    seen: list[penstock.Event] = []

    def look(last: str) -> None:
        while not seen or (seen[-1].queue, seen[-1].type) != ("seen", last):
            event = watch.receive(LIMIT_S)
            assert event is not None
            seen.append(event)

    look("job.queued")
    work(client, "seen", 1)
    yield
    work(client, "seen", 1)
    client.delete("seen")
    look("queue.deleted")
    assert [event.type for event in seen if event.queue == "seen"] == [
        "queue.created", "job.queued", "job.running", "job.done", "job.running", "job.dead", "queue.deleted",
    ]  # fmt: skip
    assert "events.dropped" not in {event.type for event in seen}
    assert len({event.cursor for event in seen}) == len(seen)


@story
def a_schedule_goes_on_or_stays_paused(client: Client) -> Telling:
    client.create_queue("ticks")
    client.schedules.add("rests", "ticks", 1, every="1s")
    client.schedules.pause("rests")
    before = client.schedules.get("rests")
    client.schedules.add("ticks", "ticks", 2, every="1s", missed="all", priority=3)
    yield
    until(lambda: client.schedules.get("ticks").fired >= 2, "it fires")
    assert client.schedules.get("rests") == before
    client.schedules.remove("ticks")
    messages = client.peek("ticks", limit=1000)
    dues = [message.all_headers["penstock-due"] for message in messages]
    assert dues == list(range(dues[0], dues[0] + 1000 * len(dues), 1000))
    assert {message.all_headers["penstock-schedule"] for message in messages} == {"ticks"}


# -- how they end -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", STORIES, ids=lambda told: told.__name__)
def test_it_holds_at_the_next_primary(told: Story, failed_over: Stage) -> None:
    failed_over.end(told)


@pytest.mark.parametrize("told", [told for told in STORIES if told not in IN_MEMORY], ids=lambda told: told.__name__)
def test_it_holds_when_all_begin_anew_from_a_checkpoint(told: Story, restarted: Stage) -> None:
    restarted.end(told)
