"""Frames between nodes: every word comes out as it went in, and nothing else comes out at all."""

import zlib
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.peers.encoded import Encoded
from penstock.peers.frames import SMALL, BadFrames, Foreign, Said, frames_of, read_header, read_word
from penstock.peers.log import Entry, encode
from penstock.peers.messages import Append as AppendMessages
from penstock.peers.messages import Command, Create, Expire, Noop, SetMembers
from penstock.peers.presence import Presence
from penstock.peers.raft.words import Append, Appended, AskVote, Fetch, Stale, TimeoutNow, Vote
from penstock.peers.repair_words import AskEntry, GivenEntry
from penstock.peers.snapshot_words import Chunk, ChunkAck, make_chunk

numbers = st.integers(0, 2**63 - 1)
nodes = st.integers(1, 2**31)
payloads = st.binary(max_size=200) | st.integers(0, 3 * SMALL).map(bytes)
commands: st.SearchStrategy[Command] = st.one_of(
    st.just(Noop()),
    st.builds(Expire, numbers, numbers),
    st.builds(Create, st.text(), st.text(), st.dictionaries(st.text(), numbers)),
    st.builds(AppendMessages, st.text(), numbers, numbers, st.booleans(), st.none(), st.none()),
    st.builds(
        SetMembers,
        st.lists(nodes).map(tuple),
        st.lists(nodes).map(tuple),
        st.lists(st.tuples(nodes, st.text(), st.text(), st.text(), st.text())).map(tuple),
        st.lists(st.tuples(nodes, numbers)).map(tuple),
    ),
)


@st.composite
def appends(draw: st.DrawFn) -> Append:
    prev_index, prev_term = draw(st.integers(0, 2**40)), draw(st.integers(0, 50))
    terms = sorted(draw(st.lists(st.integers(prev_term, 60), max_size=6)))
    entries = tuple(
        Entry(prev_index + 1 + at, term, draw(numbers), draw(numbers), draw(numbers), draw(commands), draw(payloads))
        for at, term in enumerate(terms)
    )
    rest = draw(st.tuples(numbers, numbers, numbers, st.booleans()))
    return Append(draw(st.integers(60, 2**40)), draw(nodes), prev_index, prev_term, entries, *rest)


def given_entry(term: int, sender: int, index: int, payload: bytes) -> GivenEntry:
    return GivenEntry(term, sender, index, encode(Entry(index, term, 0, 0, 0, Noop(), payload)))


words: st.SearchStrategy[Said] = st.one_of(
    appends(),
    st.builds(Appended, numbers, nodes, numbers, numbers),
    st.builds(Fetch, numbers, nodes, numbers, numbers),
    st.builds(Stale, numbers, nodes),
    st.builds(AskVote, numbers, nodes, numbers, numbers, st.booleans(), st.booleans()),
    st.builds(Vote, numbers, nodes, st.booleans(), st.booleans()),
    st.builds(TimeoutNow, numbers, nodes),
    st.builds(make_chunk, numbers, nodes, numbers, numbers, numbers, st.booleans(), payloads),
    st.builds(ChunkAck, numbers, nodes, numbers, numbers, numbers),
    st.builds(AskEntry, numbers, nodes, numbers),
    st.builds(given_entry, numbers, nodes, numbers, payloads),
    st.builds(Presence, nodes, numbers, st.booleans()),
)


def entry(index: int, term: int = 3, payload: bytes = b"hello") -> Entry:
    return Entry(index, term, 1_000, 7, 8, AppendMessages("mail", 1, len(payload), True), payload)


def append(*entries: Entry) -> Append:
    return Append(3, 1, 4, 2, entries, 4, 9, 4 + len(entries), False)


def with_code_127(raw: bytes) -> bytes:
    """An entry at 5 whose command is a Noop, as a newer version might write one: sound, but not for us."""
    assert raw.count(b"\x01\x91\x00") == 1
    changed = raw[4:].replace(b"\x01\x91\x00", b"\x7f\x91\x00")
    return zlib.crc32(changed, zlib.crc32((5).to_bytes(8, "big"))).to_bytes(4, "big") + changed


def read(frames: list[bytes]) -> Said:
    return read_word(read_header(frames), frames)[0]


def with_header(frames: list[bytes], **changed: Any) -> list[bytes]:
    header = read_header(frames)._replace(**changed)
    return [frames[0], msgpack.packb(header), *frames[2:]]


@given(words, st.text(), numbers, st.integers(1, 2**63 - 1))
def test_every_word_comes_out_as_it_went_in(word: Said, cluster: str, incarnation: int, disk: int) -> None:
    frames = frames_of(word, cluster, incarnation, disk)
    header = read_header(frames)
    assert header[:4] == (cluster, word.sender, incarnation, disk)
    assert read_word(header, frames)[0] == word


@given(appends())
def test_the_bytes_of_entries_come_out_with_them_as_the_disk_wants_them(word: Append) -> None:
    frames = frames_of(word, "c", 1, 7)
    assert read_word(read_header(frames), frames)[1] == [encode(entry) for entry in word.entries]


