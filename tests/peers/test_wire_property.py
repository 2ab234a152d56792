"""Payloads and frames come back as they went."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.peers import wire
from penstock.peers.errors import ERRORS, InvalidArgument, PenstockError, ProtocolError, from_body, shown, to_body

Batch = tuple[list[bytes], wire.Headers]
values = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5) | st.binary(max_size=5)
header = st.none() | st.dictionaries(st.text(max_size=5), values, max_size=2)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    bodies = draw(st.lists(st.binary(max_size=8), min_size=1, max_size=20))
    headers = draw(st.none() | st.lists(header, min_size=len(bodies), max_size=len(bodies)))
    return bodies, headers


@given(batches())
def test_a_payload_comes_back_as_it_went(batch: Batch) -> None:
    assert wire.unpack_payload(wire.pack_payload(*batch)) == batch


@given(st.binary(max_size=60))
def test_noise_is_no_payload_or_a_right_one(noise: bytes) -> None:
    try:
        bodies, headers = wire.unpack_payload(noise)
    except ProtocolError:
        return
    assert all(type(body) is bytes for body in bodies)
    assert headers is None or len(headers) == len(bodies)


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_noise_is_no_request_or_a_right_one(noise: list[bytes]) -> None:
    for frames in (noise, [wire.MAGIC, *noise]):
        try:
            request = wire.parse_request(frames)
        except ProtocolError:
            continue
        assert type(request.op) is str
        assert type(request.sequence) is int


@given(st.text(max_size=9), st.integers(-(2**63), 2**63 - 1), st.dictionaries(st.text(max_size=4), values), st.binary())
def test_requests_and_replies_come_back_as_they_went(
    op: str, sequence: int, args: dict[str, Any], payload: bytes
) -> None:
    assert wire.parse_request(wire.request(op, sequence, args, payload)) == (op, sequence, args, payload)
    assert wire.parse_reply(wire.reply(sequence, op, args)) == (sequence, op, args, None)


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_an_error_comes_back_as_itself(code: str) -> None:
    error = from_body(code, to_body(ERRORS[code]("what", "what would be right")))
    assert (type(error), error.message, error.hint) == (ERRORS[code], "what", "what would be right")


def test_an_unknown_code_is_a_protocol_error() -> None:
    assert isinstance(from_body("Surprise", {"message": "boo"}), ProtocolError)
    assert issubclass(InvalidArgument, PenstockError)


@given(st.recursive(values, lambda it: st.lists(it) | st.dictionaries(st.text(), it), max_leaves=20))
def test_whatever_is_shown_is_short(value: Any) -> None:
    assert len(shown(value)) <= 80


def test_what_is_shown_may_be_deep() -> None:
    value: Any = None
    for _ in range(100_000):
        value = (value,)
    assert len(shown(value)) <= 80
