"""Snapshots: rule 21 of the design. The protocol over a bad network, and the switch on real disks."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import lmdb
import msgpack
import pytest
from kit.world import Client, World

from penstock.broker import checkpoint, folder, incoming, snapshot_desk
from penstock.broker import store as store_module
from penstock.broker.checkpoint import Writes
from penstock.broker.desk import Limits
from penstock.broker.incoming import FOLDER, Incoming
from penstock.broker.model import Model
from penstock.broker.rows import FORMAT, TABLES
from penstock.broker.snapshot_desk import SnapshotDesk
from penstock.broker.snapshots import (
    AGAIN_MS,
    GIVE_UP_MS,
    NOTHING,
    SPURN_MS,
    STALE_MS,
    WINDOW_BYTES,
    BadSnapshot,
    Receiving,
    Sending,
    chain,
)
from penstock.broker.store import Store
from penstock.peers.log import CorruptEntry, Entry, HardState
from penstock.peers.messages import Noop
from penstock.peers.raft.core import Raft, Timing
from penstock.peers.raft.tail import Tail
from penstock.peers.raft.words import Members
from penstock.peers.snapshot_words import Chunk, ChunkAck, make_chunk

MIB = 1 << 20


# -- the protocol alone -----------------------------------------------------------------------------------------------


class Pieces:
    """A snapshot of straw: each piece is one record."""

    def __init__(self, records: list[bytes], index: int = 100) -> None:
        self.index, self.index_term = index, 3
        head = msgpack.packb((FORMAT, sum(map(len, records))))
        digest = chain(b"", head)
        for record in records:
            digest = chain(digest, record)
        self.all = [head, *records, msgpack.packb((len(records), digest))]
        self.known = 1

    def piece(self, number: int) -> tuple[bytes, bool]:
        assert number <= self.known, "asked for out of order"
        if number == self.known:
            self.known += 1
        return self.all[number], number == len(self.all) - 1


class Box:
    """A sink of straw."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.is_gone = False

    def write(self, payload: bytes) -> int:
        if payload == b"bad":
            raise BadSnapshot("a bad record")
        self.records.append(payload)
        return 1

    def discard(self) -> None:
        self.is_gone = True


def chunk_of(source: Pieces, number: int, term: int = 5, sender: int = 1) -> Chunk:
    last = number == len(source.all) - 1
    return make_chunk(term, sender, source.index, source.index_term, number, last, source.all[number])


def receiving() -> Receiving:
    return Receiving(FORMAT, lambda size: Box())


def box_of(receiver: Receiving) -> Box:
    assert isinstance(receiver.sink, Box)
    return receiver.sink


class Lab:
    """A sender and a receiver, with a network in between that loses, doubles and reorders."""

    def __init__(self, seed: int, records: list[bytes], loss: float, jitter_ms: int = 60) -> None:
        self.random = Random(seed)
        self.source = Pieces(records)
        self.sending = Sending(self.source, 0)
        self.receiver = receiving()
        self.loss = loss
        self.jitter_ms = jitter_ms
        self.mail: list[tuple[int, int, Any]] = []  # (arrives, order, word)
        self.order = count()
        self.sent = 0
        self.now_ms = 0

    def post(self, word: Any) -> None:
        for _ in range(self.random.choice((1, 1, 1, 2))):
            if self.random.random() >= self.loss:
                self.mail.append((self.now_ms + self.random.randrange(1, self.jitter_ms), next(self.order), word))

    def step(self) -> None:
        self.now_ms += 10
        for piece in self.sending.due(self.now_ms, 1000):
            self.sent += 1
            self.post(make_chunk(5, 1, 100, 3, *piece))
        arrived = sorted(mail for mail in self.mail if mail[0] <= self.now_ms)
        self.mail = [mail for mail in self.mail if mail[0] > self.now_ms]
        for _, _, word in arrived:
            if isinstance(word, Chunk):
                wanted = self.receiver.hear(word, 0, self.now_ms)
                if wanted is not None:
                    self.post(ChunkAck(5, 2, 100, 3, wanted))
            else:
                self.sending.hear(word.next, self.now_ms)

    def run(self) -> None:
        for _ in range(100_000):
            if self.sending.is_done:
                return
            assert not self.sending.is_stuck(self.now_ms)
            self.step()
        raise AssertionError("no end in 1000 s")


