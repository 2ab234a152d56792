"""penstock init: a configuration that holds, and a key that is never lost to it."""

import json
import stat
from pathlib import Path

import pytest

from penstock.broker.config import Config, load
from penstock.cli.init import configuration
from penstock.peers.curve import read_keys

from .conftest import Shell


@pytest.fixture
def shell() -> Shell:
    return Shell("")


def test_a_new_folder_gets_a_configuration_with_every_default_and_a_secret_key(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "etc" / "penstock"
    (told,) = shell.json("init", str(folder))
    assert load(told["config"]) == Config()
    assert read_keys(Path(told["key_file"])).public == told["public_key"]
    assert stat.S_IMODE(Path(told["key_file"]).stat().st_mode) == 0o600
    assert f'# public_key = "{told["public_key"]}"' in (folder / "daemon.toml").read_text()


def test_the_node_id_is_written_down(shell: Shell, tmp_path: Path) -> None:
    shell.ok("init", str(tmp_path), "--node", "3")
    assert load(tmp_path / "daemon.toml").node.id == 3


def test_what_is_there_is_not_overwritten(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "daemon.toml").write_text("mine")
    done = shell("init", str(tmp_path), "--json")
    assert done.returncode == 0
    assert "daemon.toml is kept: --force" in done.stderr
    assert (tmp_path / "daemon.toml").read_text() == "mine"
    (again,) = shell.json("init", str(tmp_path))
    assert again == json.loads(done.stdout), "the key that was missing was made, and is shown again"
    assert read_keys(tmp_path / "curve.key_secret").public == again["public_key"]


def test_force_writes_the_configuration_anew_and_keeps_the_key(shell: Shell, tmp_path: Path) -> None:
    (first,) = shell.json("init", str(tmp_path))
    (tmp_path / "daemon.toml").write_text("broken")
    done = shell("--json", "init", str(tmp_path), "--force")
    assert "is kept" in done.stderr
    assert first["public_key"] in done.stdout
    assert load(first["config"]) == Config()


def test_the_lines_of_a_peer_that_are_given_as_an_example_hold_once_they_are_used(tmp_path: Path) -> None:
    lines = configuration(2, "k" * 40).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("# [[cluster.peer]]"))
    for number in range(at, at + 6):
        lines[number] = lines[number].removeprefix("# ")
    path = tmp_path / "daemon.toml"
    path.write_text("\n".join(lines).replace("curve = false", "curve = true"))
    (peer,) = load(path).cluster.peers
    assert (peer.id, peer.public_key) == (2, "k" * 40)
