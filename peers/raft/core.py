"""Raft: elections by heartbeat, one log, commit by majority. Words and time go in; writes and words come out.

After Ongaro's thesis and the shape of etcd's core, with appends that are broadcast: a follower takes what fits behind
its own log and fetches what it lacks. One rule of order binds the caller: everything `take` returns as writes is
durable before any of the words it returns leaves; only `early` may leave before.
"""

from __future__ import annotations

from typing import NamedTuple

from ..log import Entry, HardState
from ..messages import Command
from . import election, follower, primary, quorum
from .standing import FOREVER_MS as FOREVER_MS
from .standing import Role as Role
from .standing import Standing
from .standing import Timing as Timing
from .words import Append, Appended, AskVote, Fetch, Members, Stale, TimeoutNow, Vote, Word

APPLY_BYTES = 8 << 20  # handed over to be applied at once; the rest comes with the next call
FETCH_BYTES = 1 << 20  # of one answer to a fetch


class Ready(NamedTuple):
    """What it came to. `early` may leave at once; then hard state, truncation and entries become durable; then `words`
    leave."""

    early: list[Word]  # for everyone, by broadcast
    hard: HardState | None
    truncate_from: int | None
    entries: list[Entry]
    words: list[tuple[int, Word]]
    committed: list[Entry]  # to apply, in order
    snapshots: list[int]  # nodes that lack entries which are gone: send them a snapshot


