"""penstock push and pull, alone and in pipes."""

import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any


def test_what_is_pushed_is_pulled(shell: Any, queue: str) -> None:
    assert shell.json("push", queue, "hello", "--header", "a=1=2", "--key", "k") == [
        {"name": queue, "pushed": 1, "last": 0}
    ]
    (message,) = shell.json("pull", queue, "--ack")
    assert (message["offset"], message["attempt"], message["body"]) == (0, 1, "hello")
    assert (message["headers"], message["key"]) == ({"a": "1=2"}, "k")
    assert shell("pull", queue, "--wait", "20ms").returncode == 6


def test_every_line_of_stdin_is_a_message(shell: Any, queue: str) -> None:
    lines = [f"line {number}" for number in range(2500)]
    assert shell.json("push", queue, "-", stdin="\n".join(lines))[0]["pushed"] == 2500
    assert shell.ok("pull", queue, "-n", "0", "--wait", "200ms", "--ack").splitlines() == lines
    assert shell.json("queue", "show", queue)[0]["done"] == 2500


def test_no_line_is_no_message(shell: Any, queue: str) -> None:
    assert shell.json("push", queue, "-", stdin="") == [{"name": queue, "pushed": 0}]


def test_without_ack_messages_are_given_back_unharmed(shell: Any, queue: str) -> None:
    shell.ok("push", queue, "x")
    assert shell.ok("pull", queue) == "x\n"
    (message,) = shell.json("pull", queue)
    assert (message["attempt"], message["failures"]) == (2, 0)
    assert shell.json("queue", "show", queue)[0]["ready"] == 1


def test_a_pull_takes_no_more_than_it_was_asked_for(shell: Any, queue: str) -> None:
    shell.ok("push", queue, "-", stdin="a\nb\nc\n")
    assert shell.ok("pull", queue, "-n", "2", "--ack") == "a\nb\n"
    assert shell.ok("pull", queue, "-n", "2", "--ack", "--wait", "50ms") == "c\n"


def test_bytes_that_are_no_text_travel_unharmed(shell: Any, queue: str, tmp_path: Path) -> None:
    body = b"\xff\x00\nnot text"
    file = tmp_path / "body"
    file.write_bytes(body)
    shell.ok("push", queue, "--file", str(file))
    (message,) = shell.json("pull", queue)
    assert base64.b64decode(message["body_base64"]) == body
    assert "body" not in message


def test_a_full_queue_refuses_with_7(shell: Any, name: str) -> None:
    shell.ok("queue", "create", name, "--max-messages", "1")
    shell.ok("push", name, "one")
    done = shell("push", name, "two", "--json", "--timeout", "300ms")
    assert done.returncode == 7
    assert json.loads(done.stderr.splitlines()[-1])["error"]["code"] == "QueueFull"


def test_pushing_to_nowhere_is_3(shell: Any) -> None:
    assert shell("push", "nowhere", "x").returncode == 3


def test_pulling_from_nowhere_is_3(shell: Any) -> None:
    assert shell("pull", "nowhere").returncode == 3


def test_a_reader_that_leaves_ends_the_pull_quietly(shell: Any, queue: str) -> None:
    shell.ok("push", queue, "-", stdin="".join(f"{'x' * 100} {number}\n" for number in range(20_000)))
    command = f"{sys.executable} -m penstock.cli pull {queue} -n 0 --wait 100ms | head -n 1"
    environment = os.environ | {"PENSTOCK_ENDPOINT": shell.endpoint}
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert done.stdout == f"{'x' * 100} 0\n"
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert shell.json("queue", "show", queue)[0]["done"] == 0


def test_an_interrupted_pull_exits_130_and_gives_back_what_it_held(shell: Any, queue: str) -> None:
    shell.ok("push", queue, "x")
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock.cli", "pull", queue, "-n", "0", "--wait", "60s", "--endpoint", shell.endpoint],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"x\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert shell.json("queue", "show", queue)[0]["ready"] == 1


def test_who_prints_to_a_reader_that_has_gone_ends_with_141(shell: Any, queue: str) -> None:
    shell.ok("push", queue, "-", stdin="line\n" * 20_000)
    words = [sys.executable, "-m", "penstock.cli", "pull", queue, "-n", "0", "--endpoint", shell.endpoint]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141
    assert shell.json("queue", "show", queue)[0]["ready"] == 20_000
