"""Nodes over real sockets: words arrive, nobody speaks for another, and nobody waits for one who does not listen."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from kit.peers import ANY, LIMIT_S, Make, Node, has_published, join, until

from penstock.peers.errors import InvalidArgument
from penstock.peers.frames import PeerWord, frames_of
from penstock.peers.links import PUBLISH_HWM, PeerAddress, PeerLinks
from penstock.peers.log import Entry
from penstock.peers.messages import Append as AppendMessages
from penstock.peers.presence import Disks, Refusal
from penstock.peers.raft.words import Append, Appended, AskVote, Fetch, Stale, TimeoutNow, Vote
from penstock.peers.snapshot_words import ChunkAck, make_chunk

# A node in a process of its own: it says where it listens, and answers each word with a word of the next term.
OTHER = """
import sys, zmq
from penstock.peers.links import PeerAddress, PeerLinks
from penstock.peers.presence import Disks
from penstock.peers.raft.words import Stale
incarnation, listen, publish, first_listen, first_publish = sys.argv[1:]
first = PeerAddress(first_listen, first_publish)
links = PeerLinks(zmq.Context(), "c", 2, int(incarnation), listen, publish, {1: first}, Disks(2, 9, {}))
print(*links.address, flush=True)
poller = zmq.Poller()
links.register(poller)
while True:
    poller.poll()
    links.send([(1, Stale(word.term + 1, 2)) for word in links.receive()])
"""


@pytest.fixture
def stranger() -> Iterator[Callable[[Node, bytes, list[bytes]], None]]:
    """Says any frames to a node, by any routing id, over a connection that stays."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sockets: dict[bytes, zmq.Socket[bytes]] = {}

    def say(to: Node, route: bytes, frames: list[bytes]) -> None:
        if route not in sockets:
            sockets[route] = context.socket(zmq.DEALER)
            if route:
                sockets[route].setsockopt(zmq.ROUTING_ID, route)
            sockets[route].connect(to.links.address.listen)
        sockets[route].send_multipart(frames)

    yield say
    context.destroy(0)


Say = Callable[[Node, bytes, list[bytes]], None]


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []

    def spawn(first: Node, incarnation: int = 1, endpoints: tuple[str, ...] = (ANY, ANY)) -> subprocess.Popen[str]:
        args = [sys.executable, "-c", OTHER, str(incarnation), *endpoints[:2], *first.links.address[:2]]
        processes.append(subprocess.Popen(args, stdout=subprocess.PIPE, text=True))
        return processes[-1]

    yield spawn
    for process in processes:
        process.kill()
        process.communicate()


Spawn = Callable[..., "subprocess.Popen[str]"]


def endpoints_of(process: "subprocess.Popen[str]") -> PeerAddress:
    assert process.stdout is not None
    return PeerAddress(*process.stdout.readline().split())


def append(payload: bytes, sender: int = 1, count: int = 1) -> Append:
    entries = tuple(
        Entry(5 + at, 3, 1_000, 7, 8, AppendMessages("mail", 1, len(payload), True), payload) for at in range(count)
    )
    return Append(3, sender, 4, 2, entries, 4, 9, 4 + count, False)


WORDS: list[PeerWord] = [
    append(b"hello", count=3), append(bytes(200_000)), append(b"", count=0), Appended(3, 1, 17, 4), Fetch(3, 1, 4, 2),
    Stale(9, 1), AskVote(4, 1, 17, 3, True, False), Vote(4, 1, True, False), TimeoutNow(3, 1),
    make_chunk(3, 1, 900, 2, 0, True, bytes(300_000)), ChunkAck(3, 1, 900, 2, 1),
]  # fmt: skip


@pytest.fixture
def pair(make: Make) -> tuple[Node, Node]:
    nodes = make(1), make(2)
    join(*nodes)
    return nodes


# -- arriving ---------------------------------------------------------------------------------------------------------


