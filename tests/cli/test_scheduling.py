"""Priorities, delays, ids, parents and arrays on the command line; a worker that is a plain consumer does the jobs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import penstock
from penstock.peers.values import unpack
from penstock.testing import Broker


@contextmanager
def working(endpoint: str, queue: str) -> Iterator[None]:
    """Jobs {"index": n} are answered with 10 * n; those that say `fail` fail for good."""
    with penstock.connect(endpoint) as client, client.consumer(queue) as consumer:

        def work() -> None:
            for message in consumer:
                value = unpack(message.body)
                if "fail" in value:
                    message.reject("it was told to").wait()
                else:
                    message.complete(10 * value.get("index", 0)).wait()

        worker = threading.Thread(target=work)
        worker.start()
        try:
            yield
        finally:
            consumer.stop()
            worker.join()


@pytest.fixture
def worked(shell: Any, queue: str) -> Iterator[str]:
    """A queue in which somebody works."""
    with working(shell.endpoint, queue):
        yield queue


def error_of(done: Any) -> Any:
    return json.loads(done.stderr.splitlines()[-1])["error"]


def test_what_is_pushed_with_a_priority_comes_first(shell: Any, queue: str) -> None:
    shell.ok("push", queue, "-", stdin="a\nb\n")
    shell.ok("push", queue, "urgent", "--priority", "9", "--header", "k=v", "--key", "x")
    shell.ok("push", queue, "later", "--delay", "1h")
    shell.ok("push", queue, "much later", "--at", "2100-01-01T00:00")
    assert shell.json("queue", "show", queue)[0]["delayed"] == 2
    assert shell.ok("pull", queue, "-n", "3", "--ack").splitlines() == ["urgent", "a", "b"]


def test_what_is_not_done_in_time_expires(broker: Broker, timed: Any) -> None:
    id = timed.ok("job", "submit", "q", "{}", "--ttl", "30m", "--delay", "1h").strip()
    broker.advance("30m")
    done = timed("job", "wait", id, "--timeout", "30s")
    assert (done.returncode, done.stdout.split("\t")[1]) == (1, "expired")


def test_an_id_that_is_taken_is_refused_with_7(shell: Any, queue: str) -> None:
    shell.ok("push", queue, "x", "--id", "nightly")
    done = shell("push", queue, "x", "--id", "nightly", "--json")
    assert (done.returncode, error_of(done)["code"]) == (7, "AlreadyExists")
    assert shell("job", "submit", queue, "1", "--id", "nightly").returncode == 7
    assert shell.ok("job", "submit", queue, "1", "--id", "nightly", "--if-exists", "return") == f"{queue}/0\n"


def test_an_array_has_one_id_and_each_job_its_number(shell: Any, worked: str) -> None:
    id = shell.ok("job", "submit", worked, "--array", "1-50").strip()
    assert id == f"{worked}/0-49"
    assert shell.ok("job", "wait", id, "--timeout", "30s") == f"{id}\t50 done\t-\n"
    assert shell.json("job", "result", id) == [10 * number for number in range(1, 51)]
    assert shell.json("job", "show", id) == [{"id": id, "jobs": 50, "statuses": {"done": 50}}]


def test_the_number_stands_where_the_arguments_say(shell: Any, worked: str) -> None:
    results = shell.ok(
        "job", "submit", worked, '{"index": "{index}", "file": "part-{index}"}', "--array", "3,5", "--wait"
    )
    assert results == "30\n50\n"


def test_an_array_in_which_one_fails_exits_1_and_says_how_many(shell: Any, worked: str) -> None:
    shell.ok("job", "submit", worked, "-", stdin='{"index": 1}\n{"fail": 1}\n{"index": 2}\n')
    done = shell("job", "wait", f"{worked}/0-2", "--json", "--timeout", "30s")
    assert done.returncode == 1
    (row,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert row["statuses"] == {"done": 2, "dead": 1}
    done = shell("job", "result", f"{worked}/0-2")
    assert (done.returncode, done.stdout) == (1, "10\nnull\n20\n")
    assert done.stderr.startswith(f"error: job {worked}/1 failed")
    done = shell("job", "result", f"{worked}/0-2", "--json")
    assert (done.returncode, done.stdout) == (1, "10\nnull\n20\n")
    assert json.loads(done.stderr)["error"]["code"] == "JobFailed"


def test_an_array_that_does_not_end_in_time_is_6(shell: Any, queue: str) -> None:
    id = shell.ok("job", "submit", queue, "{}", "--array", "1-3").strip()
    assert shell("job", "wait", id, "--timeout", "100ms").returncode == 6


def test_a_job_runs_after_its_parents(broker: Broker, timed: Any) -> None:
    with working(timed.endpoint, "q"):
        first = timed.ok("job", "submit", "q", "--array", "1-3", "--delay", "1h").strip()
        last = timed.ok("job", "submit", "q", '{"index": 7}', "--after", first).strip()
        assert [row["id"] for row in timed.json("job", "list", "q", "--status", "waiting")] == [last]
        broker.advance("1h")
        assert timed.ok("job", "wait", last, "--timeout", "30s").split()[1] == "done"
        assert timed("job", "wait", first, "--timeout", "30s").returncode == 0


def test_a_job_whose_parent_fails_is_cancelled_unless_it_is_released(broker: Broker, timed: Any) -> None:
    with working(timed.endpoint, "q"):
        parent = timed.ok("job", "submit", "q", '{"fail": 1}', "--delay", "1h").strip()
        lost = timed.ok("job", "submit", "q", "{}", "--after", parent).strip()
        kept = timed.ok("job", "submit", "q", "{}", "--after", parent, "--on-failure", "release").strip()
        broker.advance("1h")
        assert timed("job", "wait", lost, "--timeout", "30s").stdout.split("\t")[1] == "cancelled"
        assert timed.ok("job", "wait", kept, "--timeout", "30s").split("\t")[1] == "done"


def test_a_job_has_limits_of_its_own(shell: Any, worked: str) -> None:
    options = ["--max-failures", "1", "--retry-delay", "1s", "--retry-backoff", "exponential", "--time-limit", "1m"]
    assert shell.ok("job", "submit", worked, '{"index": 2}', *options, "--priority", "3", "--wait") == "20\n"


def test_a_queue_has_all_its_options(shell: Any, name: str) -> None:
    shell.ok("queue", "create", f"{name}.results")
    words = [
        "--max-messages", "9", "--max-bytes", "1GiB", "--overflow", "drop_oldest", "--max-message", "1MiB", "--rate",
        "10/m", "--max-leased", "4", "--max-failures", "3", "--retry-delay", "1s", "--retry-backoff", "exponential",
        "--retry-delay-max", "1h", "--retry-jitter", "20", "--result-ttl", "1d", "--unique", "1h", "--result-queue",
        f"{name}.results",
    ]  # fmt: skip
    made = shell.json("queue", "create", name, "--ordered-by", "key", *words)[0]["options"]
    expected = {
        "max_messages": 9, "max_bytes": 2**30, "overflow": "drop_oldest", "max_message": 2**20, "rate": [10, 60_000],
        "max_leased": 4, "max_failures": 3, "retry_delay_ms": 1000, "retry_backoff": "exponential",
        "retry_delay_max_ms": 3_600_000, "retry_jitter": 20, "result_ttl_ms": 86_400_000, "unique_ms": 3_600_000,
        "result_queue": f"{name}.results", "ordered_by": "key",
    }  # fmt: skip
    assert {option: made[option] for option in expected} == expected
    changed = shell.json("queue", "configure", name, "--rate", "none", "--max-message", "none", "--overflow", "reject")
    options = changed[0]["options"]
    assert (options["rate"], options["max_message"], options["overflow"]) == (None, None, "reject")
    assert options["max_leased"] == 4