@pytest.mark.parametrize("seed", range(40))
def test_rule_21_a_snapshot_arrives_whole_over_a_network_that_loses_doubles_and_reorders(seed: int) -> None:
    random = Random(seed)
    records = [random.randbytes(random.randrange(900)) for _ in range(random.randrange(60))]
    lab = Lab(seed, records, loss=seed % 4 * 0.1)
    lab.run()
    assert lab.receiver.arrived == (100, 3)
    assert box_of(lab.receiver).records == records


def test_without_loss_each_piece_is_sent_once() -> None:
    source = Pieces([b"x" * 500] * 100)
    sending, receiver = Sending(source, 0), receiving()
    sent = []
    for now_ms in range(0, 3_000, 10):
        for piece in sending.due(now_ms, 1000):
            sent.append(piece.number)
            wanted = receiver.hear(chunk_of(source, piece.number), 0, now_ms)
            assert wanted is not None
            sending.hear(wanted, now_ms)
    assert sent == list(range(102))
    assert sending.is_done


@pytest.mark.parametrize("seed", range(10))
def test_rule_21_a_receiver_that_restarts_in_the_middle_begins_anew_and_gets_all(seed: int) -> None:
    records = [b"%d" % number * 100 for number in range(80)]
    lab = Lab(seed, records, loss=0.1)
    while len(lab.receiver.sink.records if isinstance(lab.receiver.sink, Box) else ()) < 40:
        lab.step()
    lab.receiver = receiving()
    lab.run()
    assert box_of(lab.receiver).records == records


@pytest.mark.parametrize("seed", range(10))
def test_rule_21_a_sender_that_begins_anew_with_the_same_snapshot_goes_on_where_the_receiver_is(seed: int) -> None:
    records = [b"%d" % number * 100 for number in range(200)]
    lab = Lab(seed, records, loss=0.0, jitter_ms=2)
    while len(lab.receiver.sink.records if isinstance(lab.receiver.sink, Box) else ()) < 150:
        lab.step()
    lab.mail, lab.sent = [], 0
    lab.source = Pieces(records)
    lab.sending = Sending(lab.source, lab.now_ms)
    lab.run()
    assert box_of(lab.receiver).records == records
    assert lab.sent < 80, "nearly all of what was there already was not sent again"


def test_what_is_on_the_way_is_bounded() -> None:
    sending = Sending(Pieces([b"x" * MIB] * 50), 0)
    pieces = [piece for _ in range(100) for piece in sending.due(0, MIB)]
    assert len(pieces) == WINDOW_BYTES // MIB + 1
    assert sending.due(AGAIN_MS - 1, MIB) == []
    assert [piece.number for piece in sending.due(AGAIN_MS, MIB)] == [0, 1], (
        "nothing was heard: from the first one again"
    )


def test_a_turn_sends_no_more_than_it_may() -> None:
    sending = Sending(Pieces([b"x" * 1000] * 50), 0)
    assert [len(sending.due(0, 3000)) for _ in range(4)] == [4, 3, 3, 3]


def test_rule_21_a_sender_gives_up_after_a_time_without_progress() -> None:
    sending = Sending(Pieces([b"x"] * 50), 0)
    sending.due(0, 10)
    assert not sending.is_stuck(GIVE_UP_MS - 1)
    sending.hear(1, GIVE_UP_MS - 1)
    assert not sending.is_stuck(2 * GIVE_UP_MS - 2)
    sending.hear(1, 2 * GIVE_UP_MS - 2)
    assert sending.is_stuck(2 * GIVE_UP_MS - 1), "saying the same again is no progress"
    assert sending.next_ms(0) <= 2 * GIVE_UP_MS - 1


def test_rule_21_a_late_word_of_before_the_receiver_began_anew_does_not_keep_it_waiting() -> None:
    sending = Sending(Pieces([b"x"] * 50), 0)
    sending.due(0, 100)
    sending.hear(30, 10)  # late: it has lost all that since
    sending.hear(3, 20)
    assert sending.due(9 + AGAIN_MS, 100) == [], "the lower number may be the late one"
    assert sending.due(10 + AGAIN_MS, 100)[0].number == 3


