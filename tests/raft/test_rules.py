"""The rules of the design that the core keeps, one by one; longer plays are in scenarios/."""

from random import Random

import pytest

from penstock.peers.log import Entry, HardState
from penstock.peers.messages import Address, Noop, SetMembers
from penstock.peers.presence import Disks, Presence, Refusal
from penstock.peers.raft.core import Raft, Timing
from penstock.peers.raft.tail import Tail, Violation
from penstock.peers.raft.words import Append, Appended, AskVote, Fetch, Members, Stale, Vote, Word

THREE = Members((1, 2, 3))


def entry(index: int, term: int) -> Entry:
    return Entry(index, term, 0, 0, 0, Noop(), b"")


def replica(log: list[Entry] | None = None, term: int = 0, members: Members = THREE) -> Raft:
    """Node 1, as after a restart."""
    held = log or []
    tail = Tail(0, 0, lambda first, last, bytes_max: held[first - 1 : last])
    tail.recall(held)
    return Raft(1, HardState(term, 0), tail, members, Timing(), Random(1), 0)


def primary(members: Members = THREE) -> Raft:
    """Node 1, elected by all others in term 1; its first entry is written and nowhere else."""
    raft = replica(members=members)
    raft.tick(raft.next_ms())
    for pre in (True, False):
        for node in members.voters[1:]:
            raft.step(Vote(1, node, True, pre), 2000)
    assert raft.is_primary
    raft.take(2000)
    raft.stable(raft.tail.last)
    return raft


def settled(members: Members = THREE) -> Raft:
    raft = primary(members)
    for node in members.voters[1:]:
        raft.step(Appended(1, node, 1, 1), 2000)
    raft.take(2000)
    assert raft.is_settled
    return raft


def append(entries: list[Entry], prev: tuple[int, int], commit: int = 0, term: int = 1, last: int = 0) -> Append:
    return Append(term, 2, *prev, tuple(entries), commit, 1, last or prev[0] + len(entries), False)


def heard(raft: Raft, word: Word, now_ms: int = 0) -> list[Word]:
    """What it says to that."""
    raft.step(word, now_ms)
    return [word for _, word in raft.take(now_ms).words]


def test_rule_1_a_vote_comes_with_the_hard_state_that_has_to_be_durable_before_it_leaves() -> None:
    raft = replica()
    raft.step(AskVote(1, 2, 0, 0, False, False), 0)
    ready = raft.take(0)
    assert ready.hard == HardState(1, 2)
    assert ready.words == [(2, Vote(1, 1, True, False))]
    assert ready.early == []


def test_rule_1_an_append_is_answered_among_the_words_that_wait_for_the_writes() -> None:
    raft = replica()
    raft.step(append([entry(1, 1)], (0, 0)), 0)
    ready = raft.take(0)
    assert ready.entries == [entry(1, 1)]
    assert ready.words == [(2, Appended(1, 1, 1, 1))]
    assert ready.early == []


def test_rule_1_the_primary_publishes_before_its_fsync_and_counts_itself_after_it() -> None:
    raft = settled()
    raft.propose(0, 0, 0, Noop())
    ready = raft.take(2000)
    assert [word.entries for word in ready.early if isinstance(word, Append)] == [tuple(ready.entries)]
    raft.step(Appended(1, 2, 2, 2), 2000)
    assert raft.tail.commit == 1
    raft.stable(2)
    assert raft.tail.commit == 2


def test_rule_1_a_lone_voter_says_nothing_early_to_its_learners() -> None:
    raft = replica(members=Members((1,), (2,)))
    raft.tick(raft.next_ms())
    ready = raft.take(2000)
    assert ready.hard == HardState(1, 1)
    assert ready.early == []
    assert [to for to, word in ready.words if isinstance(word, Append)] == [2]


def test_rule_2_an_answer_of_an_earlier_term_counts_nothing() -> None:
    raft = settled()
    raft.term = 5
    raft.propose(0, 0, 0, Noop())
    raft.take(2000)
    raft.stable(2)
    raft.step(Appended(1, 2, 2, 2), 2000)
    assert raft.tail.commit == 1
    assert raft.peers[2].match == 1


