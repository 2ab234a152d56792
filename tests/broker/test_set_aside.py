"""A daemon alone, whose disk has damaged entries, goes on without them when it is told to, and without nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import lmdb
import msgpack
import pytest
from kit.world import Client, World

from penstock.broker import set_aside as set_aside_module
from penstock.broker.check import check_folder
from penstock.broker.config import Cluster, Config, Node, Peer
from penstock.broker.set_aside import Aside, set_aside
from penstock.broker.store import StartError, Store
from penstock.peers import wire
from penstock.peers.errors import InvalidArgument
from penstock.peers.log import decode
from penstock.peers.messages import Append, GiveUp

MAP_BYTES = 64 << 20


class Disk:
    """A data folder with a world on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = Config(node=Node(data=str(folder)))
        self.open()

    def open(self) -> None:
        self.world = World(Store(self.folder, MAP_BYTES))
        self.ana = Client(self.world, "ana")

    def stop(self, clean: bool = True) -> None:
        store = self.world.disk
        if clean:
            store.commit(self.world.node.close(self.world.now_ms).writes)
        store.close()

    def spoil(self, *indexes: int, table: bytes = b"log") -> None:
        """Flip a bit of these entries, or of the first row of another table."""
        with lmdb.open(str(self.folder), max_dbs=16, map_size=MAP_BYTES * 2) as env:
            db = env.open_db(table)
            with env.begin(write=True) as txn:
                keys = [index.to_bytes(8, "big") for index in indexes]
                if not keys:
                    cursor = txn.cursor(db)
                    assert cursor.first()
                    keys = [bytes(cursor.key())]
                for key in keys:
                    raw = bytearray(txn.get(key, db=db))
                    raw[-1] ^= 1
                    txn.put(key, bytes(raw), db=db)

    def set_aside(self) -> Aside:
        """What is left is sound."""
        aside = set_aside(self.config)
        assert aside is not None
        assert check_folder(self.folder, in_cluster=False).damaged == []
        return aside

    def give_up(self, *indexes: int, clean: bool = True) -> Aside:
        """Stop, damage, set aside, start."""
        self.stop(clean)
        self.spoil(*indexes)
        aside = self.set_aside()
        self.open()
        return aside

    def put(self, queue: str, *bodies: bytes, **more: Any) -> tuple[int, int]:
        """The offset, and the log entry."""
        receipt = self.ana.do("append", wire.pack_payload(bodies), queue=queue, count=len(bodies), **more).ok
        return receipt["offset"], receipt["index"]

    def read_all(self, queue: str, group: str = "") -> list[bytes]:
        """Everything that is given, acked."""
        found: list[bytes] = []
        while (given := self.ana.pull(queue, 10, group=group)).ok["lease"]:
            ranges = [[first, count] for first, count, *_ in given.ok["ranges"]]
            assert self.ana.do("ack", lease=given.ok["lease"], ranges=ranges).status == "ok"
            found += given.bodies
        return found


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path)
    yield disk
    disk.stop(clean=False)


def rows_of(aside: Aside) -> list[dict[str, Any]]:
    """What its file says."""
    return list(msgpack.Unpacker(BytesIO(aside.file.read_bytes())))


def damaged(aside: Aside) -> list[tuple[Any, ...]]:
    return [(it.entry, it.holds, it.queue, it.first, it.count) for it in aside.gone]


def test_damaged_messages_of_a_queue_are_cancelled_and_the_others_are_delivered(disk: Disk) -> None:
    disk.ana.do("create", name="q", kind="queue")
    disk.put("q", b"a")
    _, index = disk.put("q", b"b", b"c")
    disk.put("q", b"d")
    aside = disk.give_up(index)
    assert damaged(aside) == [(index, "messages", "q", 1, 2)]
    assert aside.cut is None
    assert disk.read_all("q") == [b"a", b"d"]
    jobs = disk.ana.do("job_status", queue="q", offsets=[0, 1, 2, 3]).ok["jobs"]
    assert [job["status"] for job in jobs] == ["expired", "cancelled", "cancelled", "expired"]
    assert "damaged" in jobs[1]["reason"]