def test_rule_21_an_old_word_does_not_send_everything_anew() -> None:
    sending = Sending(Pieces([b"x"] * 50), 0)
    sending.due(0, 100)
    sending.hear(30, 10)
    sending.hear(3, 20)  # late
    sending.hear(30, 30)
    assert sending.due(10 + AGAIN_MS, 100)[0].number == 30


@pytest.mark.parametrize("commit", [100, 101])
def test_rule_21_a_snapshot_at_or_below_commit_is_ignored(commit: int) -> None:
    source, receiver = Pieces([b"x"] * 5), receiving()
    assert receiver.hear(chunk_of(source, 0), commit, 0) == NOTHING
    assert receiver.sink is None
    sending = Sending(source, 0)
    sending.hear(NOTHING, 0)
    assert sending.is_done


def test_rule_21_a_snapshot_that_the_log_overtakes_is_dropped() -> None:
    source, receiver = Pieces([b"x"] * 5), receiving()
    receiver.hear(chunk_of(source, 0), 99, 0)
    box = box_of(receiver)
    receiver.look(100)
    assert box.is_gone
    assert receiver.hear(chunk_of(source, 1), 100, 0) == NOTHING


def test_rule_21_a_piece_that_was_changed_on_the_way_is_not_taken() -> None:
    source, receiver = Pieces([b"x"] * 5), receiving()
    receiver.hear(chunk_of(source, 0), 0, 0)
    good = chunk_of(source, 1)
    for wrong in (
        good._replace(payload=b"y"),
        good._replace(number=2),
        good._replace(last=True),
        good._replace(index=101),
        good._replace(index_term=4),
    ):
        assert receiver.hear(wrong, 0, 0) is None
    assert receiver.hear(good, 0, 0) == 2


def test_rule_21_a_snapshot_that_is_not_all_of_it_is_found_at_its_end() -> None:
    source, receiver = Pieces([b"one", b"two"]), receiving()
    source.all[2] = b"owt"
    for number in range(3):
        receiver.hear(chunk_of(source, number), 0, 0)
    box = box_of(receiver)
    with pytest.raises(BadSnapshot, match="it is not what was sent"):
        receiver.hear(chunk_of(source, 3), 0, 0)
    assert box.is_gone
    assert receiver.arrived is None


def test_a_bad_snapshot_is_not_begun_again_at_once() -> None:
    source, receiver = Pieces([b"bad"]), receiving()
    receiver.hear(chunk_of(source, 0), 0, 0)
    with pytest.raises(BadSnapshot, match="a bad record"):
        receiver.hear(chunk_of(source, 1), 0, 0)
    assert receiver.hear(chunk_of(source, 0), 0, SPURN_MS - 1) is None
    assert receiver.hear(chunk_of(source, 0), 0, SPURN_MS) == 1
    assert receiver.hear(chunk_of(Pieces([b"x"], index=101), 0), 0, SPURN_MS) == 1


def test_a_snapshot_in_another_disk_format_is_refused() -> None:
    with pytest.raises(BadSnapshot, match=f"disk format {FORMAT}, not in 99"):
        Receiving(99, lambda size: Box()).hear(chunk_of(Pieces([]), 0), 0, 0)


def test_a_newer_snapshot_takes_the_place_of_an_older_one_and_not_the_other_way_round() -> None:
    older, newer, receiver = Pieces([b"old"] * 5, index=100), Pieces([b"new"] * 5, index=200), receiving()
    assert [receiver.hear(chunk_of(older, number), 0, 0) for number in range(3)] == [1, 2, 3]
    assert receiver.hear(chunk_of(newer, 4), 0, 0) == 0, "from the beginning, please"
    assert receiver.hear(chunk_of(older, 3), 0, 0) == 4, "until then the older one goes on"
    assert receiver.hear(chunk_of(newer, 0), 0, 0) == 1
    assert receiver.hear(chunk_of(older, 0), 0, STALE_MS - 1) is None
    assert [receiver.hear(chunk_of(newer, number), 0, 0) for number in range(1, 7)] == [2, 3, 4, 5, 6, 7]
    assert box_of(receiver).records == [b"new"] * 5


