"""The disk: rules 22 to 27 of the design, each by name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
from kit.world import Client, World

from penstock.broker import store as store_module
from penstock.broker.checkpoint import Writes
from penstock.broker.desk import Limits
from penstock.broker.rows import FORMAT
from penstock.broker.store import CorruptRow, StartError, Store
from penstock.peers import messages as m
from penstock.peers.log import CorruptEntry, Entry

MIB = 1 << 20
MARK = b"a-body-that-is-found-again"
FLIP = 0x20


class Disk:
    """A data folder with a world on it, which can be closed, damaged and opened anew."""

    def __init__(self, folder: Path, map_size: int = 64 * MIB, durability: str = "fsync", limits: Limits | None = None):
        self.folder = folder
        self.map_size = map_size
        self.durability = durability
        self.limits = limits
        self.store = self.open()
        self.world = World(self.store, limits)
        self.client = Client(self.world, "ana")

    def open(self) -> Store:
        self.store = Store(self.folder, self.map_size, self.durability)
        return self.store

    def restart(self, clean: bool = False, damage: Callable[[], None] = lambda: None) -> None:
        """Close, do something to the files, open again."""
        if clean:
            self.store.commit(self.world.node.close(self.world.now_ms).writes)
        self.store.close()
        damage()
        now_ms = self.world.now_ms
        self.world = World(self.open(), self.limits)
        self.world.now_ms = max(self.world.now_ms, now_ms)

    @property
    def file(self) -> Path:
        return self.folder / "data.mdb"

    def flip(self, pattern: bytes) -> None:
        """Flip a bit of every copy of `pattern` in the data file."""
        raw = bytearray(self.file.read_bytes())
        at = raw.find(pattern)
        assert at >= 0, "the pattern is not in the file"
        while at >= 0:
            raw[at] ^= FLIP
            at = raw.find(pattern, at)
        self.file.write_bytes(raw)

    def edit(self, db: bytes, change: Callable[[Any, Any], None]) -> None:
        """Do something to the rows behind the daemon's back."""
        env = lmdb.open(str(self.folder), map_size=1 << 30, max_dbs=8)
        table = env.open_db(db)
        with env.begin(write=True) as txn:
            change(txn, table)
        env.close()


Make = Callable[..., Disk]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """A disk of one's own size, with a queue of jobs."""
    made: list[Disk] = []

    def make(map_size: int = 64 * MIB, durability: str = "fsync", limits: Limits | None = None) -> Disk:
        made.append(Disk(tmp_path / f"data{len(made)}", map_size, durability, limits))
        made[-1].client.do("create", name="jobs", kind="queue")
        return made[-1]

    yield make
    for disk in made:
        disk.store.close()


@pytest.fixture
def disk(make: Make) -> Disk:
    return make()


# -- start ------------------------------------------------------------------------------------------------------------


def test_one_data_folder_one_daemon(disk: Disk) -> None:
    with pytest.raises(StartError, match=rf"in use by another daemon \(pid {os.getpid()}\)"):
        Store(disk.folder, 64 * MIB)
    assert disk.client.do("ping").ok


def test_the_lock_goes_with_the_process(disk: Disk) -> None:
    disk.restart()
    disk.restart()


def test_another_disk_format_is_refused_and_left_as_it_is(disk: Disk) -> None:
    disk.store.close()
    disk.edit(b"state", lambda txn, db: txn.put(b"format", b"999", db=db))
    before = disk.file.read_bytes()
    with pytest.raises(StartError, match=f"is in disk format 999, not in {FORMAT}"):
        disk.open()
    assert disk.file.read_bytes() == before
    disk.edit(b"state", lambda txn, db: txn.put(b"format", str(FORMAT).encode(), db=db))
    disk.open()


def test_a_file_that_is_no_store_is_refused_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"not a store" * 1000)
    with pytest.raises(StartError, match=str(tmp_path)):
        Store(tmp_path, 64 * MIB)
    (tmp_path / "data.mdb").unlink()
    Store(tmp_path, 64 * MIB).close()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StartError, match="cannot be used: Not a directory"):
        Store(tmp_path / "file" / "data", 64 * MIB)


# -- rule 22: one turn, one transaction -------------------------------------------------------------------------------


def test_rule_22_a_turn_is_on_disk_whole_or_not_at_all(disk: Disk) -> None:
    good = disk.world.node.raft.propose(disk.world.now_ms, 0, 0, m.Count())
    stale = good._replace(index=1)
    with pytest.raises(AssertionError, match="log entry 1 is not behind the last one"):
        disk.store.commit(Writes(None, [good, stale], None, None))
    disk.restart()
    assert disk.world.node.raft.tail.last == good.index, "that one entry is the new term's empty one"


