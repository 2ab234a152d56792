"""Payloads are cut and joined without loss, however their sender packed them."""

from __future__ import annotations

import struct
from typing import Any

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from penstock.peers import wire
from penstock.peers.splice import Part, bounds_of, join_payload

Batch = tuple[list[bytes], wire.Headers]
values = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5) | st.binary(max_size=5)
header = st.none() | st.dictionaries(st.text(max_size=5), values, max_size=2)
# Around 16 bodies the list, and around 256 bytes a body, are packed in another format.
body = st.binary(max_size=8) | st.binary(min_size=250, max_size=260)
same = st.binary(min_size=100, max_size=100)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    bodies = draw(st.lists(draw(st.sampled_from([body, same])), min_size=1, max_size=20))
    headers = draw(st.none() | st.lists(header, min_size=len(bodies), max_size=len(bodies)))
    return bodies, headers


def pack_wide(bodies: list[bytes], headers: wire.Headers) -> bytes:
    """As a client may pack it that spends four bytes on each length."""
    packed = [b"\xdd", struct.pack(">I", 2), b"\xdd", struct.pack(">I", len(bodies))]
    packed += [b"\xc6" + struct.pack(">I", len(one)) + one for one in bodies]
    packed.append(b"\xc0" if headers is None else b"\xdd" + struct.pack(">I", len(headers)))
    packed += [msgpack.packb(one) for one in headers or ()]
    return b"".join(packed)


@st.composite
def cut_batches(draw: st.DrawFn) -> tuple[Batch, Part]:
    """A batch, and the part of it that is delivered."""
    bodies, headers = draw(batches())
    start = draw(st.just(0) | st.integers(0, len(bodies) - 1))
    end = draw(st.just(len(bodies)) | st.integers(start + 1, len(bodies)))
    extra = draw(st.none() | st.just({"penstock-queue": "jobs", "penstock-offset": 7}))
    payload = draw(st.sampled_from([wire.pack_payload, pack_wide]))(bodies, headers)
    whole = end - start == len(bodies) and extra is None
    bounds = None if whole and draw(st.booleans()) else bounds_of(payload)
    cut = bodies[start:end], (headers or [None] * len(bodies))[start:end]
    return cut, Part(payload, start, end, headers is None, bounds, extra)


@given(st.lists(cut_batches(), min_size=1, max_size=5))
def test_joined_payloads_hold_every_message_with_its_headers(cuts: list[tuple[Batch, Part]]) -> None:
    bodies: list[bytes] = []
    headers: list[dict[str, Any] | None] = []
    for (some, theirs), part in cuts:
        bodies += some
        headers += [{**(mine or {}), **part.extra} if part.extra else mine for mine in theirs or ()]
    joined, found = wire.unpack_payload(join_payload([part for _, part in cuts]))
    assert joined == bodies
    assert (found or [None] * len(bodies)) == headers


@given(batches(), st.sampled_from([wire.pack_payload, pack_wide]))
def test_each_packed_message_lies_where_its_bounds_say(batch: Batch, pack: Any) -> None:
    bodies, headers = batch
    payload = pack(bodies, headers)
    found = bounds_of(payload)
    assert [msgpack.unpackb(payload[a:b]) for a, b in zip(found.bodies, found.bodies[1:], strict=False)] == bodies
    if headers is None:
        assert found.headers is None
    else:
        assert found.headers is not None
        places = zip(found.headers, found.headers[1:], strict=False)
        assert [msgpack.unpackb(payload[a:b]) for a, b in places] == headers


def test_a_whole_payload_is_handed_on_as_it_is() -> None:
    payload = wire.pack_payload([b"a", b"b"])
    assert join_payload([Part(payload, 0, 2, True, None)]) is payload


def test_bounds_of_many_messages_of_one_size_weigh_nothing() -> None:
    alike = bounds_of(wire.pack_payload([bytes(100)] * 1000))
    various = bounds_of(wire.pack_payload([bytes(size % 100) for size in range(1000)], [{"k": 1}] * 1000))
    assert (alike.weight, various.weight) == (3, 1001 + 3)


def test_messages_without_headers_are_joined_without_any() -> None:
    some = wire.pack_payload([b"a", b"b"], [{"k": 1}, None])
    joined = join_payload([Part(some, 1, 2, False, bounds_of(some)), Part(wire.pack_payload([b"c"]), 0, 1, True, None)])
    assert msgpack.unpackb(joined) == [[b"b", b"c"], None]
