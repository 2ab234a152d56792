"""penstock job log, show and wait: what a running job tells."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from kit.daemons import until
from rich.console import Console
from rich.progress import Progress

from penstock.cli.job_bars import BARS_MAX, job_bars
from penstock.client import Client, Consumer, connect


@pytest.fixture
def client(shell: Any) -> Iterator[Client]:
    with connect(shell.endpoint) as connected:
        yield connected


@pytest.fixture
def consumer(client: Client, queue: str) -> Iterator[Consumer]:
    with client.consumer(queue) as consumer:
        yield consumer


def test_show_tells_progress_and_the_end_of_the_log(shell: Any, client: Client, consumer: Consumer, queue: str) -> None:
    client.submit(queue, {})
    message = consumer.receive(10)
    assert message is not None
    message.progress(0.4, "half way")
    message.log(*(f"line {n}" for n in range(30))).wait()
    done = shell("job", "show", f"{queue}/0")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert ["progress", "40%"] in rows
    assert ["text", "half way"] in rows
    assert [row[1] for row in rows if row[0] == "log"] == [f"line {n}" for n in range(10, 30)]
    assert "10 earlier lines" in done.stderr


def test_log_prints_all_or_the_latest_lines(shell: Any, client: Client, consumer: Consumer, queue: str) -> None:
    client.submit(queue, {})
    message = consumer.receive(10)
    assert message is not None
    assert shell.ok("job", "log", f"{queue}/0") == ""
    message.log("one", "two").wait()
    assert shell.ok("job", "log", f"{queue}/0") == "one\ntwo\n"
    assert shell.ok("job", "log", f"{queue}/0", "--lines", "1") == "two\n"
    assert shell.json("job", "log", f"{queue}/0") == [{"line": "one"}, {"line": "two"}]
    assert shell("job", "log", f"{queue}/0", "--follow", "--timeout", "100ms").returncode == 6
    assert shell("job", "log", f"{queue}/7").returncode == 3


def test_log_says_what_is_gone(shell: Any, client: Client, consumer: Consumer, queue: str) -> None:
    client.submit(queue, {})
    message = consumer.receive(10)
    assert message is not None
    for _ in range(2):
        message.log(*(f"line {n}" for n in range(600))).wait()
    done = shell("job", "log", f"{queue}/0")
    assert len(done.stdout.splitlines()) == 1000
    assert "200 older lines are gone" in done.stderr


def test_a_log_is_followed_until_the_job_has_ended(shell: Any, client: Client, consumer: Consumer, queue: str) -> None:
    client.submit(queue, {})
    message = consumer.receive(10)
    assert message is not None
    message.log("one").wait()
    command = [
        sys.executable,
        "-m",
        "penstock.cli",
        "job",
        "log",
        f"{queue}/0",
        "--follow",
        "--endpoint",
        shell.endpoint,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "one\n"
        message.log("two")
        message.complete(1).wait()
        assert follower.stdout.read() == "two\n"
    assert follower.returncode == 0


def test_running_jobs_have_bars_while_one_waits(client: Client, consumer: Consumer, queue: str) -> None:
    jobs = client.submit_many(queue, [{}] * (BARS_MAX + 1))
    messages = consumer.receive_many(BARS_MAX + 1, 10)
    console = Console(file=io.StringIO(), force_terminal=True)
    with Progress(console=console, auto_refresh=False) as bar, job_bars(client, jobs, bar) as bars:
        messages[0].progress(0.25, "loading").wait()
        until(lambda: bar.tasks, "the first bar is there")
        assert (bar.tasks[0].description, bar.tasks[0].percentage) == (f"{queue}/0 loading", 25)
        for message in messages:
            message.progress(0.5)
        consumer.flush()
        until(lambda: len(bar.tasks) == BARS_MAX, "as many as there is room for are there")
        bars.ended(jobs[0].id)
        messages[-1].progress(0.75).wait()
        until(lambda: any(task.percentage == 75 for task in bar.tasks), "the last one got the room of the first")
        bars.show("other/0", 0.5, "")
        assert len(bar.tasks) == BARS_MAX