def test_the_snapshot_of_another_primary_is_another_one() -> None:
    source, receiver = Pieces([b"x"] * 5), receiving()
    receiver.hear(chunk_of(source, 0), 0, 0)
    receiver.hear(chunk_of(source, 1), 0, 0)
    assert receiver.hear(chunk_of(source, 2, term=6, sender=3), 0, 0) == 0
    assert receiver.hear(chunk_of(source, 0, term=6, sender=3), 0, 0) == 1
    assert box_of(receiver).records == []


def test_rule_21_pieces_of_before_and_after_a_restart_of_the_primary_are_not_put_together() -> None:
    """As many entries up to the same one, but not the same bytes: what nobody needs any more went at its start."""
    before, after, receiver = Pieces([b"old"] * 5), Pieces([b"new"] * 4), receiving()
    assert [receiver.hear(chunk_of(before, number), 0, 0) for number in range(4)] == [1, 2, 3, 4]
    assert receiver.hear(chunk_of(after, 4, term=6), 0, 0) == 0, "it is another one, from the beginning, please"
    assert [receiver.hear(chunk_of(after, number, term=6), 0, 0) for number in range(6)] == [1, 2, 3, 4, 5, 6]
    assert receiver.arrived == (100, 3)
    assert box_of(receiver).records == [b"new"] * 4


def test_rule_21_a_snapshot_that_is_read_anew_in_the_same_term_is_received_anew_unless_it_is_the_same() -> None:
    before, after, receiver = Pieces([b"old"] * 5), Pieces([b"new"] * 4), receiving()
    assert [receiver.hear(chunk_of(before, number), 0, 0) for number in range(4)] == [1, 2, 3, 4]
    assert receiver.hear(chunk_of(before, 0), 0, 0) == 4
    assert [receiver.hear(chunk_of(after, number), 0, 0) for number in range(6)] == [1, 2, 3, 4, 5, 6]
    assert box_of(receiver).records == [b"new"] * 4


# -- two disks --------------------------------------------------------------------------------------------------------


class Primary:
    """A node with much in its store, and the desk that sends it."""

    def __init__(self, data: Path, limits: Limits | None = None) -> None:
        self.store = Store(data, 512 * MIB)
        self.world = World(self.store, limits)
        self.client = Client(self.world, "ana")
        self.desk = SnapshotDesk(self.world.node.raft, self.store)

    def fill(self, size: int, messages: int) -> None:
        """Messages of random bytes, some of them done, some leased, and jobs with outcomes."""
        random = Random(7)
        client = self.client
        client.do("create", name="jobs", kind="queue")
        client.do("create", name="news", kind="topic")
        for number in range(messages):
            client.append(("jobs", "news")[number % 2], random.randbytes(size), b"%d" % number)
        for _ in range(10):
            done = client.pull("jobs", 2, lease_ms=3_600_000).ok
            client.do("ack", lease=done["lease"], ranges=[list(some[:2]) for some in done["ranges"]])
        client.pull("jobs", 5, lease_ms=3_600_000)
        client.do("job_cancel", queue="jobs", offset=30)
        self.checkpoint()

    def checkpoint(self) -> None:
        limits = self.world.node.desk.limits
        before, limits.checkpoint_entries = limits.checkpoint_entries, 1
        self.client.do("create", name="another", kind="queue")
        self.client.do("delete", name="another")
        limits.checkpoint_entries = before

    def model(self) -> Model:
        return model_of(self.store)