@given(words, st.data())
def test_a_word_with_a_flipped_bit_behind_its_header_is_refused(word: Said, data: st.DataObject) -> None:
    frames = frames_of(word, "c", 1, 7)
    body = [at for at in range(2, len(frames)) if frames[at]]
    if not body:
        return
    at = data.draw(st.sampled_from(body))
    flipped = bytearray(frames[at])
    flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    frames[at] = bytes(flipped)
    with pytest.raises(BadFrames):
        read(frames)


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_garbage_is_refused(frames: list[bytes]) -> None:
    with pytest.raises(BadFrames):
        read(frames)
    with pytest.raises(BadFrames):
        read([b"PP1", *frames])


@given(words, st.binary(max_size=20))
def test_a_frame_too_many_is_refused(word: Said, more: bytes) -> None:
    frames = frames_of(word, "c", 1, 7)
    if type(word) is Append and not word.entries:
        frames.append(b"x")
    with pytest.raises(BadFrames):
        read([*frames, more])


@given(words)
def test_a_frame_too_few_is_refused(word: Said) -> None:
    with pytest.raises(BadFrames):
        read(frames_of(word, "c", 1, 7)[:-1])


def test_frames_of_another_version_are_foreign_rather_than_broken() -> None:
    with pytest.raises(Foreign):
        read_header([b"PP2", *frames_of(Stale(1, 1), "c", 1, 7)[1:]])


@pytest.mark.parametrize(
    "changed",
    [
        {"code": 99}, {"code": True}, {"sender": 0}, {"sender": 2**63}, {"incarnation": -1}, {"cluster": 5},
        {"fields": (3,)}, {"fields": (3, 1, 2, -9)}, {"fields": (3, 1, 2, 2**63)}, {"fields": (3, 1, 2, True)},
        {"fields": (3, 2, 2, 9)}, {"fields": "text"}, {"sizes": None},
    ],
)  # fmt: skip
def test_a_header_with_other_fields_is_refused(changed: dict[str, Any]) -> None:
    frames = frames_of(Appended(3, 1, 2, 9), "c", 1, 7)
    with pytest.raises(BadFrames):
        read(with_header(frames, **changed))


@pytest.mark.parametrize("sizes", [(), (1,), (-1, 4), (True,), ("a",), (SMALL,), (30, 30, 30)])
def test_entries_of_other_sizes_than_the_header_says_are_refused(sizes: Any) -> None:
    frames = frames_of(append(entry(5), entry(6)), "c", 1, 7)
    with pytest.raises(BadFrames):
        read(with_header(frames, sizes=sizes))


def test_entries_in_another_place_than_they_were_written_for_are_refused() -> None:
    with pytest.raises(BadFrames, match="entry 5"):
        read(frames_of(append(entry(6), entry(5)), "c", 1, 7))


@pytest.mark.parametrize("terms", [(3, 2), (1,), (4,)])
def test_terms_that_fall_or_exceed_the_primarys_are_refused(terms: tuple[int, ...]) -> None:
    entries = [entry(5 + at, term) for at, term in enumerate(terms)]
    with pytest.raises(BadFrames, match="of term"):
        read(frames_of(append(*entries), "c", 1, 7))


def test_an_entry_of_an_unknown_command_is_refused() -> None:
    whole = entry(5)
    frames = frames_of(append(whole), "c", 1, 7, lambda _: with_code_127(encode(whole._replace(command=Noop()))))
    with pytest.raises(BadFrames, match="command 127 is unknown"):
        read(frames)


def test_small_entries_share_a_frame_and_large_ones_are_not_copied() -> None:
    large = entry(6, payload=bytes(SMALL))
    raws = {5: encode(entry(5)), 6: encode(large), 7: encode(entry(7))}
    frames = frames_of(append(entry(5), large, entry(7)), "c", 1, 7, lambda one: raws[one.index])
    assert frames[2] == raws[5] + raws[7]
    assert frames[3] is raws[6]


def test_an_entry_is_encoded_once() -> None:
    encoded, one = Encoded(), entry(5)
    assert encoded(one) == encode(one)
    assert encoded(one) is encoded(one)


def test_another_entry_in_the_same_place_is_encoded_for_itself() -> None:
    encoded = Encoded()
    encoded(entry(5))
    assert encoded(entry(5, payload=b"other")) == encode(entry(5, payload=b"other"))


def test_encoded_remembers_what_was_received_and_no_more_than_it_may() -> None:
    encoded, one, two = Encoded(bytes_max=100), entry(5), entry(6)
    encoded.keep(one, b"x" * 60)
    assert encoded(one) == b"x" * 60
    encoded.keep(two, b"y" * 60)
    assert encoded(two) == b"y" * 60
    assert encoded(one) == encode(one)


def test_a_piece_of_a_snapshot_knows_if_it_is_sound() -> None:
    piece = make_chunk(3, 1, 900, 2, 0, False, b"state")
    assert piece.is_sound
    assert not piece._replace(number=1).is_sound
    assert not piece._replace(last=True).is_sound
    assert not piece._replace(payload=b"stata").is_sound
    assert isinstance(piece, Chunk)
