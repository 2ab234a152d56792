"""penstock serve and up: start, stop, locks, reload; and that nothing outlives its parent."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import penstock
from penstock.cli.private import PrivateDaemon, wait_endpoint
from penstock.compute.registry import PoolState, pool_status

LIMIT_S = 60.0


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def pools_at(endpoint: str) -> list[PoolState]:
    return [state for state in pool_status() if state.endpoint == endpoint]


class Running:
    """A `penstock` verb in the background, with its output in a file."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.log = folder / "log"
        self._file = self.log.open("wb")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "penstock.cli", *words],
            stdout=self._file,
            stderr=self._file,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env=environment,
        )

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def descendants(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(LIMIT_S)
        self._file.close()


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    runs: list[Running] = []

    def begin(*words: str) -> Running:
        folder = tmp_path / f"run{len(runs)}"
        folder.mkdir()
        runs.append(Running(folder, *words))
        return runs[-1]

    yield begin
    for run in runs:
        run.end()


def serve(start: Start, data: Path, *words: str) -> tuple[Running, str]:
    run = start("serve", "--data", str(data), "--listen", "tcp://127.0.0.1:*", *words)
    return run, wait_endpoint(data / "endpoint", run.process, run.log)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_daemon_cleanly(start: Start, tmp_path: Path, number: int) -> None:
    run, endpoint = serve(start, tmp_path / "data")
    assert endpoint in run.said()
    run.process.send_signal(number)
    assert run.process.wait(LIMIT_S) == 0
    assert "Traceback" not in run.said()


def test_systemd_is_told_when_the_daemon_is_ready_and_when_it_stops(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(LIMIT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        run, _ = serve(start, tmp_path / "data")
        assert systemd.recv(100) == b"READY=1"
        run.process.terminate()
        assert systemd.recv(100) == b"STOPPING=1"


def test_a_data_folder_that_cannot_be_written_to_is_named(start: Start, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "endpoint.new").mkdir(parents=True)
    run = start("serve", "--data", str(data), "--listen", "tcp://127.0.0.1:*")
    assert run.process.wait(LIMIT_S) == 1
    assert f"{data}/endpoint.new: Is a directory" in run.said()
    assert "Traceback" not in run.said()


def test_a_second_daemon_on_the_same_data_is_refused(start: Start, tmp_path: Path) -> None:
    serve(start, tmp_path / "data")
    second = start("serve", "--data", str(tmp_path / "data"), "--listen", "tcp://127.0.0.1:*")
    assert second.process.wait(LIMIT_S) == 1
    assert "error: " in second.said()
    assert str(tmp_path / "data") in second.said()
    assert "Traceback" not in second.said()


def test_a_port_that_is_taken_is_told(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        run = start("serve", "--data", str(tmp_path / "data"), "--listen", endpoint)
        assert run.process.wait(LIMIT_S) == 1
    assert endpoint in run.said()
    assert "Traceback" not in run.said()


def test_an_ipc_endpoint_in_no_folder_is_told_as_that(start: Start, tmp_path: Path) -> None:
    run = start("serve", "--data", str(tmp_path / "data"), "--listen", f"ipc://{tmp_path}/none/socket")
    assert run.process.wait(LIMIT_S) == 1
    assert "make the folder" in run.said()
    assert "another daemon" not in run.said()


@pytest.mark.parametrize(
    "harm", [lambda file: file.unlink(), lambda file: file.write_bytes(b"")], ids=["gone", "empty"]
)
def test_a_folder_whose_data_is_gone_is_not_begun_anew(
    start: Start, tmp_path: Path, harm: Callable[[Path], object]
) -> None:
    run, _ = serve(start, tmp_path / "data")
    run.process.terminate()
    assert run.process.wait(LIMIT_S) == 0
    harm(tmp_path / "data" / "data.mdb")
    again = start("serve", "--data", str(tmp_path / "data"), "--listen", "tcp://127.0.0.1:*")
    assert again.process.wait(LIMIT_S) == 1
    assert "and a daemon ran on this folder before" in again.said()
    assert "restore a backup" in again.said()


def test_what_is_acknowledged_is_there_after_kill_and_restart(tmp_path: Path) -> None:
    with PrivateDaemon(folder=tmp_path) as daemon:
        with penstock.connect(daemon.endpoint) as client, client.producer(client.create_queue("q").name) as producer:
            producer.send(b"kept").wait()
        daemon.kill()
        daemon.start()
        with penstock.connect(daemon.endpoint) as client:
            assert [message.body for message in client.peek("q")] == [b"kept"]


def test_a_configuration_is_read_again_at_sighup(start: Start, tmp_path: Path) -> None:
    config = tmp_path / "daemon.toml"
    config.write_text('[node]\nlog_level = "info"\n')
    run, endpoint = serve(start, tmp_path / "data", "--config", str(config))
    config.write_text('[node]\nlog_level = "debug"\n[storage]\ninterval = "9ms"\n')
    run.process.send_signal(signal.SIGHUP)
    until(lambda: "node.log_level" in run.said() and "storage.interval" in run.said(), "both keys are told")
    config.write_text("[nodes]\n")
    run.process.send_signal(signal.SIGHUP)
    until(lambda: "[nodes]" in run.said(), "the refusal is told")
    with penstock.connect(endpoint) as client:
        assert client.status()["role"] == "primary"


def test_a_private_daemon_does_not_outlive_its_parent(start: Start, tmp_path: Path) -> None:
    script = (
        "import time\nfrom pathlib import Path\nfrom penstock.cli.private import PrivateDaemon\n"
        f"with PrivateDaemon(folder=Path({str(tmp_path)!r})) as daemon:\n"
        f"    Path({str(tmp_path / 'pid')!r}).write_text(str(daemon.pid))\n    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the daemon runs")
        pid = int((tmp_path / "pid").read_text())
        assert not gone(pid)
    finally:
        parent.kill()
        parent.wait()
    until(lambda: gone(pid), "the daemon ends")


def test_a_private_daemon_that_cannot_start_says_why() -> None:
    with pytest.raises(penstock.PenstockError, match=r"storage\.map_size"), PrivateDaemon("[storage]\nmap_size = 1\n"):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_up_runs_jobs_and_leaves_no_process_however_it_ends(start: Start, tmp_path: Path, number: int) -> None:
    data = tmp_path / "data"
    run = start("up", "--data", str(data), "--listen", "tcp://127.0.0.1:*")
    until(lambda: "Ctrl-C ends both" in run.said() or run.process.poll() is not None, "up is ready")
    assert run.process.poll() is None, run.said()
    with penstock.connect((data / "endpoint").read_text().split()[0]) as client:
        assert len(client.submit("forecast", {"assets": [0, 1]}).result(timeout=LIMIT_S)) == 2
    family = run.descendants()
    assert len(family) >= 4  # the daemon, the pool, its launcher, its ranks
    run.process.send_signal(number)
    assert run.process.wait(LIMIT_S) == (0 if number == signal.SIGTERM else -number)
    until(lambda: all(gone(pid) for pid in family), "nothing is left")
    assert "Traceback" not in run.said()


def test_serve_starts_the_pools_of_its_configuration_and_restarts_one_that_dies(start: Start, tmp_path: Path) -> None:
    config = tmp_path / "daemon.toml"
    config.write_text('[compute]\nranks = 1\ntasks = ["penstock.compute.forecast"]\n')
    run, endpoint = serve(start, tmp_path / "data", "--config", str(config))
    with penstock.connect(endpoint) as client:
        until(lambda: any(info.name == "forecast" for info in client.list_queues()), "the pool has made its queue")
        client.submit("forecast", {"assets": [0]}).result(timeout=LIMIT_S)
        pools = [pid for pid in run.descendants() if "pool" in psutil.Process(pid).cmdline()[:6]]
        assert len(pools) == 1
        psutil.Process(pools[0]).kill()
        until(
            lambda: any(state.phase == "ready" for state in pools_at(endpoint) if state.pid != pools[0]), "a new pool"
        )
    assert "WARNING the pool of penstock.compute.forecast ended with exit code -9; next start in" in run.said()
    family = run.descendants()
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(LIMIT_S) == 0
    until(lambda: all(gone(pid) for pid in family), "nothing is left")
