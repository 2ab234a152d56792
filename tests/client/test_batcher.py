"""When messages leave: the batcher by itself."""

import pytest

from penstock.client.batcher import FLYING_BYTES, FLYING_MAX, Batch, Batcher
from penstock.client.headers import Header
from penstock.peers.errors import InvalidArgument, QueueFull


def leave(batcher: Batcher, now_ms: int = 0) -> Batch | None:
    """The batch that is due, on its way."""
    batch = batcher.due(now_ms)
    if batch is not None:
        batcher.left(batch)
    return batch


def put(batcher: Batcher, body: bytes, header: Header = None) -> Batch:
    """The batch that the message is in."""
    batch = batcher.open or batcher.begin()
    batch.add(body, len(body), header)
    return batch


def test_a_lone_message_leaves_at_once() -> None:
    batcher = Batcher()
    batch = put(batcher, b"a")
    assert batcher.due(0) is batch


def test_messages_gather_while_a_batch_is_under_way() -> None:
    batcher = Batcher()
    put(batcher, b"a")
    leave(batcher)
    put(batcher, b"b")
    put(batcher, b"c")
    assert batcher.due(0) is None


def test_what_has_gathered_leaves_when_the_answer_comes() -> None:
    batcher = Batcher()
    put(batcher, b"a")
    first = leave(batcher)
    assert first is not None
    put(batcher, b"b")
    second = put(batcher, b"c")
    batcher.landed(first, 7, 0, None)
    assert leave(batcher) is second
    assert second.bodies == [b"b", b"c"]


def test_a_full_batch_leaves_although_others_are_under_way() -> None:
    batcher = Batcher(batch_max=2)
    put(batcher, b"a")
    leave(batcher)
    put(batcher, b"b")
    assert leave(batcher) is None
    put(batcher, b"c")
    assert leave(batcher) is not None


def test_a_batch_is_full_by_its_bytes_too() -> None:
    batcher = Batcher(batch_bytes=100)
    batch = put(batcher, b"x" * 100)
    assert batch.full


def test_a_lingering_batch_leaves_when_its_time_has_come() -> None:
    batcher = Batcher(linger_ms=10)
    batch = put(batcher, b"a")
    assert (batcher.due(9), batcher.due_ms(), batcher.due(10)) == (None, 10, batch)


def test_a_batch_that_somebody_waits_for_does_not_linger() -> None:
    batcher = Batcher(linger_ms=10)
    batch = put(batcher, b"a")
    batch.wanted = True
    assert batcher.due(0) is batch


def test_a_landed_batch_keeps_its_offset_and_lets_its_messages_go() -> None:
    batcher = Batcher()
    batch = put(batcher, b"a")
    leave(batcher)
    batcher.landed(batch, 5, 0, None)
    assert (batch.done, batch.offset, batch.bodies, batcher.flying_bytes) == (True, 5, [], 0)


def test_a_refused_batch_keeps_its_error() -> None:
    batcher = Batcher()
    batch = put(batcher, b"a")
    leave(batcher)
    error = QueueFull("full")
    batcher.landed(batch, -1, 0, error)
    assert (batch.done, batch.error) == (True, error)


def test_headers_stay_with_their_messages() -> None:
    batcher = Batcher()
    put(batcher, b"a")
    put(batcher, b"b", {"k": 1})
    batch = put(batcher, b"c")
    assert batch.all_headers() == [None, {"k": 1}, None]


def test_a_batch_without_headers_carries_none() -> None:
    assert put(Batcher(), b"a").all_headers() is None


def test_too_many_batches_under_way_are_a_crowd() -> None:
    batcher = Batcher(batch_max=1)
    for _ in range(FLYING_MAX):
        assert not batcher.crowded()
        put(batcher, b"a")
        leave(batcher)
    assert batcher.crowded()


def test_too_many_bytes_under_way_are_a_crowd() -> None:
    batcher = Batcher()
    put(batcher, bytes(FLYING_BYTES))
    leave(batcher)
    assert batcher.crowded()


def test_a_batch_holds_at_least_one_message() -> None:
    with pytest.raises(InvalidArgument, match="batch_max"):
        Batcher(batch_max=0)
