"""penstock metrics: figures for Prometheus."""

import re
import signal
import subprocess
import sys
from itertools import groupby
from urllib.request import urlopen

import pytest
from prometheus_client import generate_latest

from penstock.cli.metrics import Figures
from penstock.cli.private import PrivateDaemon

from .conftest import Shell

LABEL = r'[a-z_]+="(?:[^"\\\n]|\\.)*"'
LINE = re.compile(rf"(penstock_[a-z_]+)(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)")


def test_the_figures_are_those_of_the_daemon_in_the_format_of_prometheus(shell: Shell, name: str, queue: str) -> None:
    shell.ok("topic", "create", f"{name}-t")
    shell.ok("group", "create", f"{name}-t", "desk")
    shell.ok("push", f"{name}-t", "x")
    shell.ok("push", queue, "one")
    shell.ok("push", queue, "two")
    shell.ok("pull", queue, "--ack")
    lines = shell.ok("metrics").splitlines()
    found: dict[tuple[str, str], float] = {}
    for line in lines:
        if not line.startswith("#"):
            read = LINE.fullmatch(line)
            assert read is not None, line
            found[read[1], read[2]] = float(read[3])
    assert found["penstock_primary", 'node="1"'] == 1
    assert found["penstock_storage_room_bytes", 'node="1"'] > 0
    assert found["penstock_queue_published_total", f'node="1",queue="{queue}"'] == 2
    assert found["penstock_queue_messages", f'node="1",queue="{queue}",state="ready"'] == 1
    assert found["penstock_queue_messages", f'node="1",queue="{queue}",state="done"'] == 1
    assert found["penstock_group_lag_messages", f'group="desk",node="1",topic="{name}-t"'] == 1
    names = [re.split("[{ ]", line)[0] for line in lines if not line.startswith("#")]
    assert len([each for each, _ in groupby(names)]) == len(set(names)), "the lines of one name stand together"
    assert [line.split()[2] for line in lines if line.startswith("# TYPE")] == [each for each, _ in groupby(names)]


def test_the_figures_are_an_object_a_line_with_json(shell: Shell) -> None:
    assert {"name": "penstock_primary_known", "value": 1.0, "labels": {"node": "1"}} in shell.json("metrics")


def scraped(url: str) -> dict[str, float]:
    """The figures of the daemon itself."""
    with urlopen(url, timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return {
        read[1]: float(read[2]) for line in lines if (read := re.fullmatch(r"([a-z_]+)(?:{node=\"1\"})? (\S+)", line))
    }


def test_the_figures_are_served_anew_at_each_scrape_and_say_when_the_daemon_is_away() -> None:
    with PrivateDaemon() as daemon:
        words = [sys.executable, "-m", "penstock.cli", "--endpoint", daemon.endpoint, "--timeout", "1"]
        process = subprocess.Popen([*words, "metrics", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[1]
            before, after = scraped(url), scraped(url)
            assert (before["penstock_up"], before["penstock_primary"]) == (1, 1)
            assert after["penstock_turns_total"] > before["penstock_turns_total"]
            daemon.kill()
            assert scraped(url) == {"penstock_up": 0}
            process.terminate()
            assert process.wait(60) == 128 + signal.SIGTERM
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.mark.parametrize("where", ["9464", "localhost:", "localhost:http", "localhost:70000", "no.such.host.invalid:1"])
def test_a_place_at_which_nobody_can_listen_is_refused(shell: Shell, where: str) -> None:
    done = shell("metrics", "--listen", where)
    assert done.returncode == 2
    assert where in done.stderr


@pytest.mark.parametrize(("said", "written"), [('a"b', r"a\"b"), ("a\\b", r"a\\b"), ("a\nb", r"a\nb")])
def test_a_label_may_be_any_text(said: str, written: str) -> None:
    figures = Figures()
    figures.add("x", 1, "Help.", {"queue": said})
    assert f'penstock_x{{queue="{written}"}} 1.0' in generate_latest(figures).decode().splitlines()
