"""Copies of a data folder: of one moment, sound, and on a disk of their own."""

import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.world import World

from penstock.broker.backup import back_up
from penstock.broker.checkpoint import Writes
from penstock.broker.store import StartError, Store
from penstock.peers.log import Entry
from penstock.peers.messages import Noop

MIB = 1 << 20
DIES = "import lmdb, os, sys; env = lmdb.open(sys.argv[1], readonly=True, max_dbs=16); txn = env.begin(); os._exit(9)"


def elsewhere(*words: str) -> int:
    """The exit code of a process of its own: LMDB is not opened twice in one."""
    return subprocess.run([sys.executable, *words], capture_output=True, check=False).returncode


def entry(index: int, payload: bytes = b"") -> Entry:
    return Entry(index, 1, 0, 0, 0, Noop(1), payload)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "data", 16 * MIB)
    made.commit(Writes(None, [entry(1, b"one"), entry(2, b"two")], None, None))
    yield made
    made.close()


@pytest.fixture
def data(tmp_path: Path, store: Store) -> Path:
    """A data folder that is not in use."""
    store.close()
    return tmp_path / "data"


def test_the_copy_of_a_store_in_use_is_that_of_one_moment(store: Store, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert elsewhere("-m", "penstock.cli", "backup", str(copy), "--data", str(store.folder)) == 0
    store.commit(Writes(None, [entry(3, b"three")], None, None))
    restored = Store(copy, 16 * MIB)
    restored.recover()
    assert [it.payload for it in restored.replay()] == [b"one", b"two"]
    restored.commit(Writes(None, [entry(3, b"another")], None, None))
    restored.close()
    assert store.payload(3) == b"three"


def test_a_copy_is_on_a_disk_of_its_own_and_for_its_owner_only(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    made = back_up(data, copy)
    assert (made.entries, made.damaged) == (2, [])
    assert made.bytes == (copy / "data.mdb").stat().st_size
    assert [stat.S_IMODE(it.stat().st_mode) for it in (copy, copy / "data.mdb")] == [0o700, 0o600]
    disks = set()
    for folder in (data, copy):
        store = Store(folder, 16 * MIB)
        disks.add(store.recover().disk)
        store.close()
    assert len(disks) == 2


def test_a_copy_tells_what_was_damaged(data: Path, tmp_path: Path) -> None:
    raw = bytearray((data / "data.mdb").read_bytes())
    raw[raw.rindex(b"two")] ^= 1
    (data / "data.mdb").write_bytes(raw)
    assert [it.entry for it in back_up(data, tmp_path / "copy").damaged] == [2]


def test_nothing_is_copied_over_what_is_there_nor_out_of_nothing(data: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    with pytest.raises(StartError, match="is there already"):
        back_up(data, tmp_path / "copy")
    with pytest.raises(StartError, match="there is no data"):
        back_up(tmp_path / "none", tmp_path / "other")
    with pytest.raises(StartError, match="cannot be copied"):
        back_up(data, Path("/proc/none"))
    assert sorted(it.name for it in tmp_path.iterdir()) == ["copy", "data"]


def test_what_a_killed_backup_left_behind_goes_with_the_next_one(data: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.part").mkdir()
    (tmp_path / "copy.part" / "data.mdb").write_bytes(b"half")
    assert back_up(data, tmp_path / "copy").entries == 2
    assert not (tmp_path / "copy.part").exists()


def test_a_reader_that_was_killed_keeps_no_page_from_being_used_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "data", 16 * MIB)
    world = World(store)
    assert elsewhere("-c", DIES, str(store.folder)) == 9
    noted = len(store._env.readers().splitlines())
    store.commit(world.node.close(world.now_ms).writes)  # with a checkpoint
    assert len(store._env.readers().splitlines()) == noted - 1
    store.close()