def test_a_restart_and_a_replay_come_to_the_same(disk: Disk) -> None:
    disk.ana.do("create", name="q", kind="queue")
    index = disk.put("q", b"a", b"b")[1]
    disk.put("q", b"c")
    disk.give_up(index)
    told = []
    for clean in (False, True, False):
        told.append(disk.world.node.desk.state.queues["q"].groups[""].acked.pack())
        disk.stop(clean)
        disk.open()
    assert told[0] == told[1] == told[2]
    assert disk.read_all("q") == [b"c"]


def test_a_copy_of_what_was_damaged_lies_in_a_file(disk: Disk) -> None:
    disk.ana.do("create", name="q", kind="queue")
    index = disk.put("q", b"a body", b"another")[1]
    disk.stop()
    disk.spoil(index)
    with lmdb.open(str(disk.folder), max_dbs=16, map_size=MAP_BYTES * 2) as env, env.begin() as txn:
        raw = txn.get(index.to_bytes(8, "big"), db=env.open_db(b"log", txn=txn))
    aside = disk.set_aside()
    disk.open()
    head, row = rows_of(aside)
    assert (head["penstock"], head["version"], head["node"]) == ("set-aside", 1, 1)
    assert row == {"entry": index, "sound": False, "holds": [["messages", "q", 0, 2]], "raw": raw}
    assert aside.file.parent == disk.folder


def test_whoever_has_a_damaged_job_in_hand_has_lost_it(disk: Disk) -> None:
    disk.ana.do("create", name="q", kind="queue")
    index = disk.put("q", b"a")[1]
    session = disk.ana.session
    lease = disk.ana.pull("q", lease_ms=10**6).ok["lease"]
    disk.give_up(index)
    again = Client(disk.world, "ana", session)
    assert again.do("ack", lease=lease, ranges=[[0, 1]]).status == "LeaseLost"
    assert disk.read_all("q") == []


def test_jobs_that_wait_for_a_damaged_one_count_it_as_failed(disk: Disk) -> None:
    for name in ("q", "children"):
        disk.ana.do("create", name=name, kind="queue")
    index = disk.put("q", b"parent")[1]
    disk.put("children", b"cancelled", after=[["q", 0, 1]])
    disk.put("children", b"released", after=[["q", 0, 1]], on_failure="release")
    disk.give_up(index)
    assert disk.read_all("children") == [b"released"]


def test_messages_that_moved_since_and_dead_letters_are_found_where_they_are(disk: Disk) -> None:
    for name in ("q", "other"):
        disk.ana.do("create", name=name, kind="queue")
    index = disk.put("q", b"a", b"b")[1]
    assert disk.ana.do("move", queue="q", target="other", limit=1).ok == {"moved": 1}
    disk.world.advance(6_000)  # then there is a checkpoint, and what follows is replayed
    lease = disk.ana.pull("q").ok["lease"]
    assert disk.ana.do("reject", lease=lease, ranges=[[1, 1]]).ok == {"dead": 1}
    aside = disk.give_up(index, clean=False)
    assert aside.cut is None
    assert [disk.read_all(name) for name in ("q", "other", "q.dead")] == [[], [], []]


def test_results_in_a_damaged_entry_are_forgotten(disk: Disk) -> None:
    disk.ana.do("create", name="q", kind="queue")
    disk.put("q", b"a", b"b", b"c")
    indexes = []
    for _ in range(3):
        given = disk.ana.pull("q").ok
        ranges = [[first, count] for first, count, *_ in given["ranges"]]
        disk.ana.do("complete", wire.pack_payload([b"result"]), lease=given["lease"], ranges=ranges)
        indexes.append(disk.world.node.desk.state.applied)
    aside = disk.give_up(indexes[1])
    assert damaged(aside) == [(indexes[1], "results", "q", 1, 1)]
    told = [disk.ana.do("job_result", queue="q", offset=offset) for offset in range(3)]
    assert [reply.ok["status"] for reply in told] == ["done", "expired", "done"]
    assert [reply.bodies for reply in told] == [[b"result"], [], [b"result"]]
    assert len(disk.ana.do("outcomes", queue="q", after=0, limit=10).ok["outcomes"]) == 2


