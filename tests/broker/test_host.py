"""The system around a daemon: open files, and systemd."""

import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.broker.host import tell_systemd

LIMITS = (
    "import resource as r; from penstock.broker.host import raise_file_limit; "
    "r.setrlimit(r.RLIMIT_NOFILE, (64, r.getrlimit(r.RLIMIT_NOFILE)[1])); raise_file_limit(); "
    "print(r.getrlimit(r.RLIMIT_NOFILE)[0])"
)


def test_a_daemon_may_open_as_many_files_as_the_system_lets_it() -> None:
    done = subprocess.run([sys.executable, "-c", LIMITS], capture_output=True, text=True, check=True)
    assert int(done.stdout) == resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def test_systemd_is_told_by_file_or_by_name_where_it_asks_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address, shown in ((str(tmp_path / "n"), str(tmp_path / "n")), (f"\0{tmp_path}", f"@{tmp_path}")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(address)
            monkeypatch.setenv("NOTIFY_SOCKET", shown)
            tell_systemd("READY=1")
            assert systemd.recv(100, socket.MSG_DONTWAIT) == b"READY=1"


def test_a_daemon_that_systemd_does_not_wait_for_tells_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    tell_systemd("READY=1")
    assert not caplog.records
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    tell_systemd("READY=1")
    assert "systemd could not be told READY=1" in caplog.text