def test_rule_22_a_restart_knows_everything_that_was_answered(disk: Disk) -> None:
    client = disk.client
    client.append("jobs", b"one", b"two", b"three", headers=[None, {"k": 1}, None])
    lease = client.pull("jobs", 2, lease_ms=3_600_000).ok["lease"]
    client.do("ack", lease=lease, ranges=[[0, 1]])
    for clean in (False, True, False):
        before = disk.world.digest()
        applied = disk.world.node.desk.state.applied
        disk.restart(clean)
        assert disk.world.node.desk.state.applied == applied + 1, "the empty entry of a new term"
        assert before != disk.world.digest()
    again = Client(disk.world, "ana", client.session)
    assert again.sequence == client.sequence
    info = again.do("describe", name="jobs").ok
    assert (info["ready"], info["leased"], info["done"]) == (1, 1, 1)
    assert again.do("complete", b"\x92\x91\xc4\x01r\xc0", lease=lease, ranges=[[1, 1]]).status == "ok"
    assert again.do("job_result", queue="jobs", offset=1).bodies == [b"r"]


# -- rule 23: full ----------------------------------------------------------------------------------------------------


def fill(client: Client, queue: str, size: int) -> int:
    """Publish until it is refused; how many were taken."""
    for count in range(10_000):
        reply = client.append(queue, b"x" * size)
        if reply.status != "ok":
            assert (reply.status, reply.body["retryable"]) == ("StorageFull", True)
            return count
    raise AssertionError("never full")