@pytest.mark.parametrize("headers", [None, [{"a": "b"}, None]])
def test_a_damaged_message_of_a_topic_keeps_its_place_and_says_that_it_is_lost(
    disk: Disk, headers: wire.Headers
) -> None:
    disk.ana.do("create", name="news", kind="topic")
    disk.ana.do("group_create", topic="news", group="g", start="earliest")
    disk.put("news", b"first")
    payload = wire.pack_payload([b"b", b"c"], headers)
    index = disk.ana.do("append", payload, queue="news", count=2).ok["index"]
    disk.put("news", b"last")
    aside = disk.give_up(index)
    assert damaged(aside) == [(index, "messages", "news", 1, 2)]
    for what in (disk.ana.do("read", topic="news", offset=0), disk.ana.pull("news", 10, group="g")):
        assert what.bodies == [b"first", b"", b"", b"last"]
        assert what.headers is not None
        assert ["damaged" in (each or {}).get("penstock-lost", "") for each in what.headers] == [0, 1, 1, 0]
    alone = disk.ana.do("read", topic="news", offset=2, messages=1)
    assert alone.bodies == [b""]
    given = disk.ana.do("group_create", topic="news", group="late", start="offset", at=1)
    assert given.status == "ok"
    lease = disk.ana.pull("news", 1, group="late").ok["lease"]
    disk.ana.do("reject", lease=lease, ranges=[[1, 1]])
    (header,) = disk.ana.pull("news.dead").headers or ()
    assert header is not None
    assert header["penstock-group"] == "late"


def test_results_and_outputs_that_share_a_damaged_entry_go_each_in_its_way(disk: Disk) -> None:
    for name, kind in (("q", "queue"), ("next", "queue"), ("news", "topic")):
        disk.ana.do("create", name=name, kind=kind)
    disk.put("q", b"a")
    lease = disk.ana.pull("q").ok["lease"]
    payload = wire.pack_payload([b"result", b"for the queue", b"for the topic"])
    outputs = [["next", 1], ["news", 1]]
    done = disk.ana.do("complete", payload, lease=lease, ranges=[[0, 1]], outputs=outputs)
    assert done.status == "ok"
    aside = disk.give_up(disk.world.node.desk.state.applied)
    assert {it[1:] for it in damaged(aside)} == {
        ("messages", "next", 0, 1), ("messages", "news", 0, 1), ("results", "q", 0, 1),
    }  # fmt: skip
    assert disk.ana.do("job_result", queue="q", offset=0).ok["status"] == "expired"
    assert disk.read_all("next") == []
    assert disk.ana.do("read", topic="news", offset=0).bodies == [b""]


