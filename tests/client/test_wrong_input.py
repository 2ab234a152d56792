"""What a program may do wrong: each mistake is an error that names it, and the daemon's state stays as it was."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import count
from typing import Any

import numpy
import pytest
from kit.told import state_digest

import penstock
from penstock import InvalidArgument, NotFound

Call = Callable[[Any], object]
NAN, INFINITE = float("nan"), float("inf")
NO_NAMES = ("", "-x", "a b", "a/b", "é", "x" * 201, "a\0", None, 5, b"jobs")
MISSING = "nowhere"
_numbers = count()


@pytest.fixture(scope="module")
def shop(daemon: Any) -> Iterator[penstock.Client]:
    """A client at a daemon where there is something to spoil: a queue with jobs, a topic with a group."""
    with penstock.connect(daemon.endpoint, retry_for=20) as client:
        client.create_queue("jobs")
        client.create_topic("news", retention="7d")
        client.create_group("news", "g")
        client.submit_many("jobs", [1, 2, 3])
        with client.producer("news") as producer:
            producer.send_many([b"a", b"b"]).wait()
        yield client
        client.delete("jobs")
        client.delete("news")


def consumed(
    client: penstock.Client, act: Callable[[penstock.Consumer], object], queue: str = "jobs", **how: Any
) -> object:
    """Do something with a consumer that holds nothing afterwards."""
    with client.consumer(queue, **how) as consumer:
        return act(consumer)


def taken(act: Callable[[penstock.Consumer, penstock.Message], penstock.AckReceipt]) -> Call:
    """Do something with a message of a queue that lives as long."""

    def call(client: penstock.Client) -> None:
        client.create_queue("work")
        try:
            client.submit("work", 1)
            with client.consumer("work") as consumer:
                message = consumer.receive(timeout=9)
                assert message is not None
                act(consumer, message).wait(timeout=9)
        finally:
            client.delete("work")

    return call


def produced(client: penstock.Client, *body: Any, queue: str = "jobs", **how: Any) -> object:
    with client.producer(queue) as producer:
        return producer.send(*body, **how).wait()


# (what the call is, the error, words of its message, the call)
CASES: list[tuple[str, type[penstock.PenstockError], str, Call]] = []


def case(title: str, error: type[penstock.PenstockError], said: str, call: Call) -> None:
    CASES.append((title, error, said, call))


for name in NO_NAMES:
    case(f"create_queue {name!r:.20}", InvalidArgument, "no name", lambda c, n=name: c.create_queue(n))
    case(f"create_topic {name!r:.20}", InvalidArgument, "no name", lambda c, n=name: c.create_topic(n))
    case(f"create_group {name!r:.20}", InvalidArgument, "group", lambda c, n=name: c.create_group("news", n))
    case(f"describe {name!r:.20}", InvalidArgument, "name", lambda c, n=name: c.describe(n))
    case(f"delete {name!r:.20}", InvalidArgument, "name", lambda c, n=name: c.delete(n))

for verb in ("describe", "delete", "purge", "pause", "resume", "peek", "list_groups", "drain", "jobs", "replay"):
    case(
        f"{verb} of nothing", NotFound, MISSING,
        lambda c, v=verb: [*found] if (found := getattr(c, v)(MISSING)) and v == "replay" else found,
    )  # fmt: skip
case("configure nothing", NotFound, MISSING, lambda c: c.configure(MISSING, max_failures=1))
case("create_group of nothing", NotFound, MISSING, lambda c: c.create_group(MISSING, "g"))
case("seek_group of nothing", NotFound, MISSING, lambda c: c.seek_group(MISSING, "g", 0))
case("seek_group of no group", NotFound, "'h'", lambda c: c.seek_group("news", "h", 0))
case("delete_group of no group", NotFound, "'h'", lambda c: c.delete_group("news", "h"))
case("describe_group of no group", NotFound, "'h'", lambda c: c.describe_group("news", "h"))
case("peek of no group", NotFound, "'h'", lambda c: c.peek("news", group="h"))
case("peek of a topic without a group", NotFound, "name the group", lambda c: c.peek("news"))
case("a topic read without a group", NotFound, "name the group", lambda c: c.consumer("news").receive(1))
case("publish to nothing", NotFound, MISSING, lambda c: produced(c, b"x", queue=MISSING))
case("consume nothing", NotFound, MISSING, lambda c: consumed(c, lambda it: it.receive(timeout=9), MISSING))
case("submit to nothing", NotFound, MISSING, lambda c: c.submit(MISSING, 1))
case("status of a job of nothing", NotFound, MISSING, lambda c: c.job(f"{MISSING}/0").status())
case("result of a job that never was", NotFound, "jobs/99", lambda c: c.job("jobs/99").result(timeout=9))
case("cancel a job that never was", NotFound, "jobs/99", lambda c: c.job("jobs/99").cancel())
case("retry a job that is not dead", InvalidArgument, "jobs/0", lambda c: c.job("jobs/0").retry())

case("a queue for its own results", InvalidArgument, "itself", lambda c: c.create_queue("new", result_queue="new"))
case("results come back", InvalidArgument, "itself", lambda c: c.configure("jobs", result_queue="jobs"))
case("a queue that is there", penstock.AlreadyExists, "jobs", lambda c: c.create_queue("jobs"))
case("a topic that is a queue", penstock.AlreadyExists, "jobs", lambda c: c.create_topic("jobs", exist_ok=True))
case("a group that is there", penstock.AlreadyExists, "group g", lambda c: c.create_group("news", "g"))
case("groups of a queue", InvalidArgument, "is a queue", lambda c: c.create_group("jobs", "g"))
case("a seek in a queue", InvalidArgument, "is a queue", lambda c: c.seek_group("jobs", "g", 0))
case("purge of a topic", InvalidArgument, "is a topic", lambda c: c.purge("news"))
case("jobs of a topic", InvalidArgument, "is a topic", lambda c: c.jobs("news"))
case("a job for a topic", InvalidArgument, "news is a topic", lambda c: c.submit("news", 1))
case("jobs for a topic", InvalidArgument, "news is a topic", lambda c: c.submit_many("news", [1, 2], max_failures=2))
case("replay of a queue", InvalidArgument, "is a queue", lambda c: list(c.replay("jobs")))

for option, values in {
    "max_messages": (0, -1, "many", 1.5, True, NAN, 2**60, 2**64, object()),
    "max_bytes": ("5 quarts", 0, -1, 1.5, NAN),
    "max_failures": (0, "never", 1.5),
    "retry_delay": ("soon", -1, NAN, INFINITE),
    "rate": ("many", "0/s", "9999999999/s", "5/9d", 5),
    "result_ttl": ("soon", -1, None),
    "frobnicate": (1,),
    "retention": ("7d",),
    "retention_messages": (5,),
}.items():
    for value in values:
        case(
            f"a queue with {option} {value!r:.20}", InvalidArgument, option,
            lambda c, o=option, v=value: c.create_queue("new", **{o: v}),
        )  # fmt: skip
        case(
            f"configure {option} {value!r:.20}", InvalidArgument, option,
            lambda c, o=option, v=value: c.configure("jobs", **{o: v}),
        )  # fmt: skip
for option, values in {
    "retention": ("soon", -1, 0, NAN),
    "retention_bytes": ("1 barrel", 0, -5),
    "retention_messages": (0, -1, "few", 1.5),
    "max_messages": (5,),
}.items():
    for value in values:
        case(
            f"a topic with {option} {value!r}", InvalidArgument, option,
            lambda c, o=option, v=value: c.create_topic("new", **{o: v}),
        )  # fmt: skip

for start in ("middle", -1, True, NAN, INFINITE, None, b"latest", 3, [0]):
    said = "offset 3 is beyond" if start == 3 and start is not True else "start is"
    case(f"a group from {start!r}", InvalidArgument, said, lambda c, s=start: c.create_group("news", "new", s))
    case(f"a seek to {start!r}", InvalidArgument, said, lambda c, s=start: c.seek_group("news", "g", s))
    case(f"a replay from {start!r}", InvalidArgument, said, lambda c, s=start: list(c.replay("news", s)))
    case(
        f"a consumer from {start!r}", InvalidArgument, said, lambda c, s=start: c.consumer("news", group="new", start=s)
    )
case("a replay until nowhere", InvalidArgument, "stop is", lambda c: c.replay("news", stop="end"))
case("a replay with a wait for nothing", InvalidArgument, "wait is", lambda c: c.replay("news", wait="soon"))
case(
    "a local replay that waits",
    InvalidArgument,
    "does not wait",
    lambda c: c.replay("news", wait=1, consistency="local"),
)
case("a consistency that is none", InvalidArgument, "consistency", lambda c: c.list_queues(consistency="often"))

ONE = ("text", b"bytes", {"a": 1}, 5, None)
for one in ONE:
    case(f"send_many {one!r}", InvalidArgument, "bodies is", lambda c, o=one: c.producer("jobs").send_many(o))
    case(f"submit_many {one!r}", InvalidArgument, "many_args is", lambda c, o=one: c.submit_many("jobs", o))
    case(f"jobs that are {one!r}", InvalidArgument, "jobs is", lambda c, o=one: list(c.as_completed(o)))
    case(f"ack_many {one!r}", InvalidArgument, "messages is", lambda c, o=one: consumed(c, lambda it: it.ack_many(o)))
    case(
        f"results that are {one!r}", InvalidArgument, "results is",
        lambda c, o=one: consumed(c, lambda it: it.complete_many([], o)),
    )  # fmt: skip
    case(
        f"outputs that hold {one!r}", InvalidArgument, "outputs['new'] is",
        taken(lambda it, message, o=one: message.complete(outputs={"new": o})),
    )  # fmt: skip
    for option in ("headers", "ids", "delays", "dues"):
        if one is not None:
            case(
                f"{option} that are {one!r}", InvalidArgument, f"{option} is",
                lambda c, o=one, n=option: c.producer("jobs").send_many([b"x"], **{n: o}),
            )  # fmt: skip
for outputs in ("new", [("new", [b"x"])], {5: [b"x"]}, {b"new": [b"x"]}):
    case(
        f"outputs {outputs!r}", InvalidArgument, "outputs is",
        taken(lambda it, message, o=outputs: message.complete(outputs=o)),
    )  # fmt: skip
case("text for an output", InvalidArgument, "body", taken(lambda it, message: message.complete(outputs={"new": ["x"]})))
case("progress of 7", InvalidArgument, "fraction", taken(lambda it, message: message.progress(7)))
case("progress without text", InvalidArgument, "text is 5", taken(lambda it, message: message.progress(0.5, 5)))
case("a log of numbers", InvalidArgument, "lines is", taken(lambda it, message: message.log(5)))
case("a reason that is none", InvalidArgument, "reason is 5", taken(lambda it, message: message.reject(5)))
case("a task that is none", InvalidArgument, "task is 5", lambda c: c.submit("jobs", 1, task=5))
for limit in (-1, "x", 1.5, True):
    case(f"move {limit!r}", InvalidArgument, "limit is", lambda c, n=limit: c.move("jobs", "jobs", limit=n))
    case(f"retry {limit!r} dead", InvalidArgument, "limit is", lambda c, n=limit: c.retry_dead("jobs", limit=n))
    case(f"retry {limit!r} of a group", InvalidArgument, "limit is", lambda c, n=limit: c.retry_group("news", "g", n))
    case(f"{limit!r} jobs", InvalidArgument, "limit is", lambda c, n=limit: c.jobs("jobs", limit=n))

for body in ("text", 5, None, ["x"], {"a": 1}):
    case(f"send {body!r}", InvalidArgument, "body", lambda c, b=body: produced(c, b))
for headers in (5, "a=b", {1: "x"}, {"penstock-x": 1}, {"x": object()}):
    case(f"headers {headers!r:.20}", InvalidArgument, "header", lambda c, h=headers: produced(c, b"x", h))
case("a key that is no text", InvalidArgument, "key", lambda c: produced(c, b"x", key=5))
case("an empty batch", InvalidArgument, "empty", lambda c: c.producer("jobs").send_many([]))
case("headers for some", InvalidArgument, "headers", lambda c: c.producer("jobs").send_many([b"a", b"b"], [None]))
case("a linger that is none", InvalidArgument, "linger", lambda c: c.producer("jobs", linger="a bit"))
case("batch_bytes that are none", InvalidArgument, "batch_bytes", lambda c: c.producer("jobs", batch_bytes="lots"))

for prefetch in (-1, 1.5, "x", None, True):
    case(f"prefetch {prefetch!r}", InvalidArgument, "prefetch", lambda c, p=prefetch: c.consumer("jobs", prefetch=p))
for lease in (0, -1, "soon", NAN, None):
    case(f"lease {lease!r}", InvalidArgument, "lease", lambda c, v=lease: c.consumer("jobs", lease=v))
case(
    "a lease beyond the daemon's", InvalidArgument, "lease is 30d (give a duration from 1ms to 12h)",
    lambda c: consumed(c, lambda it: it.receive(timeout=9), lease="30d"),
)  # fmt: skip
case("receive none", InvalidArgument, "limit", lambda c: consumed(c, lambda it: it.receive_many(0), prefetch=0))
case(
    "receive for how long", InvalidArgument, "timeout", lambda c: consumed(c, lambda it: it.receive("soon"), prefetch=0)
)
case("peek at none", InvalidArgument, "limit", lambda c: c.peek("jobs", 0))
case("peek at too many", InvalidArgument, "limit", lambda c: c.peek("jobs", 1001))
case("peek at a number of numpy", InvalidArgument, "limit", lambda c: c.peek("jobs", numpy.int64(5)))
case("ack what was only looked at", penstock.Closed, "closed", lambda c: c.peek("jobs")[0].ack())

for job_id in ("", "jobs", "jobs/", "jobs/x", "jobs/-1", "/1", 5, None):
    case(f"the job {job_id!r}", InvalidArgument, "id", lambda c, j=job_id: c.job(j))
for work in (object(), {"x": object()}, {1, 2}, 2**70):
    case(f"submit {work!r:.20}", InvalidArgument, "", lambda c, w=work: c.submit("jobs", w))
case("jobs of a status that is none", InvalidArgument, "status", lambda c: c.jobs("jobs", status="lost"))
case("jobs behind no offset", InvalidArgument, "after", lambda c: c.jobs("jobs", after="x"))
case("wait for how long", InvalidArgument, "timeout", lambda c: c.job("jobs/0").wait(timeout="soon"))
case("drain for how long", InvalidArgument, "timeout", lambda c: c.drain("jobs", timeout="soon"))

for option, values in {
    "priority": (10, -1, 1.5, "high", True),
    "delay": ("soon", -1, NAN, "99999d"),
    "due": ("tomorrow", -1.0, 1e13, NAN),
    "ttl": ("soon", -1, "99999d"),
    "id": ("", "x" * 201, 5),
    "after": (5,),
    "on_failure": ("explode",),
    "max_failures": (0, "never", 1.5),
    "retry_backoff": ("linear",),
    "retry_jitter": (101, -1, "some"),
    "frobnicate": (1,),
}.items():
    for value in values:
        case(
            f"a message with {option} {value!r:.20}", InvalidArgument, option,
            lambda c, o=option, v=value: produced(c, b"x", **{o: v}),
        )  # fmt: skip
case(
    "a delay and a due time", InvalidArgument, "delay",
    lambda c: produced(c, b"x", delay=1, due=datetime(2100, 1, 1)),
)  # fmt: skip

case(
    "delays of which one is too long", InvalidArgument,
    "delay is (1d, 99999d) (give a duration from 0s to 3650d, or a list of them, one a message)",
    lambda c: c.submit_many("jobs", [1, 2], delays=["1d", "99999d"]),
)  # fmt: skip
for every in ("1ms", "99999d"):
    case(
        f"a schedule every {every}",
        InvalidArgument,
        f"every is {every}",
        lambda c, e=every: c.schedules.add("s", "jobs", every=e),
    )

for after in ("nonsense", ["jobs/x"]):
    case(f"a message after {after!r}", InvalidArgument, "no id of jobs", lambda c, a=after: produced(c, b"x", after=a))

for pattern in ("", "nothing.*", 5, [5], []):
    case(f"watch {pattern!r}", InvalidArgument, "", lambda c, p=pattern: next(iter(c.watch(p))))
case("watch after no cursor", InvalidArgument, "after", lambda c: next(iter(c.watch("*", after="here"))))

case("a member that is none", InvalidArgument, "node", lambda c: c.cluster_remove(0))
case("a member that there is not", NotFound, "9", lambda c: c.cluster_remove(9))
case(
    "an endpoint that is none",
    InvalidArgument,
    "client",
    lambda c: c.cluster_add(9, client="x", listen="ipc://l", publish="ipc://p"),
)
case("an office for nobody", NotFound, "9", lambda c: c.cluster_transfer(9))


def test_there_are_many_cases() -> None:
    assert len(CASES) > 200
    assert len({title for title, *_ in CASES}) == len(CASES)


@pytest.mark.parametrize(("title", "error", "said", "call"), CASES, ids=[title for title, *_ in CASES])
def test_a_mistake_is_named_and_changes_nothing(
    shop: penstock.Client, title: str, error: type[penstock.PenstockError], said: str, call: Call
) -> None:
    before = state_digest(shop)
    with pytest.raises(penstock.PenstockError) as caught:
        call(shop)
    assert type(caught.value) is error, caught.value
    told = str(caught.value)
    assert said in told
    assert told.strip()
    assert not re.search(r"_ms\b|\bnil\b", told), "this is how the wire has it"
    assert not caught.value.retryable or error is penstock.Closed
    assert state_digest(shop) == before


@pytest.mark.parametrize("endpoint", ["", "127.0.0.1:7470", 5, [], ["tcp://a:1", 5], "tcp//x", "http://a:1"])
def test_an_endpoint_that_is_none_is_named(endpoint: Any) -> None:
    with pytest.raises(InvalidArgument, match="endpoint is"):
        penstock.connect(endpoint)


@pytest.mark.parametrize("retry_for", ["soon", -1, NAN])
def test_patience_that_is_none_is_named(retry_for: Any) -> None:
    with pytest.raises(InvalidArgument, match="retry_for is"):
        penstock.connect("ipc:///nowhere", retry_for=retry_for)
