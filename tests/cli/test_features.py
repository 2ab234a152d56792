"""Order, limits, tries, results and reasons on the command line; where somebody works, it is a plain consumer.

Lines run in the process of the test: there are many, and what a process of its own adds is seen in the other files.
"""

from __future__ import annotations

import io
import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from kit.daemons import until

import penstock
from penstock.cli.main import run

from .conftest import Shell

LIMIT_S = 20.0


@dataclass(frozen=True)
class Here(Shell):
    """Runs `penstock` here, with its own stdin, and what it writes caught."""

    monkeypatch: pytest.MonkeyPatch
    capfd: pytest.CaptureFixture[str]

    def __call__(self, *words: str, stdin: str | bytes = b"", **variables: str) -> subprocess.CompletedProcess[str]:
        assert not variables
        data = stdin.encode() if isinstance(stdin, str) else stdin
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.capfd.readouterr()
        with self.monkeypatch.context() as patch:
            patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
            patch.setenv("PENSTOCK_ENDPOINT", self.endpoint)
            code = run(words)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        return subprocess.CompletedProcess(words, code, *self.capfd.readouterr())


@pytest.fixture
def shell(daemon: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Here:
    return Here(daemon.endpoint, monkeypatch, capfd)


@pytest.fixture
def client(shell: Any) -> Iterator[penstock.Client]:
    with penstock.connect(shell.endpoint) as client:
        yield client


def take(consumer: penstock.Consumer) -> penstock.Message:
    message = consumer.receive(LIMIT_S)
    assert message is not None
    return message


def refusal(done: Any) -> tuple[int, str]:
    return done.returncode, json.loads(done.stderr.splitlines()[-1])["error"]["code"]


def test_of_a_key_one_message_is_in_hand_at_a_time(shell: Any, name: str) -> None:
    shell.ok("queue", "create", name, "--ordered-by", "key")
    shell.ok("push", name, "-", "--key", "a", stdin="a1\na2\n")
    shell.ok("push", name, "b1", "--key", "b")
    assert shell.ok("pull", name, "-n", "9", "--wait", "50ms") == "a1\nb1\n"
    assert shell.ok("pull", name, "-n", "1", "--ack") == "a1\n"
    assert shell.ok("pull", name, "-n", "9", "--wait", "50ms") == "a2\nb1\n"


def test_a_full_queue_makes_room_if_it_is_told_to(shell: Any, name: str) -> None:
    shell.ok("queue", "create", name, "--max-messages", "2", "--overflow", "drop_oldest")
    shell.ok("push", name, "1")
    shell.ok("push", name, "-", stdin="2\n3\n")
    assert [row["body"] for row in shell.json("queue", "peek", name)] == ["2", "3"]
    assert shell.ok("job", "show", f"{name}/0").splitlines()[1] == "status\texpired"


def test_what_is_too_large_or_too_much_is_refused_with_7(shell: Any, name: str) -> None:
    shell.ok("queue", "create", name, "--max-message", "10", "--max-bytes", "20")
    assert refusal(shell("push", name, "x" * 11, "--json")) == (7, "TooLarge")
    shell.ok("push", name, "x" * 10)
    assert refusal(shell("push", name, "x" * 10, "--json", "--timeout", "300ms")) == (7, "QueueFull")
    assert shell.json("queue", "show", name)[0]["ready"] == 1


@pytest.mark.parametrize(("option", "value", "given"), [("--rate", "1/h", 1), ("--max-leased", "2", 2)])
def test_no_more_are_given_than_is_allowed(shell: Any, name: str, option: str, value: str, given: int) -> None:
    shell.ok("queue", "create", name, option, value)
    shell.ok("push", name, "-", stdin="a\nb\nc\n")
    pulled = shell.ok("pull", name, "-n", "9", "--wait", "50ms")
    assert pulled.splitlines() == ["a", "b", "c"][:given]
    shell.ok("queue", "configure", name, option, "none")
    assert shell.ok("pull", name, "-n", "3", "--ack") == "a\nb\nc\n"


def test_a_failed_job_waits_for_its_next_try_and_is_dead_after_its_last(
    shell: Any, client: penstock.Client, name: str
) -> None:
    words = ["--max-failures", "2", "--retry-delay", "1h", "--retry-backoff", "exponential", "--retry-jitter", "10"]
    shell.ok("queue", "create", name, *words)
    id = shell.ok("job", "submit", name, "{}").strip()
    with client.consumer(name, prefetch=0) as consumer:
        take(consumer).nack(error=OSError("no disk")).wait()
        (row,) = shell.json("job", "show", id)
        assert (row["status"], row["failures"], row["error"]["type"]) == ("failed", 1, "OSError")
        pause_ms = row["due_ms"] - row["history"][-1]["at_ms"]
        assert 0.9 * 3_600_000 <= pause_ms <= 3_600_000
        (reason,) = [row["text"] for row in shell.json("job", "explain", id) if row["code"] == "delayed"]
        assert "no disk" in reason
        other = shell.ok("job", "submit", name, "{}", "--max-failures", "1").strip()
        take(consumer).nack(error=OSError("none at all")).wait()
    assert shell("job", "wait", other, "--timeout", "20s").returncode == 1
    assert len(shell.json("queue", "peek", f"{name}.dead")) == 1
    assert [row["id"] for row in shell.json("job", "list", name, "--status", "dead")] == [other]


def test_a_running_job_is_cancelled_and_its_result_refused(shell: Any, client: penstock.Client, queue: str) -> None:
    id = shell.ok("job", "submit", queue, "{}").strip()
    with client.consumer(queue, prefetch=0) as consumer:
        message = take(consumer)
        assert shell.json("job", "list", queue, "--status", "running")[0]["id"] == id
        shell.ok("job", "cancel", id)
        with pytest.raises(penstock.LeaseLost):
            message.complete("too late").wait(LIMIT_S)
    done = shell("job", "result", id, "--json")
    assert refusal(done) == (1, "JobCancelled")


def test_results_live_as_long_as_they_are_told_and_go_where_they_are_told(
    shell: Any, client: penstock.Client, name: str
) -> None:
    shell.ok("queue", "create", name, "--result-ttl", "50ms", "--result-queue", f"{name}.results")
    id = shell.ok("job", "submit", name, "{}").strip()
    with client.consumer(name, prefetch=0) as consumer:
        take(consumer).complete({"sum": 3}).wait(LIMIT_S)
    until(lambda: client.job(id).status() == "expired", "its result is forgotten")
    assert refusal(shell("job", "result", id, "--json")) == (3, "NotFound")
    assert shell("pull", f"{name}.results", "--ack").returncode == 0
    assert shell("pull", f"{name}.results", "--wait", "50ms").returncode == 6


def test_an_id_is_free_again_after_its_time(shell: Any, name: str) -> None:
    shell.ok("queue", "create", name, "--unique", "50ms")
    shell.ok("push", name, "1", "--id", "a")
    assert refusal(shell("push", name, "2", "--id", "a", "--json")) == (7, "AlreadyExists")
    shell.ok("pull", name, "--ack")
    until(lambda: shell("push", name, "3", "--id", "a").returncode == 0, "the time of the id is over")
    assert shell.json("queue", "peek", name)[0]["offset"] == 1


def test_the_oldest_of_a_topic_go(shell: Any, client: penstock.Client, name: str) -> None:
    shell.ok("topic", "create", name, "--retention-messages", "2")
    shell.ok("push", name, "-", stdin="1\n")
    shell.ok("push", name, "-", stdin="2\n3\n")
    until(lambda: client.describe(name).first == 1, "what is too much goes")
    assert shell.json("topic", "show", name)[0]["first"] == 1
    assert shell.ok("topic", "replay", name) == "2\n3\n"


def test_it_is_explained_what_a_job_waits_for(shell: Any, client: penstock.Client, name: str) -> None:
    shell.ok("queue", "create", name, "--max-leased", "1", "--ordered-by", "key")
    for words in (["--key", "k"], ["--key", "k"], ["--after", f"{name}/1"]):
        shell.ok("job", "submit", name, "{}", *words)
    with client.consumer(name, prefetch=0) as consumer:
        take(consumer)
        codes = [{row["code"] for row in shell.json("job", "explain", f"{name}/{at}")} for at in range(3)]
    assert codes[0] == {"running"}
    assert codes[1] >= {"key", "max_leased"}
    assert codes[2] >= {"parents"}
