"""penstock metrics: figures for Prometheus."""

import re
from itertools import groupby

import pytest

from penstock.cli.metrics import Sample, text_of

from .conftest import Shell

LABEL = r'[a-z_]+="(?:[^"\\\n]|\\.)*"'
LINE = re.compile(rf"(penstock_[a-z_]+)\{{({LABEL}(?:,{LABEL})*)\}} (\S+)")


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
        if not line.startswith("# TYPE penstock_"):
            read = LINE.fullmatch(line)
            assert read is not None, line
            found[read[1], read[2]] = float(read[3])
    assert found["penstock_primary", 'node="1"'] == 1
    assert found["penstock_storage_room_bytes", 'node="1"'] > 0
    assert found["penstock_queue_published_total", f'node="1",queue="{queue}"'] == 2
    assert found["penstock_queue_messages", f'node="1",queue="{queue}",state="ready"'] == 1
    assert found["penstock_queue_messages", f'node="1",queue="{queue}",state="done"'] == 1
    assert found["penstock_group_lag_messages", f'node="1",topic="{name}-t",group="desk"'] == 1
    names = [line.split("{")[0] for line in lines if not line.startswith("#")]
    assert len([each for each, _ in groupby(names)]) == len(set(names)), "the lines of one name stand together"
    assert [line.split()[2] for line in lines if line.startswith("#")] == [each for each, _ in groupby(names)]


def test_the_figures_are_an_object_a_line_with_json(shell: Shell) -> None:
    rows = shell.json("metrics")
    assert {"name": "penstock_primary_known", "value": True, "labels": {}} in rows


@pytest.mark.parametrize(("said", "written"), [('a"b', r"a\"b"), ("a\\b", r"a\\b"), ("a\nb", r"a\nb")])
def test_a_label_may_be_any_text(said: str, written: str) -> None:
    (_, line) = text_of([Sample("x", 1, (("queue", said),))], ())
    assert line == f'penstock_x{{queue="{written}"}} 1'