class Replica:
    """A node without anything, and the desk that takes a snapshot in."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.start()

    def start(self) -> None:
        self.store = Store(self.data, 8 * MIB)  # its map grows with what comes in
        found = self.store.recover()
        applied = model_of(self.store).state.applied
        tail = Tail(applied, 0, self.store.entries)
        self.raft = Raft(2, found.hard, tail, Members((1,), (2,)), Timing(), Random(2), 0)
        self.desk = SnapshotDesk(self.raft, self.store)
        self.model: Model | None = None


def model_of(store: Store) -> Model:
    found = store.recover()
    model = Model(store)
    checkpoint.restore(model, found.meta, found.queues, found.sessions)
    return model


def reads(store: Store) -> bool:
    """Is there a reader that keeps pages from being used again?"""
    return store._export is not None and store._export.is_open


def transfer(primary: Primary, replica: Replica, turns: int = 100_000, damage: Any = None) -> Iterator[int]:
    """The two loops. After each turn: how many pieces came in it."""
    for now_ms in range(0, turns * 10, 10):
        if now_ms % 200 == 0:  # a replica asks for what it lacks, again and again
            primary.desk.take([2], now_ms)
        words = [word for _, word in primary.desk.next_words(now_ms)]
        if damage is not None:
            words = [damage(word) for word in words]
        replica.desk.hear(words, now_ms)
        model = replica.desk.install(now_ms)
        primary.desk.hear([word for _, word in replica.desk.next_words(now_ms)], now_ms)
        yield len(words)
        if model is not None:
            replica.model = model
            primary.desk.next_words(now_ms)
            return


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[Primary]:
    made = Primary(tmp_path / "one")
    yield made
    made.store.close()


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    made = Replica(tmp_path / "two")
    yield made
    made.desk.close()
    made.store.close()


def test_rule_21_a_hundred_megabytes_arrive_while_the_sender_goes_on(primary: Primary, replica: Replica) -> None:
    primary.fill(MIB // 2, 200)
    expected = checkpoint.digest(primary.model())
    applied = primary.model().state.applied
    turns = 0
    for pieces in transfer(primary, replica):
        assert pieces <= 2, "a turn is short"
        turns += 1
        if turns % 10 == 0:  # the log, and even the checkpoint, go on
            primary.client.append("jobs", b"later" * 1000)
            primary.checkpoint()
    assert turns > 90
    assert replica.model is not None
    assert checkpoint.digest(replica.model) == expected
    assert (replica.raft.tail.commit, replica.raft.tail.floor, replica.model.state.applied) == (applied,) * 3
    replica.store.grow()
    replica.store.commit(Writes(None, [Entry(applied + 1, 1, 2_000_000, 0, 0, Noop(), b"x" * MIB)], None, None))
    assert not reads(primary.store), "nothing keeps pages from being used again"
    replica.store.close()
    read_all(replica.data)


def read_all(data: Path) -> None:
    """What is in the store serves a node: every message is what was published."""
    store = Store(data, 512 * MIB)
    bob = Client(World(store), "bob")
    random = Random(7)
    bodies = [(random.randbytes(MIB // 2), b"%d" % number) for number in range(200)]
    assert bob.do("group_create", topic="news", group="all").ok
    for number, pair in enumerate(bodies):
        if number % 2:
            found = bob.do("pull", queue="news", group="all", messages=2)
            assert tuple(found.bodies) == pair
    info = bob.do("describe", name="jobs").ok
    assert (info["done"], info["leased"], info["ready"]) == (20, 5, 174)
    for first in range(0, 174, 6):
        delivery = bob.pull("jobs", 6)
        assert len(delivery.bodies) == 6, first
        for offset, body in zip(delivery.offsets, delivery.bodies, strict=True):
            assert body == bodies[offset // 2 * 2][offset % 2]
    assert bob.do("outcomes", queue="jobs", after=0, limit=10).ok["outcomes"]
    bob.do("purge", name="jobs")
    store.commit(bob.world.node.close(bob.world.now_ms).writes)
    store.close()


def test_memory_does_not_grow_with_the_snapshot(primary: Primary, replica: Replica) -> None:
    primary.fill(MIB // 2, 120)
    tracemalloc.start()
    try:
        for _ in transfer(primary, replica):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert replica.model is not None
    assert peak < 16 * MIB


def test_a_message_larger_than_a_piece_is_a_piece_of_its_own(primary: Primary, replica: Replica) -> None:
    primary.client.do("create", name="jobs", kind="queue")
    big = Random(1).randbytes(9 * MIB)
    primary.client.append("jobs", big)
    primary.checkpoint()
    for _ in transfer(primary, replica):
        pass
    assert replica.model is not None
    replica.store.close()
    store = Store(replica.data, 512 * MIB)
    assert Client(World(store), "bob").pull("jobs").bodies == [big]
    store.close()


def test_a_new_entry_behind_the_checkpoint_is_not_in_the_snapshot(primary: Primary, replica: Replica) -> None:
    primary.fill(100, 80)
    primary.client.append("jobs", b"behind the checkpoint")
    for _ in transfer(primary, replica):
        pass
    assert b"behind the checkpoint" not in (replica.data / "data.mdb").read_bytes()
    assert list(replica.store.replay()) == []


def test_the_log_goes_on_behind_a_snapshot(primary: Primary, replica: Replica) -> None:
    """The receiver's next checkpoint deletes what was above its floor, and keeps what is pinned."""
    primary.fill(100, 80)
    for _ in transfer(primary, replica):
        pass
    assert replica.model is not None
    primary.client.append("jobs", b"behind the snapshot")
    index = replica.model.state.applied
    entries = primary.store.entries(index + 1, primary.world.node.raft.tail.last, 1 << 30)
    replica.store.commit(Writes(None, entries, None, None))
    for entry in entries:
        replica.model.apply(entry)
    assert checkpoint.digest(replica.model) == primary.world.digest()
    with pytest.raises(AssertionError, match="is not behind the last one"):
        replica.store.commit(Writes(None, entries, None, None))