def test_rule_3_entries_are_truncated_only_where_another_term_stands() -> None:
    raft = replica([entry(1, 1), entry(2, 1), entry(3, 1)], term=1)
    raft.step(append([entry(2, 1)], (1, 1), term=2), 0)
    assert raft.take(0).truncate_from is None
    assert raft.tail.last == 3
    raft.step(append([entry(2, 2)], (1, 1), term=2), 0)
    ready = raft.take(0)
    assert (ready.truncate_from, ready.entries) == (2, [entry(2, 2)])


def test_rule_3_two_primaries_of_one_term_stop_the_node() -> None:
    with pytest.raises(Violation, match="both primary of term 1"):
        primary().step(append([], (0, 0)), 2000)


def test_rule_4_an_entry_of_an_earlier_term_is_committed_only_with_one_of_ours() -> None:
    raft = replica([entry(1, 1), entry(2, 1)], term=1)
    raft.tick(raft.next_ms())
    for pre in (True, False):
        raft.step(Vote(2, 2, True, pre), 2000)
    raft.take(2000)
    raft.stable(3)
    raft.step(Appended(2, 2, 2, 1), 2000)
    assert raft.tail.commit == 0
    raft.step(Appended(2, 2, 3, 1), 2000)
    assert raft.tail.commit == 3


def test_rule_4_a_new_primary_appends_an_empty_entry_first() -> None:
    raft = primary()
    assert type(raft.tail.entries(1, 1)[0].command) is Noop
    assert not raft.is_settled


@pytest.mark.parametrize("pre", [True, False])
def test_rule_5_who_heard_its_primary_within_an_election_time_out_gives_no_vote(pre: bool) -> None:
    raft = replica()
    heard(raft, append([], (0, 0)), 5000)
    assert not any(
        isinstance(word, Vote) and word.granted for word in heard(raft, AskVote(2, 3, 9, 1, pre, False), 5999)
    )
    assert any(isinstance(word, Vote) and word.granted for word in heard(raft, AskVote(2, 3, 9, 1, pre, False), 6000))


def test_rule_5_a_primary_that_asks_for_votes_is_primary_no_more_and_need_not_be_missed_first() -> None:
    raft = replica()
    heard(raft, append([], (0, 0)))
    assert heard(raft, AskVote(2, 2, 0, 0, True, False), 10) == [Vote(2, 1, True, True)]
    assert heard(raft, AskVote(2, 3, 0, 0, True, False), 10) == [Vote(2, 1, True, True)]


def test_rule_5_an_append_that_comes_late_or_twice_is_no_sign_of_life() -> None:
    raft = replica()
    for round, at_ms in ((7, 100), (8, 200), (8, 900), (7, 1100)):
        heard(raft, append([], (0, 0))._replace(round=round), at_ms)
    assert heard(raft, AskVote(2, 3, 0, 0, True, False), 1200) == [Vote(2, 1, True, True)]


def test_rule_5_a_word_of_an_earlier_term_is_answered_with_ones_own() -> None:
    raft = replica(term=4)
    assert heard(raft, append([], (0, 0))) == [Stale(4, 1)]
    assert heard(raft, AskVote(3, 2, 9, 3, False, False)) == [Stale(4, 1)]


def test_rule_6_a_change_waits_for_the_one_before_it_and_for_an_entry_of_the_own_term() -> None:
    raft = primary()
    assert "own term" in raft.why_no_change(Members((1, 2)))
    raft = settled()
    assert "one voter" in raft.why_no_change(Members((1, 4, 3, 5)))
    assert raft.why_no_change(Members((1, 2, 3), (4, 5))) == ""
    assert raft.why_no_change(Members(())) != ""