def test_rule_23_at_90_percent_publishes_are_refused_acks_pass_and_then_it_goes_on(make: Make) -> None:
    disk = make(map_size=8 * MIB)
    client = disk.client
    client.do("create", name="other", kind="queue")
    client.append("other", b"x" * MIB)
    taken = fill(client, "jobs", MIB // 4)
    assert 5 * MIB < taken * MIB // 4 < 8 * MIB
    usage = client.do("status").ok["storage"]
    assert usage["used_bytes"] <= usage["map_bytes"] * 0.9
    # One by one, and not a single publish in between: nothing is lost.
    for _ in range(taken):
        delivery = client.pull("jobs").ok
        assert client.do("ack", lease=delivery["lease"], ranges=[list(delivery["ranges"][0][:2])]).status == "ok"
    assert client.do("delete", name="other").status == "ok"
    disk.world.advance(1_000)
    assert fill(client, "jobs", MIB // 4) >= taken


def test_rule_23_whoever_publishes_again_and_again_is_served_once_there_is_room(make: Make) -> None:
    """The log is cut by checkpoints; refusals must not keep the next one away."""
    disk = make(map_size=8 * MIB)
    client = disk.client
    fill(client, "jobs", MIB // 4)
    client.do("purge", name="jobs")
    for _ in range(30):
        disk.world.advance(100)
        if client.append("jobs", b"x" * MIB).status == "ok":
            break
    else:
        raise AssertionError("refused for three seconds although the queue is empty")


def test_rule_23_what_frees_room_passes_however_full_it_is(make: Make) -> None:
    """Even results larger than what is left: the map grows, between turns, with no reader open (rule 27)."""
    disk = make(map_size=4 * MIB)
    client = disk.client
    client.append("jobs", *[b"job"] * 100)
    fill(client, "jobs", MIB // 4)
    before = disk.store._env.info()["map_size"]
    result = b"r" * MIB
    for _ in range(100):
        delivery = client.pull("jobs").ok
        payload = b"\x92\x91\xc6" + len(result).to_bytes(4, "big") + result + b"\xc0"
        ranges = [list(delivery["ranges"][0][:2])]
        assert client.do("complete", payload, lease=delivery["lease"], ranges=ranges).status == "ok"
        disk.store.grow()
    assert disk.store._env.info()["map_size"] > before
    assert client.do("job_result", queue="jobs", offset=99).bodies == [result]


def test_rule_23_a_large_turn_fits_into_a_map_in_pieces(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Freed pages lie scattered, a large message needs them in a row: the map has room for a turn behind them."""
    monkeypatch.setattr(store_module, "HEADROOM_BYTES", 8 * MIB)  # as in a map that is eight times as large
    disk = make(map_size=18 * MIB, limits=Limits(checkpoint_entries=1, cache_bytes=0))
    disk.store.turn_bytes_max = 16 * MIB
    disk.store.grow()
    client = disk.client
    client.do("create", name="large", kind="queue")
    client.do("create", name="small", kind="queue")
    for size in (15 * MIB, 16 * MIB - 1000):
        assert client.append("large", b"x" * size).status == "ok"
        disk.store.grow()
        assert client.do("purge", name="large").status == "ok"
        client.append("small", b"y" * 3000)


# -- rule 24: checksums -----------------------------------------------------------------------------------------------


def test_rule_24_a_flipped_bit_in_an_entry_is_found_at_replay_and_named(disk: Disk) -> None:
    disk.client.append("jobs", MARK)
    index = disk.world.node.raft.tail.last
    disk.store.close()
    disk.flip(MARK)
    store = disk.open()
    store.recover()
    with pytest.raises(CorruptEntry, match=rf"log entry {index} is corrupt: the checksum"):
        list(store.replay())


def test_rule_24_a_flipped_bit_in_an_entry_is_found_at_delivery_and_never_served(disk: Disk) -> None:
    disk.client.append("jobs", MARK)
    index = disk.world.node.raft.tail.last
    disk.restart(clean=True, damage=lambda: disk.flip(MARK))
    client = Client(disk.world, "bob")
    with pytest.raises(CorruptEntry, match=rf"log entry {index} is corrupt"):
        client.pull("jobs")
    assert client.heard() == []
    disk.restart()
    with pytest.raises(CorruptEntry, match=rf"log entry {index} is corrupt"):
        Client(disk.world, "bob").do("peek", name="jobs", limit=1)


def test_rule_24_a_missing_entry_is_found_at_replay(disk: Disk) -> None:
    disk.client.append("jobs", MARK)
    index = disk.world.node.raft.tail.last
    disk.client.do("pause", name="jobs")
    disk.store.close()
    disk.edit(b"log", lambda txn, db: txn.delete(index.to_bytes(8, "big"), db=db))
    store = disk.open()
    store.recover()
    with pytest.raises(CorruptEntry, match=rf"log entry {index} is corrupt: it is missing"):
        list(store.replay())


def test_rule_24_a_missing_entry_is_found_at_delivery(disk: Disk) -> None:
    disk.client.append("jobs", MARK)
    index = disk.world.node.raft.tail.last
    disk.restart(True, lambda: disk.edit(b"log", lambda txn, db: txn.delete(index.to_bytes(8, "big"), db=db)))
    with pytest.raises(CorruptEntry, match=rf"log entry {index} is corrupt: it is missing"):
        Client(disk.world, "bob").pull("jobs")


@pytest.mark.parametrize("db", [b"state", b"extents", b"outcomes", b"steps"])
def test_rule_24_a_flipped_bit_in_any_row_is_found(disk: Disk, db: bytes) -> None:
    disk.client.append("jobs", b"one", b"two")
    disk.client.do("job_cancel", queue="jobs", offset=0)
    disk.store.commit(disk.world.node.close(disk.world.now_ms).writes)
    disk.store.close()
    rows: list[tuple[bytes, bytes]] = []
    disk.edit(db, lambda txn, table: rows.extend((bytes(k), bytes(v)) for k, v in txn.cursor(table) if k != b"format"))
    assert rows
    for key, value in rows:
        for bit in (0, len(value) * 4, len(value) * 8 - 1):
            wrong = bytearray(value)
            wrong[bit // 8] ^= 1 << bit % 8
            disk.edit(db, lambda txn, table, key=key, wrong=wrong: txn.put(key, bytes(wrong), db=table))
            with pytest.raises(CorruptRow, match=key.hex()):
                read_everything(disk)
            disk.store.close()
        disk.edit(db, lambda txn, table, key=key, value=value: txn.put(key, value, db=table))
    read_everything(disk)


def read_everything(disk: Disk) -> None:
    disk.open()
    world = World(disk.store)
    client = Client(world, "bob")
    assert client.do("jobs", queue="jobs", limit=10).ok["more"] is False
    assert client.do("outcomes", queue="jobs", after=0, limit=10).ok["outcomes"]
    assert client.do("peek", name="jobs", limit=10).bodies == [b"two"]


# -- rules 25 and 26: what goes, and that it goes ---------------------------------------------------------------------


def test_rule_25_data_goes_by_commands_only(disk: Disk) -> None:
    """A restart that finds rows nobody points at leaves them alone."""
    disk.client.append("jobs", b"one")
    stray = (1 << 40).to_bytes(8, "big")

    def damage() -> None:
        disk.edit(b"extents", lambda txn, db: txn.put(b"\0\0\0\x63" + stray, b"who knows", db=db))

    disk.restart(True, damage)
    disk.world.advance(20_000)
    disk.restart(True)
    found: list[bytes] = []
    disk.store.close()
    disk.edit(b"extents", lambda txn, db: found.extend(bytes(key) for key, _ in txn.cursor(db)))
    assert b"\0\0\0\x63" + stray in found


def test_rule_26_the_file_stays_small_while_messages_come_and_go(make: Make) -> None:
    disk = make(map_size=256 * MIB, limits=Limits(checkpoint_bytes=2 * MIB, cache_bytes=MIB))
    client = disk.client
    sizes = []
    for _ in range(300):
        client.append("jobs", b"x" * (MIB // 4), b"y" * 100)
        delivery = client.pull("jobs", 2).ok
        client.do("ack", lease=delivery["lease"], ranges=[list(some[:2]) for some in delivery["ranges"]])
        sizes.append(disk.file.stat().st_size)
    assert sizes[-1] < 16 * MIB
    assert sizes[-1] == sizes[150], "it does not grow any more"
    assert disk.store.used_bytes() < 8 * MIB


def test_rule_26_outcomes_and_refusals_do_not_pile_up(make: Make) -> None:
    disk = make(limits=Limits(checkpoint_entries=50))
    client = disk.client
    client.do("configure", name="jobs", options={"result_ttl_ms": 1_000})
    for _ in range(100):
        client.append("jobs", b"x")
        delivery = client.pull("jobs").ok
        client.do("complete", b"\x92\x91\xc4\x01r\xc0", lease=delivery["lease"], ranges=[[delivery["ranges"][0][0], 1]])
        disk.world.advance(20_000)
    with disk.store._env.begin() as txn:
        counts = {
            name: txn.stat(getattr(disk.store, f"_{name}"))["entries"] for name in ("outcomes", "steps", "extents")
        }
        log = txn.stat(disk.store._log)["entries"]
    assert counts == {"outcomes": 0, "steps": 0, "extents": 0}
    assert log < 20


def test_rule_26_no_reader_stays_open_between_turns(disk: Disk) -> None:
    disk.client.append("jobs", b"one")
    disk.restart(True)
    client = Client(disk.world, "bob")
    client.do("peek", name="jobs", limit=1)
    disk.world.turn()
    assert disk.store._read is None
    assert all("-" in line.split()[-1] for line in disk.store._env.readers().splitlines()[1:])


def test_rule_27_the_map_is_larger_than_its_file(disk: Disk) -> None:
    blocks = disk.file.stat().st_blocks * 512
    assert disk.store._env.info()["map_size"] > 64 * MIB
    assert blocks < MIB


# -- durability "interval" --------------------------------------------------------------------------------------------

CHILD = """
import os, sys
from pathlib import Path
from penstock.broker.checkpoint import Writes
from penstock.broker.store import Store
from penstock.peers import messages as m
from penstock.peers.log import Entry

store = Store(Path(sys.argv[1]), 64 << 20, "interval")
for index in range(1, 21):
    store.commit(Writes(None, [Entry(index, 1, 1000, 0, 0, m.Count(), b"x" * 1000)], None, None))
    assert store.payload(index) == b"x" * 1000, "what is not safe yet is served nevertheless"
    if index == 12:
        store.flush()
os._exit(9)
"""


def test_interval_loses_only_what_was_not_flushed_and_the_store_stays_sound(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr
    store = Store(tmp_path, 64 * MIB)
    store.recover()
    assert [entry.index for entry in store.replay()] == list(range(1, 13))
    store.commit(Writes(None, [Entry(13, 1, 1000, 0, 0, m.Count(), b"")], None, None))
    store.close()


def test_interval_does_not_wait_for_its_time_when_much_was_written(tmp_path: Path) -> None:
    store = Store(tmp_path, 512 * MIB, "interval")
    for index in range(1, 10):
        store.commit(Writes(None, [Entry(index, 1, 1000, 0, 0, m.Count(), b"x" * (8 * MIB))], None, None))
    assert store.commits.count == 2
    assert store.dirty
    store.close()
    assert not store.dirty


def test_any_commit_error_stops_the_node_and_nothing_is_said(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise lmdb.DiskError("the disk is gone")

    monkeypatch.setattr(disk.store, "encoded", broken)
    with pytest.raises(lmdb.DiskError):
        disk.client.append("jobs", b"x")
    assert disk.client.heard() == []


# -- rule 7 ----------------------------------------------------------------------------------------------------------


def test_rule_7_each_data_folder_has_a_number_of_its_own_for_good(tmp_path: Path) -> None:
    def number(folder: str) -> int:
        store = Store(tmp_path / folder, 16 * MIB)
        disk = store.recover().disk
        store.close()
        return disk

    one, two = number("one"), number("two")
    assert len({one, two, number("one")}) == 2
    assert number("one") == one > 0


def test_rule_7_on_which_disk_each_node_was_met_outlives_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path, 16 * MIB)
    store.keep_disks({2: 200, 3: 2**63 - 1})
    store.close()
    store = Store(tmp_path, 16 * MIB)
    assert store.recover().disks == {2: 200, 3: 2**63 - 1}
    store.close()