def test_a_log_that_was_kept_above_the_floor_comes_along_with_what_pins_it(primary: Primary, replica: Replica) -> None:
    primary.world.node.floor_max = 20
    primary.fill(100, 80)
    assert primary.world.node.raft.tail.floor == 20 < primary.model().state.applied
    for _ in transfer(primary, replica):
        pass
    assert rows_of(replica.store, b"pins")
    assert all(rows_of(replica.store, table) == rows_of(primary.store, table) for table in TABLES if table != b"state")
    replica.store.close()
    store = Store(replica.data, 512 * MIB)
    world = World(store, Limits(checkpoint_entries=1))
    bob = Client(world, "bob")
    assert len(bob.pull("jobs", 10).bodies) == 10
    assert len(rows_of(store, b"log")) > 70, "what lives stays, below the floor"
    for name in ("jobs", "news"):
        bob.do("delete", name=name)
    world.advance(10_000)
    bob.do("create", name="last", kind="queue")
    assert len(rows_of(store, b"log")) < 10
    assert not rows_of(store, b"pins")
    store.close()


def rows_of(store: Store, table: bytes) -> list[tuple[bytes, bytes]]:
    with store._env.begin() as txn:
        return list(txn.cursor(store._env.open_db(table, txn)))


def test_rule_21_a_snapshot_leaves_the_receivers_own_term_vote_and_disks(primary: Primary, replica: Replica) -> None:
    primary.fill(100, 80)
    replica.store.commit(Writes(None, [], HardState(77, 3), None))
    replica.store.keep_disks({1: 11})
    disk = replica.store.recover().disk
    for _ in transfer(primary, replica):
        pass
    assert replica.store.recover().hard == HardState(77, 3)
    assert (replica.store.recover().disk, replica.store.recover().disks) == (disk, {1: 11})
    assert primary.store.recover().hard == HardState(1, 1)


def test_a_corrupt_entry_is_never_sent(primary: Primary, replica: Replica) -> None:
    primary.fill(100, 80)
    mark = b"a-body-that-is-found-again"
    primary.client.append("jobs", mark)
    primary.checkpoint()
    index = next(index for index in count(1) if mark in payload_of(primary.store, index))
    with primary.store._env.begin(write=True) as txn:
        key = index.to_bytes(8, "big")
        raw = bytearray(txn.get(key, db=primary.store._log))
        raw[-1] ^= 1
        txn.put(key, bytes(raw), db=primary.store._log)
    with pytest.raises(CorruptEntry, match=f"log entry {index} is corrupt"):
        for _ in transfer(primary, replica):
            pass


def payload_of(store: Store, index: int) -> bytes:
    try:
        return store.payload(index)
    except CorruptEntry:
        return b""