def test_each_kind_of_word_arrives_at_the_one_it_is_sent_to(pair: tuple[Node, Node]) -> None:
    one, two = pair
    one.links.send([(2, word) for word in WORDS])
    until(lambda: len(two.heard) == len(WORDS), two)
    assert two.heard == WORDS


def test_what_is_published_arrives_at_everyone(make: Make) -> None:
    one, two, three = make(1), make(2), make(3)
    join(one, two, three)
    one.links.publish(WORDS)
    until(lambda: len(two.heard) == len(three.heard) == len(WORDS), one, two, three)
    assert two.heard == three.heard == WORDS
    assert one.heard == []


def test_words_travel_over_ipc(make: Make, tmp_path: Path) -> None:
    one, two = (make(node, endpoints=(f"ipc://{tmp_path}/l{node}", f"ipc://{tmp_path}/p{node}")) for node in (1, 2))
    join(one, two)
    two.links.send([(1, Stale(9, 2))])
    until(lambda: one.heard == [Stale(9, 2)], one)


def test_a_poller_wakes_for_peers_that_came_after_it(make: Make) -> None:
    one, two = make(1), make(2)
    poller = zmq.Poller()
    two.links.register(poller)
    join(one, two)
    one.links.publish([Stale(9, 1)])
    assert poller.poll(LIMIT_S * 1000)
    until(lambda: two.heard == [Stale(9, 1)], two)
    two.links.remove_peer(1)
    assert len(poller.sockets) == 1  # where others may still speak to us


def test_receive_is_bounded_and_says_if_it_left_something_behind(pair: tuple[Node, Node]) -> None:
    one, two = pair
    one.links.send([(2, Stale(9, 1)), (2, Stale(10, 1)), (2, Stale(11, 1))])
    bounded: list[PeerWord] = []

    def came_one_by_one() -> bool:
        some = two.links.receive(words_max=1)
        assert not (some and two.links.drained)  # without a word, too, something may have come: a greeting
        bounded.extend(word for word in some if word.term)
        return len(bounded) == 3

    until(came_one_by_one)
    until(lambda: not two.links.receive() and two.links.drained)


# -- rule 19: nobody speaks for another -------------------------------------------------------------------------------