def test_it_can_be_done_again_if_it_was_broken_off(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in (("q", "queue"), ("news", "topic")):
        disk.ana.do("create", name=name, kind=kind)
    indexes = [disk.put("q", b"a")[1], disk.put("news", b"b")[1]]
    disk.put("q", b"c")
    disk.stop()
    disk.spoil(*indexes)
    for step in ("_copy", "_give_up", "_let_go"):
        monkeypatch.setattr(set_aside_module._Work, step, _interrupted)
        with pytest.raises(KeyboardInterrupt):
            set_aside(disk.config)
        monkeypatch.undo()
    disk.set_aside()
    disk.open()
    assert disk.read_all("q") == [b"c"]
    assert disk.ana.do("read", topic="news", offset=0).bodies == [b""]


def _interrupted(*args: object) -> None:
    raise KeyboardInterrupt


def test_a_schedule_whose_job_is_damaged_is_removed(disk: Disk) -> None:
    disk.ana.do("create", name="q", kind="queue")
    for name in ("lost", "kept"):
        job = wire.pack_payload([name.encode()])
        made = disk.ana.do("schedule_add", job, name=name, queue="q", every_ms=60_000)
        assert made.status == "ok"
        if name == "lost":
            index = disk.world.node.desk.state.applied
    disk.world.advance(61_000)
    disk.give_up(index)
    assert [it["name"] for it in disk.ana.do("schedules").ok["items"]] == ["kept"]
    assert disk.read_all("q") == [b"kept"]


def test_a_damaged_entry_that_is_in_no_checkpoint_ends_the_log(disk: Disk) -> None:
    disk.ana.do("create", name="q", kind="queue")
    disk.put("q", b"before")
    index = disk.put("q", b"damaged")[1]
    disk.put("q", b"behind", b"it")
    aside = disk.give_up(index, clean=False)
    assert aside.cut == index
    assert aside.behind == 1
    assert damaged(aside) == [(index, None, None, None, None), (index + 1, "messages", "q", None, 2)]
    assert disk.read_all("q") == [b"before"]
    assert disk.put("q", b"new")[0] == 1
    _, lost, behind = rows_of(aside)
    assert (lost["entry"], lost["sound"]) == (index, False)
    command = decode(behind["entry"], behind["raw"]).command
    assert isinstance(command, Append)
    assert (command.queue, command.count) == ("q", 2)


def test_both_kinds_at_once(disk: Disk) -> None:
    disk.ana.do("create", name="q", kind="queue")
    old = disk.put("q", b"old")[1]
    disk.put("q", b"kept")
    disk.stop()
    disk.open()
    new = disk.put("q", b"new")[1]
    aside = disk.give_up(old, new, clean=False)
    assert aside.cut == new
    assert disk.read_all("q") == [b"kept"]


def test_the_log_says_what_was_done(disk: Disk) -> None:
    disk.ana.do("create", name="q", kind="queue")
    index = disk.put("q", b"a")[1]
    disk.stop()
    disk.spoil(index)
    disk.set_aside()
    store = Store(disk.folder, MAP_BYTES)
    store.recover()
    *_, last = store.replay()
    store.close()
    disk.open()
    assert last.command == GiveUp((index,))
    assert b"set aside at" in last.payload


def test_without_damage_nothing_is_changed(disk: Disk) -> None:
    disk.ana.do("create", name="q", kind="queue")
    disk.put("q", b"a")
    disk.stop()
    before = {path.name for path in disk.folder.iterdir()}
    assert set_aside(disk.config) is None
    assert {path.name for path in disk.folder.iterdir()} == before
    disk.open()
    assert disk.read_all("q") == [b"a"]


def refused(disk: Disk, error: type[Exception], match: str, config: Config | None = None) -> None:
    before = {path.name for path in disk.folder.iterdir()}
    with pytest.raises(error, match=match):
        set_aside(config or disk.config)
    assert {path.name for path in disk.folder.iterdir()} == before


def test_a_damaged_row_is_refused(disk: Disk) -> None:
    disk.ana.do("create", name="q", kind="queue")
    index = disk.put("q", b"a")[1]
    disk.stop()
    disk.spoil(index)
    disk.spoil(table=b"extents")
    refused(disk, StartError, "the extents row")
    with lmdb.open(str(disk.folder), max_dbs=16, map_size=MAP_BYTES * 2) as env:
        db = env.open_db(b"extents")
        with env.begin(write=True) as txn:
            cursor = txn.cursor(db)
            cursor.first()
            key, raw = bytes(cursor.key()), bytearray(cursor.value())
            raw[-1] ^= 1
            txn.put(key, bytes(raw), db=db)
    disk.set_aside()
    disk.open()


def test_a_daemon_that_runs_is_refused(disk: Disk) -> None:
    disk.ana.do("create", name="q", kind="queue")
    refused(disk, StartError, "in use by another daemon")


def peer(node: int) -> Peer:
    return Peer(id=node, client=f"ipc:///c{node}", listen=f"ipc:///l{node}", publish=f"ipc:///p{node}")


def test_the_node_of_a_cluster_is_refused(disk: Disk) -> None:
    disk.ana.do("create", name="q", kind="queue")
    index = disk.put("q", b"a")[1]
    disk.stop()
    disk.spoil(index)
    cluster = replace(disk.config, cluster=Cluster(peers=(peer(1), peer(2), peer(3))))
    refused(disk, InvalidArgument, "belongs to a cluster", cluster)
    refused(disk, InvalidArgument, "but the members in", Config(node=Node(id=2, data=str(disk.folder))))
    disk.set_aside()
    disk.open()


def test_a_node_that_has_met_others_is_refused_even_if_its_configuration_is_not_given(disk: Disk) -> None:
    disk.ana.do("create", name="q", kind="queue")
    index = disk.put("q", b"a")[1]
    disk.world.disk.keep_disks({1: 11, 2: 22, 3: 33})
    disk.stop(clean=False)
    disk.spoil(index)
    refused(disk, InvalidArgument, "but the members in .* are 1, 2, 3")
    disk.world.disk = Store(disk.folder, MAP_BYTES)  # for the end of the test to close