def test_rule_21_a_record_that_was_changed_before_its_piece_was_made_is_found(
    primary: Primary, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the sender's memory, say: the checksum of the piece is right, that of the record is not."""
    primary.fill(100, 80)
    changed = []

    def damage(word: Any) -> Any:
        if isinstance(word, Chunk) and not word.last and word.number == 1:
            changed.append(word)
            wrong = bytearray(word.payload)
            wrong[len(wrong) // 2] ^= 1
            place = word.term, word.sender, word.index, word.index_term, word.number, word.last
            return make_chunk(*place, bytes(wrong))
        return word

    for _ in transfer(primary, replica, turns=3, damage=damage):
        pass
    assert changed
    assert replica.model is None
    assert not (replica.data / FOLDER).exists()
    for _ in transfer(primary, replica, turns=3_000):
        pass
    assert replica.model is not None, "it was sent again, whole"


@pytest.mark.parametrize("how", ["cut", "swapped", "own row", "no such table", "too long"])
def test_records_that_cannot_be_are_refused(tmp_path: Path, how: str) -> None:
    def record(table: int, key: bytes, value: bytes) -> bytes:
        return table.to_bytes(1, "big") + len(key).to_bytes(2, "big") + len(value).to_bytes(4, "big") + key + value

    one, two = record(5, b"\0" * 8, b""), record(5, b"\1" * 8, b"")
    payload = {
        "cut": one + two[:-1], "swapped": two + one, "own row": record(4, b"hard", b"\0\0\0\0\0"),
        "no such table": record(9, b"a", b""), "too long": record(5, b"k" * 600, b""),
    }[how]  # fmt: skip
    sink = Incoming(tmp_path, 0)
    with pytest.raises(BadSnapshot):
        sink.write(payload)
    assert sink.write(one + two) == 2, "nothing of it was kept"
    sink.discard()


def test_a_snapshot_for_which_there_is_no_room_is_not_begun(
    primary: Primary, replica: Replica, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    primary.fill(100, 80)
    real = os.statvfs(replica.data)

    class Full:
        f_bavail, f_frsize = 1, real.f_frsize

    monkeypatch.setattr(incoming.os, "statvfs", lambda path: Full)
    for _ in transfer(primary, replica, turns=50):
        pass
    assert replica.model is None
    assert [record.message for record in caplog.records if "are free, a snapshot of" in record.message]
    assert not (replica.data / FOLDER).exists()


# -- the switch -------------------------------------------------------------------------------------------------------


class Crash(Exception):
    """The process is gone."""


STEPS = ["seal", "sync before", "replace", "sync after", "unlink", "clear", "open"]


def crash_at(step: str, monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    def crash(*args: Any, **kwargs: Any) -> None:
        raise Crash(step)

    real_sync = folder.sync_folder

    def sync(where: Path) -> None:
        if (where == data) == (step == "sync after"):
            raise Crash(step)
        real_sync(where)

    match step:
        case "seal":
            monkeypatch.setattr(Incoming, "seal", crash)
        case "sync before" | "sync after":
            monkeypatch.setattr(store_module, "sync_folder", sync)
        case "replace":
            monkeypatch.setattr(Path, "replace", crash)
        case "unlink":
            monkeypatch.setattr(Path, "unlink", crash)
        case "clear":
            monkeypatch.setattr(store_module, "clear", crash)
        case "open":
            monkeypatch.setattr(Store, "_open", crash)


@pytest.mark.parametrize("step", STEPS)
def test_rule_21_a_crash_at_any_step_of_the_switch_leaves_the_old_or_the_new(
    primary: Primary, replica: Replica, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    primary.fill(1000, 80)
    new = checkpoint.digest(primary.model())
    old = checkpoint.digest(replica_with_something(replica))
    with monkeypatch.context() as patch:
        crash_at(step, patch, replica.data)
        with pytest.raises(Crash):
            for _ in transfer(primary, replica):
                pass
    replica.store._env.close()
    replica.store._lock.close()
    replica.start()
    assert not (replica.data / FOLDER).exists(), "what was not yet in use is deleted"
    is_new = STEPS.index(step) > STEPS.index("replace")
    assert checkpoint.digest(model_of(replica.store)) == (new if is_new else old)
    assert replica.store.recover().hard == HardState(1, 7), "term and vote stay, whatever happens"


def replica_with_something(replica: Replica) -> Model:
    """A replica with a checkpoint of its own, which is far behind."""
    replica.store.close()
    behind = Primary(replica.data)
    behind.client.do("create", name="old", kind="queue")
    behind.client.append("old", b"old")
    behind.checkpoint()
    behind.store.commit(Writes(None, [], HardState(1, 7), None))
    behind.store.close()
    replica.start()
    return model_of(replica.store)


def test_rule_21_what_was_not_whole_is_deleted_at_start(primary: Primary, replica: Replica) -> None:
    primary.fill(MIB // 4, 80)
    for pieces, _ in zip(transfer(primary, replica), range(5), strict=False):
        assert pieces
    assert (replica.data / FOLDER / "data.mdb").stat().st_size > 3 * MIB
    replica.store.close()
    replica.start()
    assert not (replica.data / FOLDER).exists()
    for _ in transfer(primary, replica):
        pass
    assert replica.model is not None, "the sender began anew with the same snapshot"


def test_a_log_that_has_the_snapshots_last_entry_keeps_its_store(primary: Primary, replica: Replica) -> None:
    """Entries behind it may have been acknowledged: they must not go."""
    primary.fill(100, 80)
    index = primary.model().state.applied
    replica.raft.tail.restart(index - 1, 1)
    replica.raft.tail.append([Entry(index, 1, 0, 0, 0, Noop(), b"")])
    for _ in transfer(primary, replica, turns=50):
        pass
    assert replica.model is None
    assert replica.raft.tail.commit == index
    assert not (replica.data / FOLDER).exists()


# -- the sender's side ------------------------------------------------------------------------------------------------


def test_rule_26_the_reader_ends_when_nobody_answers(primary: Primary) -> None:
    primary.fill(100, 80)
    desk = primary.desk
    desk.take([2, 3], 0)
    assert {node for node, _ in desk.next_words(0)} == {2, 3}
    assert desk.wait_ms(0) <= AGAIN_MS
    assert desk.next_words(GIVE_UP_MS) == []
    assert not reads(primary.store)
    desk.take([2], GIVE_UP_MS)
    assert desk.next_words(GIVE_UP_MS), "asked again, it begins anew"


def test_rule_27_the_reader_makes_way_when_the_map_has_to_grow(primary: Primary) -> None:
    primary.fill(100, 80)
    desk = primary.desk
    desk.take([2], 0)
    desk.next_words(0)
    primary.store.turn_bytes_max = 1 << 30
    primary.store.grow()
    assert desk.next_words(10) == []
    desk.take([2], 20)
    assert desk.next_words(20)


def test_a_primary_that_was_deposed_sends_no_more(primary: Primary) -> None:
    primary.fill(100, 80)
    desk = primary.desk
    desk.take([2], 0)
    assert desk.next_words(0)
    primary.world.node.raft.become_replica(9, 0, 0)
    assert desk.next_words(10) == []
    assert not reads(primary.store)
    desk.take([2], 20)
    assert desk.next_words(20) == []


def test_who_has_its_part_and_asks_once_more_is_not_sent_it_again(primary: Primary) -> None:
    primary.fill(100, 80)
    desk = primary.desk
    desk.take([2, 3], 0)
    chunk = next(word for _, word in desk.next_words(0) if isinstance(word, Chunk))
    desk.hear([ChunkAck(chunk.term, 2, chunk.index, chunk.index_term, NOTHING)], 10)
    desk.take([2], 10)
    assert {node for node, _ in desk.next_words(AGAIN_MS)} == {3}


def test_entries_are_kept_for_a_node_until_it_has_caught_up(primary: Primary) -> None:
    primary.fill(100, 80)
    desk, raft = primary.desk, primary.world.node.raft
    assert desk.floor_max(0) == snapshot_desk.FOREVER_MS
    desk.take([2], 0)
    chunk = next(word for _, word in desk.next_words(0) if isinstance(word, Chunk))
    assert desk.floor_max(0) == chunk.index
    primary.world.node.floor_max = desk.floor_max(0)
    primary.checkpoint()
    assert raft.tail.floor == chunk.index
    desk.hear([ChunkAck(chunk.term, 2, chunk.index, chunk.index_term, NOTHING)], 10)
    assert desk.floor_max(10) == chunk.index
    assert desk.floor_max(10 + snapshot_desk.CATCH_UP_MS) == snapshot_desk.FOREVER_MS


def test_a_snapshot_is_made_the_same_way_each_time(primary: Primary) -> None:
    """So that a new reader goes on where the last one was."""
    primary.fill(10_000, 400)

    def pieces() -> list[tuple[bytes, bool]]:
        export = primary.store.export()
        made = []
        while not made or not made[-1][1]:
            made.append(export.piece(len(made)))
        assert [export.piece(number) for number in range(len(made))] == made
        return made

    first = pieces()
    primary.client.append("jobs", b"one more")
    assert pieces() == first
    assert len(first) > 4
    assert isinstance(primary.store._env, lmdb.Environment)