def test_rule_6_a_voter_is_not_let_go_while_the_others_need_it() -> None:
    raft = settled()
    assert raft.missed_with(Members((1, 2)), 2000) == ()
    raft.step(Appended(1, 2, 1, 1), 3000)  # and not a word from 3
    assert raft.missed_with(Members((1, 3)), 3000) == raft.missed_with(Members((2, 3)), 3000) == (3,)
    assert raft.missed_with(Members((1, 2)), 3000) == (), "the dead one may go"
    assert raft.missed_with(Members((1, 2, 3), (4,)), 3000) == (), "who only follows counts for nothing"
    assert raft.missed_with(Members((1, 2, 3, 4)), 3000) == (3, 4), "nor does who begins to vote, and is dead"
    raft.step(Appended(1, 3, 1, 1), 3000)
    assert raft.missed_with(Members((1, 3)), 3000) == ()
    raft.lost(3, 3000)
    assert raft.missed_with(Members((1, 3)), 3000) == (3,), "its connection broke"


def test_rule_6_who_has_not_yet_answered_a_new_primary_may_be_dead() -> None:
    raft = primary()
    raft.step(Appended(1, 2, 1, 1), 2000)
    assert raft.is_settled
    assert raft.missed_with(Members((1, 3)), 2000) == (3,)


def test_rule_6_a_voter_that_was_just_added_has_not_been_silent() -> None:
    raft = settled(Members((1, 2)))
    raft.propose(0, 0, 0, SetMembers((1, 2, 3), ()))
    raft.take(2900)
    raft.step(Appended(1, 2, 2, 2), 2900)
    raft.tick(3000)
    assert raft.is_primary


def test_rule_7_an_empty_disk_would_elect_one_that_lacks_what_was_committed_so_it_is_not_heard() -> None:
    """Entry 1 was committed by nodes 2 and 3. Node 3 loses its disk, node 1 never had it: a majority of fools."""
    three = Disks(3, 303, {})
    disks = {node: Disks(node, 100 * node, {1: 100, 2: 200, 3: 300}) for node in (1, 2)}
    candidate = replica()
    candidate.tick(candidate.next_ms())
    [ask, _] = [word for _, word in candidate.take(2000).words]
    assert isinstance(ask, AskVote)
    empty = replica()
    (answer,) = heard(empty, ask)
    assert isinstance(answer, Vote)
    assert answer.granted  # the core cannot know
    assert not disks[1].meet(3, three.disk)  # so it is never told
    three.hear(Presence(1, disks[1].known[3], False))
    assert three.refusal == Refusal(1, 300)  # and node 3 stops


def test_rule_7_the_log_tells_who_is_on_which_disk_as_soon_as_a_change_is_in_it() -> None:
    promoted = Entry(1, 1, 0, 0, 0, SetMembers((1, 2, 3, 4), (), (), ((1, 100), (4, 400))), b"")
    assert replica([promoted], term=1).disks == {1: 100, 4: 400}
    follower = replica(term=1)
    follower.step(append([promoted], (0, 0)), 0)
    assert follower.disks == {1: 100, 4: 400}


def test_rule_7_who_does_not_know_that_it_may_take_part_stands_for_no_election() -> None:
    raft = replica()
    for now_ms in range(0, 10_000, 100):
        raft.hold(now_ms)
        raft.tick(now_ms)
        assert raft.take(now_ms).words == []


def test_rule_8_a_transfer_is_given_up_after_one_election_time_out() -> None:
    raft = settled()
    raft.propose(0, 0, 0, Noop())
    raft.take(2000)
    raft.transfer(2, 2000)
    assert not raft.may_propose
    raft.step(Appended(1, 3, 1, 2), 2900)
    raft.tick(3000)
    assert raft.may_propose


def test_rule_9_a_round_that_was_under_way_does_not_answer_a_read() -> None:
    raft = settled()
    under_way = raft.round
    needed = raft.ask_round()
    assert needed > under_way
    raft.step(Appended(1, 2, 1, under_way), 2000)
    assert raft.confirmed_round < needed
    raft.take(2000)
    raft.step(Appended(1, 2, 1, raft.round), 2000)
    assert raft.confirmed_round >= needed


def test_rule_12_a_commit_says_nothing_about_what_was_not_verified() -> None:
    raft = replica([entry(1, 1), entry(2, 1), entry(3, 1)], term=1)
    raft.step(append([entry(2, 1)], (1, 1), commit=3, term=2, last=3), 0)
    assert raft.tail.commit == 2