class Raft(Standing):
    """One node's part. Every method that takes `now_ms` may be called in any order; time never runs backwards."""

    # -- what others ask of it ----------------------------------------------------------------------------------------

    @property
    def may_propose(self) -> bool:
        return self.role is Role.PRIMARY and not self.transferee

    @property
    def is_settled(self) -> bool:
        """Has an entry of our own term been committed? Before that a new primary does not know what is."""
        return self.role is Role.PRIMARY and self.tail.commit >= self.term_began

    def next_ms(self) -> int:
        """When `tick` has something to do."""
        if self.role is Role.PRIMARY:
            if self.members.everyone == (self.node,):
                return FOREVER_MS
            due_ms = min(self.beat_ms, self.check_ms)
            return min(due_ms, self.transfer_ms) if self.transferee else due_ms
        return self.due_ms

    def propose(self, stamp_ms: int, session: int, sequence: int, command: Command, payload: bytes = b"") -> Entry:
        """Append to our own log, as the primary."""
        assert self.may_propose
        return primary.propose(self, stamp_ms, session, sequence, command, payload)

    def why_no_change(self, members: Members) -> str:
        """Why the members may not be changed to these now; empty: they may."""
        if not self.is_settled:
            return "the primary has not yet committed an entry of its own term"
        if self.history[-1][0] > self.tail.commit:
            return "the change before this one is not yet committed"
        if len({*self.members.voters} ^ {*members.voters}) > 1:
            return "one voter at a time"
        return "" if members.voters else "at least one voter must be left"

    def missed_with(self, members: Members, now_ms: int) -> tuple[int, ...]:
        """Of which of the voters of `members` nothing was heard for an election time-out, if a majority needs them.

        Empty: a majority of them is alive. Who has not yet answered in this term was not heard: right after an election
        nobody knows who is dead. Nothing is missed where nobody begins or ceases to vote.
        """
        voters = members.voters
        if {*voters} == {*self.members.voters}:
            return ()
        since_ms = now_ms - self.timing.election_ms
        alive = {node for node, peer in self.peers.items() if peer.round and peer.heard_ms > since_ms} | {self.node}
        missed = tuple(voter for voter in voters if voter not in alive)
        return missed if len(voters) - len(missed) < quorum.size(voters) else ()

    def ask_round(self) -> int:
        """A read may be answered once `confirmed_round` has reached this, and `applied` the commit index of now."""
        self.broadcast = True
        return self.round + 1

    @property
    def confirmed_round(self) -> int:
        """The latest broadcast that a majority answered: then we were primary when it was sent."""
        if self.is_alone:
            return FOREVER_MS
        rounds = {node: peer.round for node, peer in self.peers.items()}
        return quorum.reached(self.members.voters, {**rounds, self.node: self.round})

    def transfer(self, to: int, now_ms: int) -> None:
        """Hand over to another voter. Proposals stop; after one election time-out without success they go on."""
        assert self.is_primary
        assert to in self.members.voters
        assert to != self.node
        self.transferee = to
        self.transfer_ms = now_ms + self.timing.election_ms
        primary.try_transfer(self)

    def stand(self, now_ms: int) -> None:
        """Campaign at once: the only voter need not wait for anybody."""
        assert self.is_alone
        election.campaign(self, now_ms)

    def lost(self, node: int, now_ms: int) -> None:
        """The connection to a node broke: its process is probably gone. If it was the primary's, ask at once.

        Until another one is elected no primary is known: nobody is to be sent to one that is dead. A primary that has
        lost a majority soon gives up; who is there after all has two heartbeats' time to say so.
        """
        if node == self.primary and self.role is Role.REPLICA:
            self.heard_ms = -FOREVER_MS
            self.primary = 0
            self.due_ms = min(self.due_ms, now_ms + self.random.randrange(self.timing.heartbeat_ms // 2 + 1))
        elif self.role is Role.PRIMARY and (peer := self.peers.get(node)) is not None:
            peer.heard_ms = -FOREVER_MS
            self.check_ms = min(self.check_ms, now_ms + 2 * self.timing.heartbeat_ms)

    def hold(self, now_ms: int) -> None:
        """Stand for no election for now, as if the primary had just been heard."""
        self.wait_anew(now_ms)

    def stable(self, index: int) -> None:
        """Our entries up to `index` are durable: from now on they count."""
        self.tail.stable = max(self.tail.stable, min(index, self.tail.last))
        if self.role is Role.PRIMARY:
            primary.count(self)

    def restored(self, index: int, term: int, members: Members) -> bool:
        """A snapshot up to `index` was received. False: it tells nothing new, and is ignored."""
        if index <= self.tail.commit:
            return False
        if self.tail.term_at(index) == term:
            self.tail.commit = index
            return False
        self.tail.restart(index, term)
        self.history = [(index, members)]
        self.verified = 0
        return True

    # -- time ---------------------------------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> None:
        """Do what has fallen due. After everything heard was stepped: a pause of ours is no silence of others."""
        if self.role is Role.PRIMARY:
            primary.tick(self, now_ms)
        elif now_ms >= self.due_ms:
            self.wait_anew(now_ms)
            if election.may_stand(self):
                election.ask(self, now_ms)

    # -- words --------------------------------------------------------------------------------------------------------

    def step(self, word: Word, now_ms: int) -> None:
        """Take one word in."""
        if type(word) is AskVote and word.sender == self.primary and word.term > self.term:
            # It was primary of our term and asks for the next one: it is primary no more, however lately it was heard.
            self.primary = 0
        if word.term > self.term and not _is_about_the_future(word):
            if type(word) is AskVote and not word.transfer and self.has_primary(now_ms):
                return  # it cannot hear the primary, we can: it must not disturb
            self.become_replica(word.term, word.sender if type(word) is Append else 0, now_ms)
        elif word.term < self.term:
            if type(word) in (Append, AskVote, Fetch):
                self.say(word.sender, Stale(self.term, self.node))
            return
        match word:
            case Append():
                follower.hear_append(self, word, now_ms)
            case Appended():
                primary.hear_appended(self, word, now_ms)
            case Fetch():
                primary.hear_fetch(self, word, FETCH_BYTES, now_ms)
            case AskVote():
                election.hear_ask(self, word, now_ms)
            case Vote():
                election.hear_vote(self, word, now_ms)
            case TimeoutNow():
                if self.role is Role.REPLICA and self.node in self.members.voters and self.may_lead:
                    election.campaign(self, now_ms, transfer=True)
            case Stale():
                pass  # its term was all it had to say

    # -- what comes of it ---------------------------------------------------------------------------------------------

    def take(self, now_ms: int, applied: int | None = None) -> Ready:
        """Everything since the last call. `applied`: the caller has applied up to here by itself."""
        tail = self.tail
        if self.met:
            primary.greet(self, now_ms)
        if self.role is Role.PRIMARY and self.is_alone:
            # A majority of one: nothing of this turn leaves before its writes are durable, so they may count at once.
            self.tail.stable = tail.last
            primary.count(self)
        if self.role is Role.PRIMARY and self.node not in self.members.voters and self.history[-1][0] <= tail.commit:
            primary.leave(self, now_ms)
        primary.hand_over(self)
        primary.publish(self)
        truncate_from, entries = tail.take_fresh()
        hard = HardState(self.term, self.vote)
        changed = hard if hard != self.hard else None
        self.hard = hard
        committed = self._committed() if applied is None else []
        if committed:
            tail.applied = committed[-1].index
        elif applied is not None:
            tail.applied = min(applied, tail.commit)
        tail.trim()
        early, self.early = self.early, []
        words, self.words = self.words, []
        snapshots, self.snapshots = self.snapshots, []
        return Ready(early, changed, truncate_from, entries, words, committed, snapshots)

    def _committed(self) -> list[Entry]:
        tail = self.tail
        if tail.applied >= tail.commit:
            return []
        return [entry for entry in tail.entries(tail.applied + 1, APPLY_BYTES) if entry.index <= tail.commit]


def _is_about_the_future(word: Word) -> bool:
    return (type(word) is AskVote and word.pre) or (type(word) is Vote and word.pre and word.granted)
