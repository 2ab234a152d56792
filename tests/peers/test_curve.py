"""Keys between nodes: who has the right ones hears and is heard, nobody else is, and nobody speaks for another."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq
from kit.peers import Make, Node, has_published, join, until

from penstock.peers.curve import KeyPair, make_keys, read_keys
from penstock.peers.errors import AlreadyExists, InvalidArgument
from penstock.peers.frames import frames_of
from penstock.peers.raft.words import Stale

Socket = zmq.Socket[bytes]
Knock = Callable[[Node, int, str, KeyPair | None, bytes], Socket]


def keys() -> KeyPair:
    return KeyPair(*(key.decode() for key in zmq.curve_keypair()))


@pytest.fixture
def pair(make: Make) -> tuple[Node, Node]:
    nodes = make(1, keys=keys()), make(2, keys=keys())
    join(*nodes)
    return nodes


@pytest.fixture
def knock() -> Iterator[Knock]:
    """A socket of a stranger that is connected to a node, with these keys, under this routing id."""
    context: zmq.Context[Socket] = zmq.Context()
    sockets: list[Socket] = []

    def knock(to: Node, kind: int, server_key: str, own: KeyPair | None, route: bytes) -> Socket:
        socket = context.socket(kind)
        sockets.append(socket)
        if own is not None:
            socket.setsockopt(zmq.CURVE_SERVERKEY, server_key.encode())
            socket.setsockopt(zmq.CURVE_PUBLICKEY, own.public.encode())
            socket.setsockopt(zmq.CURVE_SECRETKEY, own.secret.encode())
        if kind == zmq.SUB:
            socket.setsockopt(zmq.SUBSCRIBE, b"")
        if route:
            socket.setsockopt(zmq.ROUTING_ID, route)
        socket.connect(to.links.address.publish if kind == zmq.SUB else to.links.address.listen)
        return socket

    yield knock
    context.destroy(0)


def test_rule_19_who_has_the_keys_hears_and_is_heard(pair: tuple[Node, Node]) -> None:
    one, two = pair
    one.links.send([(2, Stale(9, 1))])
    until(lambda: has_published(one, 10) and {Stale(9, 1), Stale(10, 1)} <= {*two.heard}, one, two)


@pytest.mark.parametrize("has_keys", [True, False], ids=["with keys of its own", "in the clear"])
def test_rule_19_a_stranger_hears_nothing_and_is_not_heard(
    pair: tuple[Node, Node], knock: Knock, has_keys: bool
) -> None:
    one, two = pair
    own = keys() if has_keys else None
    dealer = knock(two, zmq.DEALER, two.links.address.key, own, b"3")
    sub = knock(two, zmq.SUB, two.links.address.key, own, b"")
    dealer.send_multipart(frames_of(Stale(9, 3), "c", 1, 7))
    if has_keys:
        assert two.links._door is not None
        until(lambda: two.links._door is not None and two.links._door.denied >= 2, one, two)
    # Meanwhile those who are listed go on hearing each other.
    one.links.send([(2, Stale(10, 1))])
    until(lambda: has_published(two, 11) and Stale(11, 2) in one.heard and two.heard, one, two)
    assert two.heard == [Stale(10, 1)]
    assert not sub.poll(0)


def test_rule_19_who_has_the_key_of_one_node_and_says_to_be_another_is_dropped(
    pair: tuple[Node, Node],
    knock: Knock,
    make: Make,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, two = pair
    three_keys = keys()
    three = make(3, keys=three_keys)
    for node in (one, two):
        node.links.add_peer(3, three.links.address)
        three.links.add_peer(node.node, node.links.address)
    as_one = knock(two, zmq.DEALER, two.links.address.key, three_keys, b"1")

    def dropped() -> bool:
        as_one.send_multipart(frames_of(Stale(9, 1), "c", 2, 7), zmq.NOBLOCK)
        return two.links.counters.foreign > 2

    until(lambda: dropped() and three.links.connected() == {1, 2}, one, two, three)
    three.links.send([(2, Stale(9, 3))])
    until(lambda: two.heard == [Stale(9, 3)], one, two, three)
    said = [record.message for record in caplog.records if "speaks as" in record.message]
    assert said == ["who has the key of node 3 speaks as node 1: what it says is dropped"]


def test_rule_19_another_one_at_the_place_of_a_peer_is_not_believed(make: Make) -> None:
    one, false_two = make(1, keys=keys()), make(2, keys=keys())
    one.links.add_peer(2, false_two.links.address._replace(key=keys().public))
    false_two.links.add_peer(1, one.links.address)
    end: list[int] = []
    until(lambda: has_published(false_two) and (end.append(1), len(end) > 300)[1], one, false_two)
    assert one.heard == []
    assert one.links.connected() == set()


def test_who_is_listed_later_comes_in_by_itself(make: Make) -> None:
    one, two = make(1, keys=keys(), election_ms=200), make(2, keys=keys(), election_ms=200)
    two.links.add_peer(1, one.links.address)
    assert one.links._door is not None
    until(lambda: one.links._door is not None and one.links._door.denied > 2, one, two)
    one.links.add_peer(2, two.links.address)
    until(lambda: has_published(one) and has_published(two) and one.heard and two.heard, one, two)


def test_who_has_left_is_not_let_in_again(pair: tuple[Node, Node], knock: Knock) -> None:
    one, two = pair
    two.links.remove_peer(1)
    one.links.add_peer(2, two.links.address)
    until(lambda: two.links._door is not None and two.links._door.denied > 0, one, two)
    assert one.links.connected() == set()


def test_a_peer_that_spoke_in_the_clear_is_found_when_it_has_its_keys(make: Make) -> None:
    """libzmq never tries again after such a handshake; we do."""
    one, plain = make(1, keys=keys(), election_ms=200), make(2)
    plain_address, own = plain.links.address, keys()
    one.links.add_peer(2, plain_address._replace(key=own.public))
    until(lambda: one.links._given_up, one, plain)
    plain.close()
    two = make(2, endpoints=tuple(plain_address[:2]), keys=own)
    two.links.add_peer(1, one.links.address)
    until(lambda: one.links.connected() == {2} and has_published(two) and one.heard, one, two)


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_secret_key_is_for_its_owner_only_and_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "key"
    made = make_keys(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_keys(path) == made
    assert made.public not in path.read_text()


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    made = make_keys(tmp_path / "key")
    with pytest.raises(AlreadyExists, match="it is kept"):
        make_keys(tmp_path / "key")
    assert read_keys(tmp_path / "key") == made


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_a_key_that_others_may_read_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    make_keys(tmp_path / "key")
    os.chmod(tmp_path / "key", mode)
    with pytest.raises(InvalidArgument, match=rf"mode {mode:04o}.*chmod 600"):
        read_keys(tmp_path / "key")


@pytest.mark.parametrize("content", ["", "x", "x" * 41, "é" * 40])
def test_what_is_no_key_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(InvalidArgument, match="holds no secret key"):
        read_keys(path)


def test_a_key_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="cannot be read"):
        read_keys(tmp_path / "none")
