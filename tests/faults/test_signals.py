"""SIGTERM and SIGHUP, as clients see them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.daemons import Raw

import penstock
from faults.crew import daemon_at, until
from penstock.cli.private import PrivateDaemon
from penstock.peers import wire


@pytest.fixture
def daemon(short: Path) -> Iterator[PrivateDaemon]:
    with daemon_at(short, "[limits]\nmax_batch = 50\n") as running:
        with penstock.connect(running.endpoint) as client:
            client.create_queue("q")
        yield running


def test_sigterm_answers_what_waits_and_ends_well(daemon: PrivateDaemon) -> None:
    with Raw(daemon.endpoint) as raw:
        raw.hello()
        for sequence in (-101, -102, -103):
            raw.send(wire.request("pull", sequence, {"queue": "q", "messages": 1, "wait_ms": 600_000}))
        raw.send(wire.request("outcomes", -104, {"queue": "q", "after": 0, "limit": 1, "wait_ms": 600_000}))
        assert raw.ask("ping").status == "ok"  # the daemon has heard what was said before
        os.kill(daemon.pid, signal.SIGTERM)
        replies = {reply.sequence: reply for reply in (raw.receive() for _ in range(4))}
        for sequence in (-101, -102, -103):
            assert replies[sequence].status == "ok"
            assert replies[sequence].body == {"lease": None, "ends_ms": 0, "ranges": ()}
        assert replies[-104].body == {"next": 0, "outcomes": ()}
        assert daemon.wait() == 0


def max_batch(endpoint: str) -> int:
    with penstock.connect(endpoint) as client:
        return client._connection.session.max_batch


def hang_up(daemon: PrivateDaemon, config: str, told: str) -> str:
    """SIGHUP with this configuration; what is then logged, once `told` is in it."""
    before = len(daemon.log.read_text())
    (daemon.folder / "daemon.toml").write_text(config)
    os.kill(daemon.pid, signal.SIGHUP)
    until(lambda: told in daemon.log.read_text()[before:], f"{told!r} is logged")
    return daemon.log.read_text()[before:]


def test_sighup_takes_over_limits_and_names_what_needs_a_restart(daemon: PrivateDaemon) -> None:
    assert max_batch(daemon.endpoint) == 50
    said = hang_up(daemon, '[limits]\nmax_batch = 7\n[storage]\nmap_size = "1GiB"\n', "reload")
    assert "applied=limits.max_batch" in said
    assert "needs_restart=storage.map_size" in said
    assert max_batch(daemon.endpoint) == 7
    with penstock.connect(daemon.endpoint) as client, client.producer("q") as producer:
        producer.send_many([b"x"] * 7).wait()
        with pytest.raises(penstock.TooLarge):
            producer.send_many([b"x"] * 8)


@pytest.mark.parametrize(
    "bad", ["[limits]\nmax_batch = 7\nno_such_key = 1\n", "[limits]\nmax_batch = 0\n", "[limits\n", "max_batch = 7\n"]
)
def test_sighup_with_a_bad_file_changes_nothing(daemon: PrivateDaemon, bad: str) -> None:
    said = hang_up(daemon, bad, "nothing was changed")
    assert "ERROR" in said
    assert "Traceback" not in said
    assert max_batch(daemon.endpoint) == 50
