"""What a user may type wrong: an exit code, words that name the mistake, nothing on stdout, and nothing changed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from kit.told import state_digest

import penstock
from penstock.cli.main import run
from penstock.cli.private import PrivateDaemon

NO_OPTION = re.compile(r"\b(?!drop_oldest|publish_batches)[a-z]+_[a-z]\w*|\bnil\b")
USAGE, NOT_FOUND, TIMED_OUT, REFUSED = 2, 3, 6, 7

# (exit code, words of the message, the command)
CASES: list[tuple[int, str, str]] = [
    (USAGE, "No such command 'queues'", "queues list"),
    (USAGE, "No such command 'make'", "queue make a"),
    (USAGE, "--colour", "queue list --colour"),
    (USAGE, "Missing argument 'NAME'", "queue create"),
    (USAGE, "no name", "queue create a/b"),
    (USAGE, "no name", "queue create -- -x"),
    (USAGE, "no name", "topic create é"),
    (USAGE, "'many' is no count", "queue create new --max-messages many"),
    (USAGE, "'0' is no count", "queue create new --max-messages 0"),
    (USAGE, "'-3' is no count", "queue create new --max-failures -3"),
    (USAGE, "is no size", "queue create new --max-bytes huge"),
    (USAGE, "is no duration", "queue create new --retry-delay soon"),
    (USAGE, "is no duration", "queue create new --result-ttl -1s"),
    (USAGE, "--retention", "queue create new --retention 1d"),
    (USAGE, "is no duration", "topic create new --retention soon"),
    (USAGE, "is no size", "topic create new --retention-bytes lots"),
    (USAGE, "'few' is no count", "topic create new --retention-messages few"),
    (USAGE, "--max-messages", "topic create new --max-messages 5"),
    (USAGE, "--max-messages is for queues", "queue configure news --max-messages 5"),
    (USAGE, "--retention is for topics", "topic configure jobs --retention 1d"),
    (REFUSED, "jobs exists", "queue create jobs"),
    (REFUSED, "jobs exists", "topic create jobs"),
    (REFUSED, "group g", "group create news g"),
    *[(NOT_FOUND, "nowhere", f"queue {verb} nowhere") for verb in ("show", "pause", "resume", "peek", "configure")],
    *[(NOT_FOUND, "nowhere", f"queue {verb} nowhere --yes") for verb in ("delete", "purge")],
    (NOT_FOUND, "nowhere", "topic show nowhere"),
    (NOT_FOUND, "nowhere", "topic delete nowhere --yes"),
    (NOT_FOUND, "nowhere", "topic replay nowhere"),
    (NOT_FOUND, "nowhere", "group list nowhere"),
    (NOT_FOUND, "nowhere", "group create nowhere g"),
    (NOT_FOUND, "'h'", "group show news h"),
    (NOT_FOUND, "'h'", "group delete news h --yes"),
    (NOT_FOUND, "'h'", "group seek news h --start earliest"),
    (NOT_FOUND, "nowhere", "push nowhere body"),
    (NOT_FOUND, "nowhere", "pull nowhere"),
    (NOT_FOUND, "nowhere", "job list nowhere"),
    (NOT_FOUND, "nowhere", "job submit nowhere 1"),
    (NOT_FOUND, "jobs/99", "job cancel jobs/99"),
    (USAGE, "is a queue", "group create jobs g"),
    (USAGE, "is a queue", "topic replay jobs"),
    (USAGE, "is a topic", "queue purge news --yes"),
    (USAGE, "is a topic", "job list news"),
    (USAGE, "is a topic", "job submit news {}"),
    (USAGE, "works on one queue", "pool start --queue jobs --queue news"),
    (USAGE, "offset 9", "group create news new --start offset --at 9"),
    (USAGE, "needs --at", "group create news new --start offset"),
    (USAGE, "--at 3", "group create news new --start latest --at 3"),
    (USAGE, "'middle'", "group create news new --start middle"),
    (USAGE, "'soon'", "group seek news g --start time --at soon"),
    (USAGE, "--start", "group seek news g"),
    (USAGE, "'nowhere'", "topic replay news --from nowhere"),
    (USAGE, "'later'", "topic replay news --until later"),
    (USAGE, "-1", "topic replay news -n -1"),
    (USAGE, "one body", "push jobs"),
    (USAGE, "has no =", "push jobs body --header novalue"),
    (USAGE, "penstock-", "push jobs body --header penstock-x=1"),
    (USAGE, "does not exist", "push jobs --file no/such/file"),
    (USAGE, "one body", "push jobs body --file README.md"),
    (USAGE, "-1", "pull jobs -n -1"),
    (USAGE, "is no duration", "pull jobs --wait soon"),
    (USAGE, "is no duration", "pull jobs --lease soon"),
    (USAGE, "--lease is", "pull jobs --lease 0"),
    (USAGE, "--lease is 30d\nhint: give a duration from 1ms to 12h", "pull jobs --lease 30d"),
    (USAGE, "--delay is 99999d", "push jobs body --delay 99999d"),
    (USAGE, "--ttl is 99999d", "job submit jobs {} --ttl 99999d"),
    (USAGE, "--delay and --at are both given", "job submit jobs {} --delay 1s --at 08:00"),
    (USAGE, "--on-failure is given, and --after is not", "job submit jobs {} --on-failure release"),
    (USAGE, "option --retention-bytes is 0", "topic create new --retention-bytes 0"),
    (USAGE, "option --max-messages", "queue create new --max-messages 99999999999999999"),
    (USAGE, "--every is 1ms", "schedule add s --queue jobs --every 1ms"),
    (USAGE, "--cron is None, --every is None", "schedule add s --queue jobs"),
    (USAGE, "is no rate", "queue create new --rate 99999999999/s"),
    (USAGE, "'nowhere'", "pull news --group new --start nowhere"),
    (NOT_FOUND, "''", "pull news"),
    (USAGE, "0", "queue peek jobs -n 0"),
    (USAGE, "1001", "queue peek jobs -n 1001"),
    (USAGE, "is no JSON", "job submit jobs {oops"),
    (USAGE, "id", "job show jobs"),
    (USAGE, "id", "job show jobs/x"),
    (USAGE, "id", "job cancel /1"),
    (USAGE, "'lost'", "job list jobs --status lost"),
    (USAGE, "is no duration", "--timeout soon status"),
    (USAGE, "--precious", "queue delete jobs --precious"),
    (USAGE, "say --yes", "queue delete jobs"),
    (USAGE, "say --yes", "queue purge jobs"),
    (USAGE, "say --yes", "topic delete news"),
    (USAGE, "say --yes", "group delete news g"),
    (USAGE, "there is no case", "bench --cases speed"),
    (USAGE, "nodes", "bench --nodes 9"),
    (USAGE, "nothing.like.it", "events nothing.like.it"),
    (USAGE, "0 is not in the range", "cluster remove 0"),
    (NOT_FOUND, "9", "cluster remove 9 --yes"),
    (USAGE, "'tcsh'", "completion tcsh"),
]


@pytest.fixture(scope="module")
def shop() -> Iterator[penstock.Client]:
    """A daemon where there is something to spoil."""
    with PrivateDaemon() as daemon, penstock.connect(daemon.endpoint) as client:
        client.create_queue("jobs")
        client.create_topic("news", retention="7d")
        client.create_group("news", "g")
        client.submit_many("jobs", [1, 2, 3])
        with client.producer("news") as producer:
            producer.send_many([b"a", b"b"]).wait()
        yield client


@pytest.fixture
def typed(shop: penstock.Client, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Runs a line as it is typed: exit code, stdout, stderr. Nobody sits at a terminal."""
    monkeypatch.setenv("PENSTOCK_ENDPOINT", shop.status()["primary"])

    def typed(line: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run(line.split())
        return code, *capfd.readouterr()

    with open(os.devnull, encoding="utf-8") as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        yield typed


def test_there_are_many_cases() -> None:
    assert len(CASES) > 80


@pytest.mark.parametrize(("code", "said", "line"), CASES, ids=[line for *_, line in CASES])
def test_a_mistake_is_named_and_changes_nothing(
    shop: penstock.Client, typed: Any, code: int, said: str, line: str
) -> None:
    before = state_digest(shop)
    found, out, told = typed(line)
    assert (found, out) == (code, ""), told
    assert told.startswith("error: ")
    assert said in told
    assert "Traceback" not in told
    assert not NO_OPTION.search(told), "this is how Python or the wire has it"
    assert state_digest(shop) == before


@pytest.mark.parametrize("line", ["queue show nowhere", "queue create", "queue create jobs", "topic replay jobs"])
def test_a_mistake_is_an_object_with_json(shop: penstock.Client, typed: Any, line: str) -> None:
    code, out, told = typed(f"{line} --json")
    error = json.loads(told)["error"]
    assert code in (USAGE, NOT_FOUND, REFUSED)
    assert out == ""
    assert set(error) == {"code", "message", "hint", "retryable"}
    assert error["retryable"] is False


def test_nothing_that_came_is_told_by_the_exit_code(shop: penstock.Client, typed: Any) -> None:
    shop.create_queue("empty", exist_ok=True)
    assert typed("pull empty --wait 10ms")[0] == TIMED_OUT
