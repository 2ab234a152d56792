"""The command line as a user types it, against a private daemon, or one whose clock the test turns."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from penstock.cli.private import PrivateDaemon
from penstock.testing import Broker
from penstock.testing.fixtures import broker as broker

RUN_S = 60.0


@dataclass(frozen=True)
class Shell:
    """Runs `penstock` with the daemon's endpoint in the environment, as a script would."""

    endpoint: str

    def __call__(self, *words: str, stdin: str | bytes = b"", **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_")}
        done = subprocess.run(
            [sys.executable, "-m", "penstock.cli", *words],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            timeout=RUN_S,
            env=environment | {"PENSTOCK_ENDPOINT": self.endpoint} | variables,
            check=False,
        )
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def ok(self, *words: str, stdin: str | bytes = b"") -> str:
        """The output of a command that succeeds."""
        done = self(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *words: str, stdin: str | bytes = b"") -> list[Any]:
        """The objects that a command prints with --json."""
        return [json.loads(line) for line in self.ok(*words, "--json", stdin=stdin).splitlines()]


@pytest.fixture(scope="module")
def daemon() -> Iterator[PrivateDaemon]:
    with PrivateDaemon() as daemon:
        yield daemon


@pytest.fixture(scope="module")
def shell(daemon: PrivateDaemon) -> Shell:
    return Shell(daemon.endpoint)


@pytest.fixture
def timed(broker: Broker) -> Shell:
    """That of a daemon whose clock the test turns, with `broker`."""
    shell = Shell(broker.endpoints[0])
    shell.ok("queue", "create", "q")
    return shell


_numbers = count()


@pytest.fixture
def name() -> str:
    """A name that no other test of this daemon uses."""
    return f"q{next(_numbers)}"


@pytest.fixture
def queue(shell: Shell, name: str) -> str:
    shell.ok("queue", "create", name)
    return name