def test_rule_12_what_was_verified_ends_with_the_term_also_for_a_candidate_that_lost() -> None:
    raft = replica([entry(1, 1), entry(2, 1), entry(3, 1)], term=1)
    heard(raft, append([], (3, 1), commit=0), 0)
    raft.tick(raft.next_ms())
    raft.step(Vote(2, 3, True, True), 2000)
    assert raft.term == 2
    words = heard(raft, append([], (1, 1), commit=3, term=2, last=3), 2000)
    assert raft.tail.commit == 1
    assert Appended(2, 1, 1, 1) in words


def test_rule_12_a_heartbeat_is_an_empty_append_at_the_last_published_index() -> None:
    raft = settled()
    raft.tick(raft.next_ms())
    [beat] = raft.take(2100).early
    assert isinstance(beat, Append)
    assert (beat.prev_index, beat.entries) == (1, ())


def test_rule_13_match_only_rises() -> None:
    raft = settled()
    raft.step(Appended(1, 2, 0, 1), 2000)
    assert raft.peers[2].match == 1


def test_rule_14_a_gap_is_asked_for_once() -> None:
    raft = replica()
    first = heard(raft, append([entry(5, 1)], (4, 1)))
    assert first == [Fetch(1, 1, 0, 0)]
    assert heard(raft, append([entry(6, 1)], (5, 1)), 50) == []
    assert heard(raft, append([entry(7, 1)], (6, 1)), 250) == first


def test_rule_14_an_answer_to_a_fetch_that_comes_twice_invites_one_more_fetch_only() -> None:
    raft = replica()
    heard(raft, append([entry(3, 1)], (2, 1), last=3))
    answer = append([entry(1, 1)], (0, 0), last=3)._replace(fetched=True)
    fetches = [word for at_ms in (1, 2) for word in heard(raft, answer, at_ms) if isinstance(word, Fetch)]
    assert fetches == [Fetch(1, 1, 1, 1)]


def test_rule_14_an_append_below_commit_is_answered_with_commit() -> None:
    raft = replica([entry(1, 1), entry(2, 1), entry(3, 1)], term=1)
    heard(raft, append([], (3, 1), commit=3))
    assert heard(raft, append([entry(1, 1)], (0, 0), commit=3)) == [Appended(1, 1, 3, 1)]


def test_rule_15_what_is_fetched_twice_is_dropped() -> None:
    raft = replica([entry(1, 1), entry(2, 1)], term=1)
    raft.step(append([entry(1, 1), entry(2, 1), entry(3, 1)], (0, 0)), 0)
    assert raft.take(0).entries == [entry(3, 1)]


def test_rule_16_after_a_pause_what_was_queued_is_heard_before_the_primary_is_missed() -> None:
    raft = replica()
    heard(raft, append([], (0, 0)))
    raft.step(append([], (0, 0))._replace(round=2), 60_000)
    raft.tick(60_000)
    assert raft.primary == 2


def test_rule_21_a_snapshot_at_or_below_commit_is_ignored() -> None:
    raft = replica([entry(1, 1), entry(2, 1), entry(3, 1)], term=1)
    heard(raft, append([], (3, 1), commit=2))
    assert not raft.restored(2, 1, THREE)
    assert not raft.restored(3, 1, THREE)
    assert raft.tail.commit == 3
    assert raft.restored(9, 2, Members((1, 2)))
    assert (raft.tail.floor, raft.tail.last, raft.members.voters) == (9, 9, (1, 2))


def test_rule_6_where_a_member_is_found_is_known_as_soon_as_its_joining_is_in_the_log() -> None:
    # After a restart nobody may be there to say what is committed but the one who joined.
    four = (4, "ipc://c", "ipc://l", "ipc://p")
    joining = SetMembers((1, 2, 3, 4), (), (four,))
    restarted = replica([Entry(1, 1, 0, 0, 0, joining, b"")], term=1)
    assert restarted.tail.commit == 0
    assert restarted.addresses == {4: Address(*four[1:])}
    follower = replica(term=1)
    follower.step(append([Entry(1, 1, 0, 0, 0, joining, b"")], (0, 0)), 0)
    assert follower.addresses == {4: Address(*four[1:])}
