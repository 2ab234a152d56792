"""penstock schedule, and that what it makes runs through a daemon."""

import json
from typing import Any

from penstock.testing import Broker


def test_a_schedule_makes_a_job_that_is_taken_and_done(broker: Broker, timed: Any) -> None:
    shell, queue = timed, "q"
    (made,) = shell.json("schedule", "add", "tick", "hello", "--queue", queue, "--every", "1d")
    assert (made["name"], made["queue"], made["when"], made["fired"]) == ("tick", queue, "every 86400s", 0)
    broker.advance("1d")
    (message,) = shell.json("pull", queue, "--wait", "20s", "--ack")
    assert message["body"] == "hello"
    (fired,) = shell.json("events", "schedule.fired", "--after", "earliest", "-n", "1")
    assert (fired["queue"], fired["first"], fired["more"]["schedule"]) == (queue, message["offset"], "tick")
    assert fired["more"]["due_ms"] == made["next_ms"]
    (shown,) = shell.json("schedule", "show", "tick")
    assert shown["fired"] == 1
    assert shown["job"] == "hello"
    assert shown["last_job"].startswith(f"{queue}/")
    assert shell.json("schedule", "pause", "tick")[0]["paused"] is True
    assert shell.json("schedule", "resume", "tick")[0]["paused"] is False
    assert shell.json("schedule", "remove", "tick", "--yes") == [{"removed": "tick"}]
    assert shell("schedule", "show", "tick").returncode == 3


def test_a_cron_line_tells_its_next_times(shell: Any, queue: str) -> None:
    words = ["--cron", "0 12 * * MON", "--tz", "Asia/Tokyo", "--args", '{"assets": [1]}', "--missed", "skip"]
    words += ["--priority", "3", "--ttl", "1d"]
    shell.ok("schedule", "add", "weekly", "--queue", queue, "--no-overlap", *words)
    (shown,) = shell.json("schedule", "show", "weekly")
    assert (shown["job"], shown["missed"], shown["overlap"]) == ({"assets": [1]}, "skip", False)
    assert shown["properties"] == {"priority": 3, "ttl_ms": 86_400_000}
    assert len(shown["upcoming"]) == 5
    assert shown["upcoming"][0] == shown["next"]
    assert all(time.endswith("T12:00:00+09:00") for time in shown["upcoming"])
    line = next(line for line in shell.ok("schedule", "list").splitlines() if line.startswith("weekly"))
    assert line.split("\t")[:3] == ["weekly", queue, "0 12 * * MON (Asia/Tokyo)"]
    assert shell.ok("schedule", "run", "weekly") == f"{queue}/0\n"
    assert shell("schedule", "run", "weekly").returncode == 2


def test_what_is_wrong_is_usage_and_named(shell: Any, queue: str) -> None:
    for words, named in (
        (["--cron", "0 25 * * *"], "its hour is '25'"),
        (["--cron", "0 0 31 2 *"], "never comes"),
        (["--cron", "@daily", "--tz", "Berlin"], "tz is 'Berlin'"),
        (["--cron", "@daily", "--every", "1h"], "every is"),
        (["--every", "1h", "--args", "{"], "--args is no JSON"),
        (["--every", "1h", "--args", "1", "BODY"], "both BODY and --args"),
    ):
        done = shell("schedule", "add", "wrong", "--queue", queue, *words, "--json")
        assert done.returncode == 2, words
        assert named in json.loads(done.stderr)["error"]["message"]
    assert shell("schedule", "add", "lost", "--queue", "nowhere", "--every", "1h").returncode == 3


def test_removing_asks(shell: Any, queue: str) -> None:
    shell.ok("schedule", "add", "kept", "--queue", queue, "--every", "1h")
    done = shell("schedule", "remove", "kept")
    assert done.returncode == 2
    assert "--yes" in done.stderr
