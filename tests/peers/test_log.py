"""The log entry on disk: it comes back as it was written, or is found corrupt by a single bit."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.peers import messages as m
from penstock.peers.log import CorruptEntry, Entry, decode, encode

numbers = st.integers(0, 2**53)
ranges = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=3).map(tuple)
text = st.text(max_size=8)
options = st.dictionaries(text, st.none() | numbers, max_size=2)
EXAMPLES: dict[type[Any], st.SearchStrategy[Any]] = {
    m.Noop: st.builds(m.Noop, numbers),
    m.SetMembers: st.builds(
        m.SetMembers,
        st.tuples(numbers),
        st.tuples(numbers),
        st.tuples(st.tuples(numbers, text, text, text, text)),
        st.tuples(st.tuples(numbers, numbers)),
    ),
    m.OpenSession: st.builds(m.OpenSession, text, text, numbers),
    m.EndSession: st.builds(m.EndSession, numbers, st.booleans()),
    m.Refuse: st.builds(m.Refuse, text, text, text),
    m.Count: st.builds(m.Count),
    m.Create: st.builds(m.Create, text, text, options),
    m.Configure: st.builds(m.Configure, text, options),
    m.Delete: st.builds(m.Delete, text),
    m.Purge: st.builds(m.Purge, text),
    m.Pause: st.builds(m.Pause, text, st.booleans()),
    m.CreateGroup: st.builds(m.CreateGroup, text, text, text, numbers),
    m.SeekGroup: st.builds(m.SeekGroup, text, text, text, numbers),
    m.RetryGroup: st.builds(m.RetryGroup, text, text, numbers),
    m.DeleteGroup: st.builds(m.DeleteGroup, text, text),
    m.Append: st.builds(
        m.Append, text, numbers, numbers, st.booleans(), st.none() | options, st.none() | st.tuples(st.none() | text)
    ),
    m.Pull: st.builds(m.Pull, text, text, st.integers(-(2**53), 2**53), numbers, numbers, numbers),
    m.Ack: st.builds(m.Ack, numbers, ranges),
    m.Complete: st.builds(
        m.Complete, numbers, ranges, st.tuples(st.tuples(text, numbers, numbers)), numbers, numbers, st.booleans()
    ),
    m.Nack: st.builds(m.Nack, numbers, ranges, st.none() | numbers, st.booleans(), text),
    m.Reject: st.builds(m.Reject, numbers, ranges, text, st.booleans()),
    m.Release: st.builds(m.Release, numbers, st.none() | ranges),
    m.Extend: st.builds(m.Extend, st.lists(numbers, max_size=3).map(tuple), numbers),
    m.Expire: st.builds(m.Expire, numbers, numbers),
    m.Cancel: st.builds(m.Cancel, text, numbers, numbers),
    m.Retry: st.builds(m.Retry, text, numbers, numbers),
    m.Trim: st.builds(m.Trim, text, numbers),
    m.Forget: st.builds(m.Forget, text, numbers),
    m.Sweep: st.builds(m.Sweep, numbers),
    m.TellChildren: st.builds(m.TellChildren),
    m.Outdate: st.builds(m.Outdate, numbers),
    m.RetryDead: st.builds(m.RetryDead, text, numbers),
    m.Move: st.builds(m.Move, text, text, numbers),
    m.Progress: st.builds(m.Progress, numbers, numbers, st.floats(0, 1), text),
    m.LogLines: st.builds(m.LogLines, numbers, numbers),
    m.Call: st.builds(m.Call, st.tuples(text, numbers, numbers, st.booleans(), st.none() | options, st.none())),
    m.ForgetJob: st.builds(m.ForgetJob, text, numbers),
    m.ForgetIds: st.builds(m.ForgetIds, numbers, st.tuples(text, text)),
    m.AddSchedule: st.builds(
        m.AddSchedule,
        text,
        text,
        st.none() | text,
        text,
        numbers,
        numbers,
        text,
        st.booleans(),
        st.booleans(),
        numbers,
        st.booleans(),
        st.none() | options,
    ),
    m.RemoveSchedule: st.builds(m.RemoveSchedule, text),
    m.PauseSchedule: st.builds(m.PauseSchedule, text, st.booleans(), text),
    m.FireSchedule: st.builds(m.FireSchedule, text, numbers, st.none() | numbers, numbers),
    m.RunSchedule: st.builds(m.RunSchedule, text),
    m.GiveUp: st.builds(m.GiveUp, st.lists(numbers, max_size=3).map(tuple)),
}
entries = st.builds(
    Entry, st.integers(1, 2**60), numbers, numbers, numbers, st.integers(-(2**63), 2**63 - 1),
    st.one_of(*EXAMPLES.values()), st.binary(max_size=40),
)  # fmt: skip


def test_every_command_has_a_code_and_is_tried_here() -> None:
    assert set(EXAMPLES) == set(m.CODES)


@given(entries)
def test_an_entry_comes_back_as_it_was_written(entry: Entry) -> None:
    found = decode(entry.index, encode(entry))
    assert found == entry
    assert type(found.command) is type(entry.command)


@given(entries, st.integers(0), st.integers(0, 7))
def test_a_single_flipped_bit_is_found_and_the_entry_named(entry: Entry, place: int, bit: int) -> None:
    raw = bytearray(encode(entry))
    raw[place % len(raw)] ^= 1 << bit
    with pytest.raises(CorruptEntry, match=f"log entry {entry.index} is corrupt"):
        decode(entry.index, bytes(raw))


@given(entries, st.integers(0))
def test_an_entry_cut_short_is_found(entry: Entry, length: int) -> None:
    raw = encode(entry)
    with pytest.raises(CorruptEntry):
        decode(entry.index, raw[: length % len(raw)])


@given(entries, st.integers(1, 2**60))
def test_an_entry_in_another_entry_s_place_is_found(entry: Entry, index: int) -> None:
    if index != entry.index:
        with pytest.raises(CorruptEntry):
            decode(index, encode(entry))
