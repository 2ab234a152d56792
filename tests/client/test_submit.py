"""What producers and submitters ask of a daemon that answers by the book."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import penstock
from penstock.peers import values, wire
from penstock.peers.errors import AlreadyExists, to_body

Answer = tuple[str, dict[str, Any], bytes | None]


def plain(value: Any) -> Any:
    """Tuples, which is what the daemon reads, as lists."""
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


class Queue:
    """Numbers what is appended to it, refuses ids that are taken, ends every job at once."""

    def __init__(self) -> None:
        self.next = 0
        self.ids: dict[str, int] = {}
        self.appends: list[tuple[dict[str, Any], list[bytes], list[Any] | None]] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, request: wire.Request) -> Answer | None:
        args = {name: plain(value) for name, value in request.args.items()}
        if request.op == "append":
            return self._append(args, *wire.unpack_payload(request.payload or b""))
        if request.op != "ping":
            self.asked.append((request.op, args))
        match request.op:
            case "job_status":
                jobs = [{"offset": offset, "status": "dead" if offset % 2 else "done"} for offset in args["offsets"]]
                return "ok", {"jobs": jobs}, None
            case "job_result":
                result = values.pack(args["offset"] * 10)
                return "ok", {"status": "done", "reason": ""}, wire.pack_payload([result])
            case "outcomes":
                rows = [[0, self.next, "done", ""]]
                bodies = [values.pack(offset * 10) for offset in range(self.next)]
                return "ok", {"next": 99, "outcomes": rows}, wire.pack_payload(bodies)
            case "job_cancel":
                return "ok", {"cancelled": args["count"]}, None
            case "job_retry":
                return "ok", {"offset": 1000, "count": 2, "retried": [[args["offset"], 2, 1000]]}, None
            case "status":
                return "ok", {"applied": 50}, None
            case _:
                return "ok", {}, None

    def _append(self, args: dict[str, Any], bodies: list[bytes], headers: list[Any] | None) -> Answer:
        self.gate.wait(20)
        told = [{k: plain(v) for k, v in (header or {}).items()} for header in headers] if headers else None
        self.appends.append((args, bodies, told))
        for id in args.get("ids", ()):
            if id in self.ids:
                error = AlreadyExists(f"the id {id!r} is taken", job=f"{args['queue']}/{self.ids[id]}")
                return error.code, to_body(error), None
        first, self.next = self.next, self.next + len(bodies)
        self.ids |= {id: first + i for i, id in enumerate(args.get("ids", ()))}
        return "ok", {"offset": first, "count": len(bodies), "index": 40 + len(self.appends)}, None

    @property
    def batches(self) -> list[tuple[dict[str, Any], list[bytes]]]:
        """What was appended: what is said of each batch beside queue and count, and its bodies."""
        hidden = ("queue", "count")
        return [({k: v for k, v in args.items() if k not in hidden}, bodies) for args, bodies, _ in self.appends]


@pytest.fixture
def book(fake: Any) -> Queue:
    fake.handle = Queue()
    return fake.handle


@pytest.fixture
def client(fake: Any, book: Queue) -> Iterator[penstock.Client]:
    with penstock.connect(fake.endpoint, retry_for=20) as client:
        yield client


# -- producers ---------------------------------------------------------------------------------------------------------


def test_messages_with_equal_properties_share_a_batch(client: penstock.Client, book: Queue) -> None:
    book.gate.clear()
    with client.producer("work") as producer:
        producer.send(b"first")  # under way, so that the others gather
        for body in (b"a", b"b"):
            producer.send(body)
        for body in (b"c", b"d"):
            producer.send(body, priority=5)
        last = producer.send(b"e")
        book.gate.set()
        assert last.wait() == 5
    assert book.batches == [
        ({}, [b"first"]),
        ({}, [b"a", b"b"]),
        ({"priority": 5}, [b"c", b"d"]),
        ({}, [b"e"]),
    ]


def test_messages_that_differ_in_their_delay_share_a_batch(client: penstock.Client, book: Queue) -> None:
    book.gate.clear()
    with client.producer("work") as producer:
        producer.send(b"first")
        for delay in (1, 2, 3):
            producer.send(b"x", delay=delay, ttl="1h")
        for _ in range(2):
            producer.send(b"y", delay=7)
        producer.send(b"z", due=1000)
        book.gate.set()
    assert [properties for properties, _ in book.batches[1:]] == [
        {"ttl_ms": 3_600_000, "delay_ms": [1000, 2000, 3000]},
        {"delay_ms": 7000},
        {"due_ms": 1_000_000},
    ]


def test_a_message_with_an_id_travels_alone_since_a_taken_id_refuses_its_batch(
    client: penstock.Client, book: Queue
) -> None:
    book.ids["b"] = 77
    book.gate.clear()
    with client.producer("work") as producer:
        receipts = [producer.send(b"first"), producer.send(b"a")]
        taken = producer.send(b"b", id="b")
        receipts += [producer.send(b"c", id="c"), producer.send(b"d")]
        book.gate.set()
        with pytest.raises(AlreadyExists) as refusal:
            taken.wait()
        assert [receipt.wait() for receipt in receipts] == [0, 1, 2, 3]
    assert refusal.value.job == "work/77"
    assert [properties for properties, _ in book.batches] == [{}, {}, {"ids": ["b"]}, {"ids": ["c"]}, {}]


def test_parents_are_told_in_a_header_too(client: penstock.Client, book: Queue) -> None:
    with client.producer("work") as producer:
        producer.send(b"a", headers={"k": 1}, after=["work/0-9", "work/10"])
        producer.send_many([b"b", b"c"], key="x", after="work/3")
    (first, _, first_headers), (second, _, second_headers) = book.appends
    assert (first["after"], second["after"]) == ([["work", 0, 11]], [["work", 3, 1]])
    assert first_headers == [{"k": 1, "penstock-after": [["work", 0, 11]]}]
    assert second_headers == [{"penstock-key": "x", "penstock-after": [["work", 3, 1]]}] * 2


def test_send_many_has_an_id_and_a_delay_for_each(client: penstock.Client, book: Queue) -> None:
    with client.producer("work") as producer:
        producer.send_many([b"a", b"b"], ids=["x", "y"], delays=[0, "1m"], priority=2)
    assert book.batches == [({"priority": 2, "ids": ["x", "y"], "delay_ms": [0, 60_000]}, [b"a", b"b"])]


def test_a_wrong_property_is_refused_before_anything_is_sent(client: penstock.Client, book: Queue) -> None:
    with client.producer("work") as producer:
        with pytest.raises(penstock.InvalidArgument, match="priority is 11"):
            producer.send(b"a", priority=11)
        with pytest.raises(penstock.InvalidArgument, match="2 ids for 1"):
            producer.send_many([b"a"], ids=["x", "y"])
    assert book.appends == []


# -- jobs --------------------------------------------------------------------------------------------------------------


def test_a_job_carries_its_options(client: penstock.Client, book: Queue) -> None:
    job = client.submit(
        "work", {"x": 1}, task="t", priority=3, delay="5s", id="a", key="k", headers={"h": 1}, time_limit="1m",
        max_failures=2,
    )  # fmt: skip
    ((args, bodies, headers),) = book.appends
    assert job.id == "work/0"
    properties = {"priority": 3, "delay_ms": 5000, "ids": ["a"], "max_failures": 2}
    assert args == {"queue": "work", "count": 1, "jobs": True, **properties}
    assert bodies == [values.pack({"x": 1})]
    assert headers == [{"h": 1, "penstock-key": "k", "penstock-task": "t", "penstock-time-limit-ms": 60_000}]


def test_a_plain_job_carries_nothing_but_that_it_is_one(client: penstock.Client, book: Queue) -> None:
    client.submit("work", 1, priority=0, delay=None, after=None)
    assert book.appends == [({"queue": "work", "count": 1, "jobs": True}, [values.pack(1)], None)]


def test_an_id_that_is_taken_is_an_error_or_gives_the_other_job(client: penstock.Client, book: Queue) -> None:
    first = client.submit("work", 1, id="a")
    with pytest.raises(AlreadyExists) as refusal:
        client.submit("work", 2, id="a")
    assert refusal.value.job == first.id
    assert client.submit("work", 2, id="a", if_exists="return").id == first.id


def test_of_many_ids_those_that_are_taken_give_the_other_jobs(client: penstock.Client, book: Queue) -> None:
    client.submit_many("work", [1, 2], ids=["a", "b"])
    jobs = client.submit_many("work", [3, 4, 5], ids=["c", "a", "d"], if_exists="return")
    assert [job.id for job in jobs] == ["work/2", "work/0", "work/3"]


def test_a_long_array_is_cut_and_its_lists_with_it(client: penstock.Client, book: Queue) -> None:
    count = 12_000
    jobs = client.submit_many("work", range(count), ids=[str(n) for n in range(count)], delays=list(range(count)))
    assert (jobs.id, jobs.first, jobs.count, len(jobs)) == ("work/0-11999", 0, count, count)
    assert [args["count"] for args, _, _ in book.appends] == [5000, 5000, 2000]
    last = book.appends[-1][0]
    assert (last["ids"][0], last["delay_ms"][-1]) == ("10000", 11_999_000)


def test_a_gather_job_waits_for_the_whole_array(client: penstock.Client, book: Queue) -> None:
    jobs = client.submit_many("work", [1, 2, 3], gather=("sums", {"by": "n"}))
    args, bodies, headers = book.appends[-1]
    assert jobs.gather is not None
    assert jobs.gather.queue == "sums"
    assert (args["queue"], args["after"]) == ("sums", [["work", 0, 3]])
    assert bodies == [values.pack({"by": "n"})]
    assert headers == [{"penstock-after": [["work", 0, 3]]}]


def test_a_gather_task_is_checked_before_the_array_is_sent(client: penstock.Client, book: Queue) -> None:
    @penstock.task(queue="sums")
    def total(by: str) -> None: ...

    with pytest.raises(penstock.InvalidArgument, match="by is 3"):
        client.submit_many("work", [1, 2], gather=(total, {"by": 3}))
    assert book.appends == []
    assert client.submit_many("work", [1, 2], gather=(total, {"by": "n"})).gather is not None


def test_no_jobs_are_an_array_too(client: penstock.Client, book: Queue) -> None:
    jobs = client.submit_many("work", [], gather=("sums", 0))
    assert (jobs.id, list(jobs), jobs.wait(), jobs.results()) == ("", [], {}, [])
    assert "after" not in book.appends[0][0]


# -- arrays ------------------------------------------------------------------------------------------------------------


def test_an_array_is_a_sequence_of_jobs_that_remember(client: penstock.Client, book: Queue) -> None:
    jobs = client.job_array("work/0-1,7,3")
    assert [job.offset for job in jobs] == [0, 1, 7, 3]
    assert (jobs[2].id, jobs[-1].id, [job.id for job in jobs[1:3]]) == ("work/7", "work/3", ["work/1", "work/7"])
    assert jobs[0] is next(iter(jobs))
    assert jobs.id == "work/0-1,7,3"
    assert len(jobs + jobs) == 8
    with pytest.raises(IndexError):
        jobs[4]


def test_results_come_in_the_order_of_submission(client: penstock.Client, book: Queue) -> None:
    jobs = client.submit_many("work", range(200))
    assert jobs.results(timeout=20) == [10 * n for n in range(200)]
    assert jobs.wait() == {"done": 200}
    assert {op for op, _ in book.asked} == {"outcomes"}  # not one question for each


def test_an_array_of_another_process_is_looked_up_by_status_first(client: penstock.Client, book: Queue) -> None:
    outcomes = client.job_array("work/0-299").outcomes(timeout=20)
    assert [outcome.value for outcome in outcomes] == [10 * n for n in range(300)]
    assert [op for op, _ in book.asked[:2]] == ["status", "job_status"]
    assert "outcomes" not in {op for op, _ in book.asked}


def test_an_array_counts_cancels_and_retries_by_ranges(client: penstock.Client, book: Queue) -> None:
    jobs = client.job_array("work/0-4,10-12")
    assert jobs.statuses() == {"done": 5, "dead": 3}
    assert jobs.cancel() == 8
    assert jobs.retry().id == "work/1000-1001,1000-1001"
    ranges = [(args["offset"], args["count"]) for op, args in book.asked if op != "job_status"]
    assert ranges == [(0, 5), (10, 3)] * 2
