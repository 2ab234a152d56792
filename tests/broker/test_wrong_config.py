"""What may be wrong in daemon.toml: every key of every section, refused by its name; and the data stays as it is."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.broker.config import Cluster, Config, Limits, Node, Peer, Pool, Security, Storage, parse
from penstock.cli.private import PrivateDaemon
from penstock.client import connect
from penstock.peers.errors import InvalidArgument

WHOLE = ('"many"', "1.5", "true", "-1", "[1]", "{a = 1}", "99999999999", "2026-01-01")
AMOUNT = ('"lots"', "-1", "true", "[1]", '"5 quarts"', '""', "{a = 1}", "nan")
FLAG = ("1", '"yes"', "[]", "0.0")
TEXT = ("5", '" "', "true", "[]", "{}")
TEXTS = ("5", "[1]", '[""]', "true")
CHOICE = ('"loudly"', "1", "true", "[]")
KEY = ("5", '"short"', "true", "[]")
PLACE = ("5", '""', '"127.0.0.1:1"', '"tcp://127.0.0.1"', '"tcp://127.0.0.1:99999"', '"udp://127.0.0.1:1"', "true")
WRONG = {
    Node: {"id": WHOLE, "data": TEXT, "listen": (*PLACE, "[]"), "log_level": CHOICE},
    Cluster: {
        "name": TEXT, "listen": PLACE, "publish": PLACE, "election_timeout": AMOUNT, "heartbeat": AMOUNT, "join": FLAG,
    },
    Storage: {"map_size": AMOUNT, "max_message": AMOUNT, "durability": CHOICE, "interval": AMOUNT},
    Security: {"curve": FLAG, "auth": FLAG, "key_file": TEXT},
    Limits: {
        "max_batch": WHOLE, "session_timeout": AMOUNT, "parked": WHOLE, "in_flight_max": WHOLE, "lease_max": AMOUNT,
        "heard_max": WHOLE, "heard_bytes": AMOUNT, "cache_bytes": AMOUNT, "checkpoint_entries": WHOLE,
        "checkpoint_bytes": AMOUNT,
    },
}  # fmt: skip
IN_LISTS = {
    Peer: (
        "[[cluster.peer]]",
        {"id": WHOLE, "client": PLACE, "listen": PLACE, "publish": PLACE, "public_key": KEY},
    ),
    Pool: (
        "[[compute.pool]]",
        {"queue": TEXT, "tasks": TEXTS, "ranks": WHOLE, "launcher": TEXT, "mpi": CHOICE},
    ),
}
CASES = [
    (f"[{kind.__name__.lower()}]", key, value)
    for kind, keys in WRONG.items()
    for key, values in keys.items()
    for value in values
] + [(header, key, value) for header, keys in IN_LISTS.values() for key, values in keys.items() for value in values]


def keys_of(kind: type) -> set[str]:
    return {item.metadata["key"] or item.name for item in dataclasses.fields(kind) if "read" in item.metadata}


def test_the_catalogue_knows_every_key_of_every_section() -> None:
    for kind, keys in WRONG.items():
        assert set(keys) == keys_of(kind), kind
    for kind, (_, keys) in IN_LISTS.items():
        assert set(keys) == keys_of(kind), kind
    assert {section.name for section in dataclasses.fields(Config)} == {
        *(kind.__name__.lower() for kind in WRONG), "compute",
    }  # fmt: skip
    assert len(CASES) > 150


@pytest.mark.parametrize(("header", "key", "value"), CASES, ids=lambda it: str(it)[:20])
def test_a_wrong_value_is_refused_by_its_key_with_what_would_be_right(header: str, key: str, value: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(f"{header}\n{key} = {value}\n", "some.toml")
    error = caught.value
    assert error.message.startswith("some.toml: ")
    assert f".{key} is " in error.message or f".{key}: " in error.message
    assert error.hint, "what would be right"
    assert not error.retryable


@pytest.mark.parametrize("header", ["node", "cluster", "storage", "security", "limits", "compute"])
def test_an_unknown_key_of_each_section_is_refused(header: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(f"[{header}]\nfrobnicate = 1\n", "some.toml")
    assert f"{header}.frobnicate: unknown key" in caught.value.message
    assert "known are" in caught.value.hint


def digest(folder: Path) -> str:
    parts = [(path.name, path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


@pytest.mark.parametrize(
    "text", ["[storage]\nmap_size = 5\n", "[node]\nid = 0\n", "[storge]\n", "node = 3\n", "[node\n"]
)
def test_a_daemon_with_a_wrong_file_ends_with_2_and_leaves_its_data_alone(text: str, tmp_path: Path) -> None:
    with PrivateDaemon(folder=tmp_path) as daemon, connect(daemon.endpoint) as client:
        client.create_queue("jobs")
    before = digest(tmp_path / "data")
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(text)
    words = ["serve", "--config", str(wrong), "--data", str(tmp_path / "data"), "--listen", f"ipc://{tmp_path}/socket"]
    done = subprocess.run(
        [sys.executable, "-m", "penstock.cli", *words], capture_output=True, timeout=60, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "wrong.toml" in done.stderr
    assert "Traceback" not in done.stderr
    assert digest(tmp_path / "data") == before
