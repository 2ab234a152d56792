"""penstock events."""

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from subprocess import PIPE
from typing import Any

from kit.daemons import until

import penstock
from penstock.cli.ports import HeldPorts
from penstock.cli.private import PrivateDaemon


def test_events_are_printed_as_they_were_told(shell: Any, queue: str) -> None:
    created = shell.json("events", "queue.created", "--after", "earliest", "--timeout", "1s")[-1]
    assert (created["type"], created["queue"]) == ("queue.created", queue)
    shell.ok("queue", "pause", queue)
    shell.ok("queue", "resume", queue)
    found = shell.json("events", "queue.*", "--after", created["cursor"], "-n", "2")
    assert [(it["type"], it["queue"]) for it in found] == [("queue.paused", queue), ("queue.resumed", queue)]
    line = shell.ok("events", "queue.*", "--after", created["cursor"], "-n", "1").rstrip("\n").split("\t")
    assert (line[0], line[2], line[3]) == (found[0]["cursor"], "queue.paused", queue)


def test_nothing_within_the_timeout_is_6(shell: Any) -> None:
    assert shell("events", "member.*", "--timeout", "100ms").returncode == 6


def test_a_pattern_that_nothing_is_like_is_usage(shell: Any) -> None:
    done = shell("events", "quue.*", "--json")
    assert done.returncode == 2
    assert "quue" in json.loads(done.stderr)["error"]["message"]


def test_events_stream_until_they_are_interrupted(shell: Any, queue: str) -> None:
    words = [sys.executable, "-m", "penstock.cli", "events", "queue.paused", "--json", "--after", "earliest"]
    environment = os.environ | {"PENSTOCK_ENDPOINT": shell.endpoint}
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment, text=True) as process:
        shell.ok("queue", "pause", queue)
        assert process.stdout is not None
        while json.loads(process.stdout.readline())["queue"] != queue:
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


def test_a_stream_of_events_waits_for_a_daemon_that_is_away() -> None:
    words = [sys.executable, "-m", "penstock.cli", "events", "queue.created"]
    ports = HeldPorts()
    with closing(ports), PrivateDaemon(listen=ports.endpoint()) as daemon:
        environment = os.environ | {"PENSTOCK_ENDPOINT": daemon.endpoint}
        with subprocess.Popen(words, stdout=PIPE, stderr=PIPE, env=environment, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            with penstock.connect(daemon.endpoint) as client:
                until(lambda: client.status()["parked"], "it watches")
            daemon.kill()
            assert "events go on once there is one" in process.stderr.readline()
            daemon.start()
            with penstock.connect(daemon.endpoint) as client:
                client.create_queue("later")
            assert "\tlater\t" in process.stdout.readline()
            process.terminate()
            assert process.wait(20) == 143