def test_rule_19_a_word_of_another_cluster_is_dropped(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    one, two = make(1), make(2, cluster="other")
    for node, other in ((one, two), (two, one)):
        node.links.add_peer(other.node, other.links.address)
    until(lambda: one.links.connected() and two.links.connected(), one, two)
    one.links.send([(2, Stale(9, 1))])
    until(lambda: has_published(one) and two.links.counters.foreign > 3, two)
    assert two.heard == []
    told = [record.getMessage() for record in caplog.records if "not of 'other'" in record.getMessage()]
    assert told == ["node 1 is of the cluster 'c', not of 'other': what it says is dropped"]


@pytest.mark.parametrize("route", [b"", b"1", b"03", b"+3", b"x"])
def test_rule_19_a_word_sent_under_anothers_name_is_dropped(make: Make, stranger: Say, route: bytes) -> None:
    node = make(2)
    stranger(node, route, frames_of(Stale(9, 3), "c", 1, 7))
    until(lambda: node.links.counters.foreign, node)
    assert node.heard == []


def test_rule_19_a_word_under_our_own_name_is_dropped(
    make: Make, stranger: Say, caplog: pytest.LogCaptureFixture
) -> None:
    node = make(2)
    stranger(node, b"2", frames_of(Stale(9, 2), "c", 1, 7))
    until(lambda: node.links.counters.foreign, node)
    assert node.heard == []
    assert "another node has the id of this one, 2: what it says is dropped" in caplog.messages


def test_rule_19_a_word_published_by_another_than_its_sender_is_dropped(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    two, three = make(2), make(3)
    two.links.add_peer(1, PeerAddress(three.links.address.listen, three.links.address.publish))
    until(lambda: has_published(three) and two.links.counters.foreign, two)
    assert two.heard == []
    assert "at the address of node 1 speaks node 3: what it says is dropped" in caplog.messages


def test_rule_7_a_node_on_another_disk_than_it_is_known_on_is_not_heard_and_is_told(make: Make) -> None:
    one, two = make(1, known={2: 8}), make(2)
    one.links.add_peer(2, two.links.address)
    two.links.add_peer(1, one.links.address)
    until(lambda: two.links.disks.refusal == Refusal(1, 8), one, two)
    two.links.send([(1, Vote(9, 2, True, False))])
    until(lambda: has_published(two) and one.links.counters.replaced > 3, one, two)
    assert one.heard == []
    assert one.links.disks.known == {2: 8}
    assert two.links.disks.known == {1: 7}  # who was turned away knows the others all the same


def test_rule_7_nodes_that_meet_know_each_others_disks_before_they_have_anything_to_say(make: Make) -> None:
    one, two = make(1), make(2, disk=8)
    one.links.add_peer(2, two.links.address)
    two.links.add_peer(1, one.links.address)
    until(lambda: one.links.disks.witnesses == {2} and two.links.disks.witnesses == {1}, one, two)
    assert (one.links.disks.known, two.links.disks.known) == ({2: 8}, {1: 7})
    assert one.links.disks.is_fresh


def test_rule_7_a_stranger_decides_nothing_about_who_is_on_which_disk(make: Make, stranger: Say) -> None:
    node = make(2)
    stranger(node, b"3", frames_of(Stale(9, 3), "c", 1, 5))
    until(lambda: node.heard == [Stale(9, 3)], node)
    assert node.links.disks.known == {}


def test_rule_6_a_node_that_is_not_among_our_peers_may_speak_in_its_own_name(make: Make, stranger: Say) -> None:
    node = make(2)
    stranger(node, b"3", frames_of(AskVote(9, 3, 1, 1, True, False), "c", 1, 7))
    until(lambda: node.heard == [AskVote(9, 3, 1, 1, True, False)], node)


def test_a_word_of_another_version_is_foreign(make: Make, stranger: Say) -> None:
    node = make(2)
    stranger(node, b"3", [b"PP9", *frames_of(Stale(9, 3), "c", 1, 7)[1:]])
    until(lambda: node.links.counters.foreign, node)
    assert node.heard == []


def test_rule_11_a_word_of_a_former_process_of_a_peer_is_dropped(make: Make, stranger: Say) -> None:
    node = make(2)
    for term, incarnation in ((1, 5), (2, 6), (3, 5), (4, 6)):
        stranger(node, b"3", frames_of(Stale(term, 3), "c", incarnation, 7))
    until(lambda: len(node.heard) == 3, node)
    assert [word.term for word in node.heard] == [1, 2, 4]
    assert node.links.counters.stale == 1


# -- what is broken ---------------------------------------------------------------------------------------------------


def test_rule_24_an_append_with_a_flipped_bit_is_dropped_and_the_next_is_heard(make: Make, stranger: Say) -> None:
    node = make(2)
    *front, entries = frames_of(append(b"hello", sender=3), "c", 1, 7)
    stranger(node, b"3", [*front, entries[:-1] + b"O"])
    stranger(node, b"3", [*front, entries])
    until(lambda: node.heard, node)
    assert node.heard == [append(b"hello", sender=3)]
    assert node.links.counters.corrupt == 1


def test_garbage_is_dropped_and_what_follows_is_heard(make: Make, stranger: Say) -> None:
    node = make(2)
    garbage = [[b""], [b"PP1"], [b"PP1", b"\xc1"], [b"PP1", b"\x96" + b"\x01" * 6, b"x"], [b"x"] * 50]
    for frames in garbage:
        stranger(node, b"3", frames)
    stranger(node, b"3", frames_of(Stale(9, 3), "c", 1, 7))
    until(lambda: node.heard, node)
    assert node.heard == [Stale(9, 3)]
    assert node.links.counters.corrupt + node.links.counters.foreign == len(garbage)


def test_rule_20_who_sends_a_frame_that_is_too_large_is_cut_off_and_others_are_heard(make: Make, stranger: Say) -> None:
    node = make(2, frame_max=10_000)
    stranger(node, b"3", frames_of(append(bytes(20_000), sender=3), "c", 1, 7))
    stranger(node, b"4", frames_of(Stale(9, 4), "c", 1, 7))
    until(lambda: node.heard, node)
    assert node.heard == [Stale(9, 4)]


# -- nobody waits -----------------------------------------------------------------------------------------------------


def test_rule_18_publishing_to_one_who_does_not_read_drops_words_and_stops_nobody(make: Make) -> None:
    one, deaf, three = make(1), make(2), make(3)
    join(one, deaf, three)
    count = 5 * PUBLISH_HWM
    for at in range(count):
        one.links.publish([append(bytes(10_000))])
        until(lambda: len(three.heard) > at - PUBLISH_HWM // 2, three)  # noqa: B023  # called here
    until(lambda: len(three.heard) == count, three)
    until(lambda: has_published(one) and Stale(9, 1) in deaf.heard, deaf)
    assert len(deaf.heard) < count


def test_a_subscriber_that_stalled_beyond_all_time_outs_is_alive(make: Make) -> None:
    one, deaf = make(1, election_ms=100), make(2, election_ms=100)
    join(one, deaf)
    for _ in range(5 * PUBLISH_HWM):
        one.links.publish([append(bytes(10_000))])
    time.sleep(0.5)  # the stall itself
    until(lambda: has_published(one) and Stale(9, 1) in deaf.heard, one, deaf)


def test_rule_20_what_is_sent_to_one_who_is_away_is_dropped_at_once(make: Make, tmp_path: Path) -> None:
    node = make(1)
    node.links.add_peer(2, PeerAddress(f"ipc://{tmp_path}/nobody", f"ipc://{tmp_path}/none"))
    node.links.send([(2, Stale(9, 1)), (77, Stale(9, 1))])
    assert node.links.counters.unsent == 2
    assert node.links.connected() == set()


def test_rule_20_every_socket_has_its_limits(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    opened: list[zmq.Socket[bytes]] = []
    original = zmq.Context.socket

    def recorded(self: Any, kind: int, *args: Any, **options: Any) -> Any:
        opened.append(original(self, kind, *args, **options))
        return opened[-1]

    monkeypatch.setattr(zmq.Context, "socket", recorded)
    make(1).links.add_peer(2, PeerAddress("tcp://127.0.0.1:1", "tcp://127.0.0.1:1"))
    kinds = {socket.getsockopt(zmq.TYPE): socket for socket in opened}
    assert set(kinds) == {zmq.PUB, zmq.SUB, zmq.ROUTER, zmq.DEALER, zmq.PAIR}
    assert kinds[zmq.DEALER].getsockopt(zmq.IMMEDIATE) == 1
    del kinds[zmq.PAIR]  # news of the DEALER, within the process
    for socket in kinds.values():
        assert socket.getsockopt(zmq.LINGER) in range(1001)
        assert socket.getsockopt(zmq.SNDHWM) in range(1, PUBLISH_HWM + 1)
        assert socket.getsockopt(zmq.RCVHWM) in range(1, PUBLISH_HWM + 1)
        assert socket.getsockopt(zmq.MAXMSGSIZE) == 1 << 20
        assert socket.getsockopt(zmq.HANDSHAKE_IVL) == socket.getsockopt(zmq.CONNECT_TIMEOUT) == 1000
    assert kinds[zmq.SUB].getsockopt(zmq.HEARTBEAT_IVL) == kinds[zmq.PUB].getsockopt(zmq.HEARTBEAT_TTL) == 0
    assert kinds[zmq.SUB].getsockopt(zmq.TCP_KEEPALIVE) == 1
    for kind in (zmq.PUB, zmq.ROUTER, zmq.DEALER):
        assert kinds[kind].getsockopt(zmq.HEARTBEAT_IVL) == 250
        assert kinds[kind].getsockopt(zmq.HEARTBEAT_TIMEOUT) == 1000


def test_an_endpoint_that_is_taken_is_named_and_nothing_stays_open(make: Make) -> None:
    taken = make(1).links.address.publish
    with zmq.Context() as context, pytest.raises(InvalidArgument, match=f"cannot listen for peers on {taken}"):
        PeerLinks(context, "c", 2, 1, ANY, taken, {}, Disks(2, 7, {}))


def test_an_endpoint_that_is_none_is_named(make: Make) -> None:
    with pytest.raises(InvalidArgument, match="cannot connect to node 2 at nonsense"):
        make(1).links.add_peer(2, PeerAddress("nonsense", "tcp://127.0.0.1:1"))


# -- processes that end -----------------------------------------------------------------------------------------------


def meet(one: Node, process: "subprocess.Popen[str]") -> PeerAddress:
    """Connect to the process, and wait until it hears what is published and sent."""
    address = endpoints_of(process)
    one.links.add_peer(2, address)
    until(lambda: has_published(one, 6) and Stale(7, 2) in one.heard, one)
    until(lambda: one.links.connected() == {2}, one)
    return address


def test_a_peer_whose_process_is_killed_is_lost_and_comes_back(make: Make, spawn: Spawn) -> None:
    one = make(1)
    process = spawn(one)
    address = meet(one, process)
    assert one.lost == []
    process.kill()
    process.wait()
    until(lambda: one.lost == [2], one)
    assert one.links.connected() == set()
    one.links.send([(2, Stale(20, 1))])
    assert one.links.counters.unsent == 1
    endpoints_of(spawn(one, incarnation=2, endpoints=address))
    until(lambda: one.links.connected() == {2}, one)
    one.links.send([(2, Stale(30, 1))])
    until(lambda: Stale(31, 2) in one.heard, one)
    until(lambda: has_published(one, 40) and Stale(41, 2) in one.heard, one)
    assert Stale(21, 2) not in one.heard
    assert one.lost == [2]


def test_a_peer_whose_process_is_stopped_is_lost(make: Make, spawn: Spawn) -> None:
    one = make(1, election_ms=300)
    process = spawn(one)
    meet(one, process)
    os.kill(process.pid, signal.SIGSTOP)
    until(lambda: one.lost == [2], one)
    os.kill(process.pid, signal.SIGCONT)
    until(lambda: one.links.connected() == {2}, one)
    until(lambda: has_published(one, 50) and Stale(51, 2) in one.heard, one)


def test_a_peer_that_is_removed_is_not_lost(pair: tuple[Node, Node]) -> None:
    one, two = pair
    one.links.remove_peer(2)
    until(lambda: two.lost == [] and one.links.connected() == set(), one)
    assert one.lost == []


def test_who_reaches_us_is_answered_though_we_do_not_know_it(make: Make) -> None:
    """It joined while we were away, and may need our vote to become the primary that tells us so."""
    one, three = make(1), make(3)
    three.links.add_peer(1, one.links.address)

    def answered() -> bool:
        three.links.send([(1, AskVote(9, 3, 1, 1, True, False))])
        one.links.send([(3, Vote(9, 1, True, True))])
        return Vote(9, 1, True, True) in three.heard

    until(answered, one, three)
    assert AskVote(9, 3, 1, 1, True, False) in one.heard
    three.links.remove_peer(1)
    sent = one.links.counters.unsent

    def gone() -> bool:
        one.links.send([(3, Vote(9, 1, True, True))])
        return one.links.counters.unsent > sent

    until(gone, one)
