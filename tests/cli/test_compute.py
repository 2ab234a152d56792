"""penstock pool, demo, bench: the whole way, as a user types it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

CASES = ("publish", "publish_batches", "consume", "pipeline", "senders", "latency", "delivery")


def test_a_detached_pool_works_shows_in_status_and_stops(shell: Any, tmp_path: Path) -> None:
    state = ("--state-dir", str(tmp_path))
    (started,) = shell.json("pool", "start", "--ranks", "1", "--detach", "--log", str(tmp_path / "log"), *state)
    try:
        assert (started["phase"], started["queue"], started["ranks"]) == ("ready", "forecast", 1)
        result = json.loads(shell.ok("job", "submit", "forecast", '{"assets": [3]}', "--wait"))
        assert len(result) == 1
        (status,) = shell.json("pool", "status", *state)
        assert status["pid"] == started["pid"]
        assert shell.ok("pool", "status", *state).split("\t")[-1] == "\n"  # nothing runs
    finally:
        (stopped,) = shell.json("pool", "stop", "forecast", *state)
    assert stopped["pid"] == started["pid"]
    # Whoever inherited it may not have collected it yet.
    assert not psutil.pid_exists(started["pid"]) or psutil.Process(started["pid"]).status() == psutil.STATUS_ZOMBIE
    assert shell.json("pool", "status", *state) == []
    assert shell("pool", "stop", "forecast", *state).returncode == 3


def test_log_without_detach_is_usage(shell: Any) -> None:
    assert shell("pool", "start", "--log", "x").returncode == 2


def test_the_demo_forecasts_and_every_result_agrees_with_polyfit(shell: Any) -> None:
    done = shell("demo", "forecast", "--jobs", "200", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report) == {"jobs", "done", "failed", "seconds", "jobs_per_second", "max_error"}
    assert (report["jobs"], report["done"], report["failed"]) == (200, 200, 0)
    assert report["max_error"] <= 1e-9


def test_a_terminated_demo_leaves_neither_folder_nor_process(shell: Any, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock.cli", "demo", "forecast", "--jobs", "500000"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("penstock-*/data/endpoint")):
        assert time.monotonic() < deadline, "its daemon listens"
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    assert process.wait(60) == 143
    assert list(tmp_path.glob("penstock-*")) == []
    _, alive = psutil.wait_procs(family, 30)
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []


def test_the_demo_shows_some_results(shell: Any) -> None:
    done = shell("demo", "forecast", "--jobs", "20", "--ranks", "1")
    assert done.returncode == 0, done.stderr
    assert all(len(line.split("\t")) == 5 for line in done.stdout.splitlines())
    assert "jobs/s" in done.stderr


@pytest.mark.parametrize("case", CASES)
def test_each_case_of_the_benchmark_gives_its_object(shell: Any, case: str) -> None:
    # On the test's daemon and with few messages: the shape and the counting, not the speed.
    done = shell("bench", "--json", "--cases", case, "--messages", "3000", "--seconds", "200ms")
    assert done.returncode == 0, done.stderr
    (row,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert set(row) == {"case", "nodes", "size", "batch", "clients", "rate", "p50_ms", "p99_ms", "durability"}
    assert (row["case"], row["nodes"], row["size"], row["durability"]) == (case, 1, 100, "fsync")
    assert row["rate"] > 0
    assert (row["p50_ms"] is not None) == (case in ("senders", "latency", "delivery"))


def test_the_benchmark_leaves_no_queue_behind(shell: Any) -> None:
    shell.ok("bench", "--cases", "publish", "--messages", "1000")
    assert not [item for item in shell.json("queue", "list") if item["name"].startswith("bench-")]


def test_a_backlog_needs_a_daemon_of_its_own(shell: Any) -> None:
    assert "of its own" in shell("bench", "--cases", "backlog").stderr


def test_the_backlog_case_tells_memory_and_restart(shell: Any) -> None:
    done = shell("bench", "--cases", "backlog", "--messages", "20000", "--json", PENSTOCK_ENDPOINT="")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["backlog"] == 20000
    assert row["rss_anon_mb"] > 0
    assert row["restart_s"] > 0
    assert row["consume_ratio"] > 0
