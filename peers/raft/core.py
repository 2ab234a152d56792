"""Raft: elections by heartbeat, one log, commit by majority. Words and time go in; writes and words come out.

After Ongaro's thesis and the shape of etcd's core, with appends that are broadcast: a follower takes what fits behind
its own log and fetches what it lacks. One rule of order binds the caller: everything `take` returns as writes is
durable before any of the words it returns leaves; only `early` may leave before.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from ..log import Entry, HardState
from ..messages import Command, Noop, SetMembers
from . import quorum
from .tail import Tail, Violation
from .words import Append, Appended, AskVote, Fetch, Members, Stale, TimeoutNow, Vote, Word

APPLY_BYTES = 8 << 20  # handed over to be applied at once; the rest comes with the next call
FETCH_BYTES = 1 << 20  # of one answer to a fetch
FOREVER_MS = 1 << 62


class Role(enum.Enum):
    REPLICA = "replica"
    ASKING = "asking"  # would they vote for me?
    CANDIDATE = "candidate"
    PRIMARY = "primary"


@dataclass
class Timing:
    """`election_ms`: a primary that was not heard for so long is taken for lost."""

    election_ms: int = 1000
    heartbeat_ms: int = 100


@dataclass
class Peer:
    """What the primary knows of another node."""

    match: int = 0
    heard_ms: int = 0
    round: int = 0  # the latest broadcast it has answered


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


class Raft:
    """One node's part. Every method that takes `now_ms` may be called in any order; time never runs backwards."""

    def __init__(
        self, node: int, hard: HardState, tail: Tail, members: Members, timing: Timing, random: Random, now_ms: int
    ) -> None:
        self.node = node
        self.term = hard.term
        self.vote = hard.vote
        self.tail = tail
        self.timing = timing
        self.random = random
        self.role = Role.REPLICA
        self.primary = 0  # 0: not known
        self.history: list[tuple[int, Members]] = [(tail.floor, members)]
        self.addresses: dict[int, tuple[str, str, str]] = {}  # as told by the changes in the log, committed or not
        self._remember(tail.changes)
        self.peers: dict[int, Peer] = {}
        self.round = 0
        self.transferee = 0
        self.may_lead = True  # False: parts of what is committed are damaged here
        self._votes: dict[int, bool] = {}
        self._asked_ms = -FOREVER_MS
        self._hard = hard
        self._verified = 0  # up to here the log is that of this term's primary
        self._heard_ms = -FOREVER_MS
        self._due_ms = 0
        self._beat_ms = 0
        self._check_ms = 0
        self._transfer_ms = 0
        self._fetch_ms = 0  # before that nothing is asked for again
        self._fetch_after = 0
        self._term_began = 0  # the index of the empty entry with which we began our term
        self._published = 0  # entries up to here were broadcast
        self._broadcast = False
        self._hand_over = False  # the transferee has everything
        self._met = False  # somebody whom we have not greeted yet
        self._words: list[tuple[int, Word]] = []
        self._early: list[Word] = []
        self._snapshots: list[int] = []
        self._wait_anew(now_ms)

    # -- what others ask of it ----------------------------------------------------------------------------------------

    @property
    def members(self) -> Members:
        """The latest in the log, committed or not: a change holds as soon as it is appended."""
        return self.history[-1][1]

    @property
    def is_primary(self) -> bool:
        return self.role is Role.PRIMARY

    @property
    def is_alone(self) -> bool:
        """A majority of one: what it writes is committed by its own fsync."""
        return self.history[-1][1].voters == (self.node,)

    @property
    def may_propose(self) -> bool:
        return self.role is Role.PRIMARY and not self.transferee

    @property
    def is_settled(self) -> bool:
        """Has an entry of our own term been committed? Before that a new primary does not know what is."""
        return self.role is Role.PRIMARY and self.tail.commit >= self._term_began

    def next_ms(self) -> int:
        """When `tick` has something to do."""
        if self.role is Role.PRIMARY:
            if self.members.everyone == (self.node,):
                return FOREVER_MS
            due_ms = min(self._beat_ms, self._check_ms)
            return min(due_ms, self._transfer_ms) if self.transferee else due_ms
        return self._due_ms

    def propose(self, stamp_ms: int, session: int, sequence: int, command: Command, payload: bytes = b"") -> Entry:
        """Append to our own log, as the primary."""
        assert self.may_propose
        entry = Entry(self.tail.last + 1, self.term, stamp_ms, session, sequence, command, payload)
        self.tail.append((entry,))
        if type(command) is SetMembers:
            self._remember((entry,))
            self._met = True
        self._broadcast = True
        return entry

    def why_no_change(self, members: Members) -> str:
        """Why the members may not be changed to these now; empty: they may."""
        if not self.is_settled:
            return "the primary has not yet committed an entry of its own term"
        if self.history[-1][0] > self.tail.commit:
            return "the change before this one is not yet committed"
        if len({*self.members.voters} ^ {*members.voters}) > 1:
            return "one voter at a time"
        return "" if members.voters else "at least one voter must be left"

    def ask_round(self) -> int:
        """A read may be answered once `confirmed_round` has reached this, and `applied` the commit index of now."""
        self._broadcast = True
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
        self._transfer_ms = now_ms + self.timing.election_ms
        self._try_transfer()

    def stand(self, now_ms: int) -> None:
        """Campaign at once: the only voter need not wait for anybody."""
        assert self.is_alone
        self._campaign(now_ms)

    def lost(self, node: int, now_ms: int) -> None:
        """The connection to a node broke: its process is probably gone. If it was the primary's, ask at once.

        Until another one is elected no primary is known: nobody is to be sent to one that is dead. A primary that has
        lost a majority soon gives up; who is there after all has two heartbeats' time to say so.
        """
        if node == self.primary and self.role is Role.REPLICA:
            self._heard_ms = -FOREVER_MS
            self.primary = 0
            self._due_ms = min(self._due_ms, now_ms + self.random.randrange(self.timing.heartbeat_ms // 2 + 1))
        elif self.role is Role.PRIMARY and (peer := self.peers.get(node)) is not None:
            peer.heard_ms = -FOREVER_MS
            self._check_ms = min(self._check_ms, now_ms + 2 * self.timing.heartbeat_ms)

    def stable(self, index: int) -> None:
        """Our entries up to `index` are durable: from now on they count."""
        self.tail.stable = max(self.tail.stable, min(index, self.tail.last))
        if self.role is Role.PRIMARY:
            self._count()

    def restored(self, index: int, term: int, members: Members) -> bool:
        """A snapshot up to `index` was received. False: it tells nothing new, and is ignored."""
        if index <= self.tail.commit:
            return False
        if self.tail.term_at(index) == term:
            self.tail.commit = index
            return False
        self.tail.restart(index, term)
        self.history = [(index, members)]
        self._verified = 0
        return True

    # -- time ---------------------------------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> None:
        """Do what has fallen due. After everything heard was stepped: a pause of ours is no silence of others."""
        if self.role is Role.PRIMARY:
            self._tick_primary(now_ms)
        elif now_ms >= self._due_ms:
            self._wait_anew(now_ms)
            if self._may_stand():
                self._ask(now_ms)

    def _may_stand(self) -> bool:
        """A voter by our log or, as long as a change in it is not known to be committed, by what held before.

        Who was removed by an entry that only it holds may be the only one that can be elected.
        """
        for index, members in reversed(self.history):
            if self.node in members.voters:
                return self.may_lead
            if index <= self.tail.commit:
                break
        return False

    def _tick_primary(self, now_ms: int) -> None:
        if self.transferee and now_ms >= self._transfer_ms:
            self.transferee = 0
        if now_ms >= self._check_ms:
            self._check_ms = now_ms + self.timing.election_ms
            heard = [n for n, peer in self.peers.items() if peer.heard_ms + self.timing.election_ms > now_ms]
            alive = {*heard, self.node}
            if sum(1 for voter in self.members.voters if voter in alive) < quorum.size(self.members.voters):
                self._become_replica(self.term, 0, now_ms)
                return
        if now_ms >= self._beat_ms:
            self._beat_ms = now_ms + self.timing.heartbeat_ms
            self._broadcast = True

    def _wait_anew(self, now_ms: int) -> None:
        election_ms = self.timing.election_ms
        self._due_ms = now_ms + election_ms + self.random.randrange(election_ms)

    # -- elections ----------------------------------------------------------------------------------------------------

    def _ask(self, now_ms: int) -> None:
        self.role = Role.ASKING
        self.primary = 0
        self._request_votes(self.term + 1, pre=True, transfer=False, now_ms=now_ms)

    def _campaign(self, now_ms: int, transfer: bool = False) -> None:
        self.role = Role.CANDIDATE
        self.primary = 0
        self.term += 1
        self.vote = self.node
        self._verified = 0  # it was said of the last term's primary; who wins this one may have another log
        self._request_votes(self.term, pre=False, transfer=transfer, now_ms=now_ms)

    def _request_votes(self, term: int, pre: bool, transfer: bool, now_ms: int) -> None:
        self._votes = {self.node: True}
        self._asked_ms = now_ms
        # Soon again if the votes are split: with one primary gone, every moment without another one is a gap.
        self._due_ms = now_ms + self.timing.election_ms // 4 + self.random.randrange(self.timing.election_ms // 2)
        ask = AskVote(term, self.node, self.tail.last, self.tail.last_term, pre, transfer)
        for voter in self.members.voters:
            if voter != self.node:
                self._words.append((voter, ask))
        self._tally(now_ms)

    def _tally(self, now_ms: int) -> None:
        outcome = quorum.decided(self.members.voters, self._votes)
        if outcome and self.role is Role.ASKING:
            self._campaign(now_ms)
        elif outcome:
            self._become_primary(now_ms)
        elif outcome is False:
            self.role = Role.REPLICA

    def _become_primary(self, now_ms: int) -> None:
        self.role = Role.PRIMARY
        self.primary = self.node
        self.transferee = 0
        self.peers = {}
        self._greet(now_ms)
        self.round += 1
        self._beat_ms = now_ms + self.timing.heartbeat_ms
        self._check_ms = now_ms + self.timing.election_ms
        self._published = self.tail.last
        # Entries of earlier terms are committed by committing one of our own, never by counting them.
        # It has no time of its own: what leases had left is counted from the last entry of who could renew them.
        self._term_began = self.propose(0, 0, 0, Noop(self.node)).index

    def _greet(self, now_ms: int) -> None:
        """Who is new among the members has not been silent so far."""
        self._met = False
        for node in self.members.everyone:
            if node != self.node and node not in self.peers:
                self.peers[node] = Peer(heard_ms=now_ms)

    def _become_replica(self, term: int, primary: int, now_ms: int) -> None:
        if term != self.term:
            self.term, self.vote = term, 0
            self._verified = 0
        if primary != self.primary:
            self._fetch_ms = 0
        self.role = Role.REPLICA
        self.primary = primary
        self.transferee = 0
        self._wait_anew(now_ms)

    # -- words --------------------------------------------------------------------------------------------------------

    def step(self, word: Word, now_ms: int) -> None:
        """Take one word in."""
        if type(word) is AskVote and word.sender == self.primary and word.term > self.term:
            # It was primary of our term and asks for the next one: it is primary no more, however lately it was heard.
            self.primary = 0
        if word.term > self.term and not self._is_about_the_future(word):
            if type(word) is AskVote and not word.transfer and self._has_primary(now_ms):
                return  # it cannot hear the primary, we can: it must not disturb
            self._become_replica(word.term, word.sender if type(word) is Append else 0, now_ms)
        elif word.term < self.term:
            if type(word) in (Append, AskVote, Fetch):
                self._words.append((word.sender, Stale(self.term, self.node)))
            return
        match word:
            case Append():
                self._hear_append(word, now_ms)
            case Appended():
                self._hear_appended(word, now_ms)
            case Fetch():
                self._hear_fetch(word, now_ms)
            case AskVote():
                self._hear_ask(word, now_ms)
            case Vote():
                self._hear_vote(word, now_ms)
            case TimeoutNow():
                if self.role is Role.REPLICA and self.node in self.members.voters and self.may_lead:
                    self._campaign(now_ms, transfer=True)
            case Stale():
                pass  # its term was all it had to say

    @staticmethod
    def _is_about_the_future(word: Word) -> bool:
        return (type(word) is AskVote and word.pre) or (type(word) is Vote and word.pre and word.granted)

    def _has_primary(self, now_ms: int) -> bool:
        if self.role is Role.PRIMARY:
            return True
        return self.primary != 0 and self._heard_ms + self.timing.election_ms > now_ms

    def _hear_ask(self, ask: AskVote, now_ms: int) -> None:
        newer = (ask.last_term, ask.last_index) >= (self.tail.last_term, self.tail.last)
        if ask.pre:
            granted = (
                newer and ask.term > self.term and not self._has_primary(now_ms) and not self._goes_first(ask, now_ms)
            )
            if granted:  # let it try before we do
                self._due_ms = max(self._due_ms, now_ms + 2 * self.timing.heartbeat_ms)
            self._words.append((ask.sender, Vote(ask.term if granted else self.term, self.node, granted, True)))
            return
        granted = newer and self.vote in (0, ask.sender) and self.role is not Role.PRIMARY
        if granted:
            self.vote = ask.sender
            self._wait_anew(now_ms)
        self._words.append((ask.sender, Vote(self.term, self.node, granted, False)))

    def _goes_first(self, ask: AskVote, now_ms: int) -> bool:
        """Two of equal right that ask at the same moment would split the votes: the lower number goes on alone."""
        tied = (ask.last_term, ask.last_index) == (self.tail.last_term, self.tail.last) and self.node < ask.sender
        return self.role is Role.ASKING and tied and now_ms < self._asked_ms + self.timing.heartbeat_ms

    def _hear_vote(self, vote: Vote, now_ms: int) -> None:
        waiting = Role.ASKING if vote.pre else Role.CANDIDATE
        if self.role is waiting and (not vote.pre or not vote.granted or vote.term == self.term + 1):
            self._votes.setdefault(vote.sender, vote.granted)
            self._tally(now_ms)

    # -- the follower -------------------------------------------------------------------------------------------------

    def _hear_append(self, append: Append, now_ms: int) -> None:
        if self.role is Role.PRIMARY:
            raise Violation(f"nodes {self.node} and {append.sender} are both primary of term {self.term}")
        if self.role is not Role.REPLICA or self.primary != append.sender:
            self._become_replica(self.term, append.sender, now_ms)
        self._heard_ms = now_ms
        self._wait_anew(now_ms)
        tail, entries, prev_index, prev_term = self.tail, append.entries, append.prev_index, append.prev_term
        if prev_index < tail.commit:  # what is committed is alike everywhere: only what is behind it is news
            skipped = tail.commit - prev_index
            entries = entries[skipped:]
            prev_index = min(tail.commit, prev_index + len(append.entries))
            prev_term = tail.term_at(prev_index) or 0
            if prev_index < tail.commit:
                self._answer(append, tail.commit)
                return
        if tail.term_at(prev_index) != prev_term:
            self._fetch(append, prev_index, now_ms)
            return
        self._take(entries)
        self._verified = max(self._verified, prev_index + len(entries))
        # Behind what was verified our log may be another primary's: a broadcast commit says nothing about it.
        self._commit_to(min(append.commit, self._verified))
        self._answer(append, self._verified)
        if append.fetched and self._verified > self._fetch_after:  # the same answer once more asks for nothing
            self._fetch_ms = 0
            if self._verified < append.last:
                self._ask_for(append.sender, self._verified, now_ms)

    def _take(self, entries: Sequence[Entry]) -> None:
        for at, entry in enumerate(entries):
            held = self.tail.term_at(entry.index)
            if held == entry.term:
                continue
            if held is not None:  # a real conflict, and the only reason to truncate
                self.tail.truncate(entry.index)
                while self.history[-1][0] >= entry.index:
                    self.history.pop()
            self.tail.append(entries[at:])
            self._remember(entries[at:])
            return

    def _remember(self, entries: Sequence[Entry]) -> None:
        """A change of members holds as soon as it is in the log, and until it is truncated."""
        for entry in entries:
            if type(entry.command) is SetMembers:
                # An id has one address for good, so those of a change that was truncated do no harm.
                rows = entry.command.addresses
                self.addresses |= {node: (client, listen, publish) for node, client, listen, publish in rows}
                self.history.append((entry.index, Members(entry.command.voters, entry.command.learners)))

    def _answer(self, append: Append, match: int) -> None:
        self._words.append((append.sender, Appended(self.term, self.node, match, append.round)))

    def _fetch(self, append: Append, prev_index: int, now_ms: int) -> None:
        """Ask for what is missing: once for a gap, and again if the answer says to look further down, or none came."""
        tail = self.tail
        after = min(tail.last, prev_index)
        while after > tail.commit and (tail.term_at(after) or 0) > append.prev_term:
            after -= 1  # no entry of ours of a later term can be the primary's
        if now_ms < self._fetch_ms and not (append.fetched and after < self._fetch_after):
            return
        self._ask_for(append.sender, after, now_ms)

    def _ask_for(self, primary: int, after: int, now_ms: int) -> None:
        heartbeat_ms = self.timing.heartbeat_ms
        self._fetch_after = after
        self._fetch_ms = now_ms + heartbeat_ms + self.random.randrange(heartbeat_ms + 1)
        self._words.append((primary, Fetch(self.term, self.node, after, self.tail.term_at(after) or 0)))

    def _commit_to(self, index: int) -> None:
        if index > self.tail.commit:
            self.tail.commit = index

    # -- the primary --------------------------------------------------------------------------------------------------

    def _hear_appended(self, answer: Appended, now_ms: int) -> None:
        peer = self.peers.get(answer.sender)
        if self.role is not Role.PRIMARY or peer is None:
            return
        peer.heard_ms = now_ms
        peer.round = max(peer.round, answer.round)
        if answer.match > self.tail.last:
            raise Violation(f"node {answer.sender} has entry {answer.match} of our term, which we do not have")
        if answer.match > peer.match:
            peer.match = answer.match
            self._count()
            self._try_transfer()

    def _hear_fetch(self, fetch: Fetch, now_ms: int) -> None:
        if self.role is not Role.PRIMARY:
            return
        if (peer := self.peers.get(fetch.sender)) is not None:
            peer.heard_ms = now_ms
        after = min(fetch.after, self.tail.last)
        term = fetch.after_term
        while after > self.tail.floor and (self.tail.term_at(after) or 0) > term:
            after -= 1  # no entry of a later term can be alike
        if after < self.tail.floor or (self.tail.term_at(after) or 0) > term:  # it disagrees with what is gone
            self._snapshots.append(fetch.sender)
            return
        entries = tuple(self.tail.entries(after + 1, FETCH_BYTES)) if after < self.tail.last else ()
        self._words.append((fetch.sender, self._append(after, entries, fetched=True)))

    def _append(self, prev_index: int, entries: tuple[Entry, ...], fetched: bool) -> Append:
        prev_term = self.tail.term_at(prev_index)
        assert prev_term is not None, prev_index
        commit, last = self.tail.commit, self.tail.last
        return Append(self.term, self.node, prev_index, prev_term, entries, commit, self.round, last, fetched)

    def _count(self) -> None:
        """Commit what a majority holds, if it is of our own term."""
        if self.is_alone:  # in each turn of a lone node
            index = self.tail.stable
        else:
            matches = {node: peer.match for node, peer in self.peers.items()}
            index = quorum.reached(self.members.voters, {**matches, self.node: self.tail.stable})
        if index > self.tail.commit and self.tail.term_at(index) == self.term:
            self.tail.commit = index

    def _try_transfer(self) -> None:
        to = self.transferee
        peer = self.peers.get(to)
        self._hand_over = peer is not None and peer.match == self.tail.last

    # -- what comes of it ---------------------------------------------------------------------------------------------

    def take(self, now_ms: int, applied: int | None = None) -> Ready:
        """Everything since the last call. `applied`: the caller has applied up to here by itself."""
        tail = self.tail
        if self._met:
            self._greet(now_ms)
        if self.role is Role.PRIMARY and self.is_alone:
            # A majority of one: nothing of this turn leaves before its writes are durable, so they may count at once.
            self.tail.stable = tail.last
            self._count()
        if self.role is Role.PRIMARY and self.node not in self.members.voters and self.history[-1][0] <= tail.commit:
            self._leave(now_ms)
        if self._hand_over and self.transferee:  # not if it was given up in this very turn, and more was appended since
            self._words.append((self.transferee, TimeoutNow(self.term, self.node)))
        self._hand_over = False
        self._publish()
        truncate_from, entries = tail.take_fresh()
        hard = HardState(self.term, self.vote)
        changed = hard if hard != self._hard else None
        self._hard = hard
        committed = self._committed() if applied is None else []
        if committed:
            tail.applied = committed[-1].index
        elif applied is not None:
            tail.applied = min(applied, tail.commit)
        tail.trim()
        early, self._early = self._early, []
        words, self._words = self._words, []
        snapshots, self._snapshots = self._snapshots, []
        return Ready(early, changed, truncate_from, entries, words, committed, snapshots)

    def _leave(self, now_ms: int) -> None:
        """We were removed, and everyone who counts knows: another one need not wait until we are missed."""
        best = max(self.members.voters, key=lambda voter: self.peers[voter].match)
        self._words.append((best, TimeoutNow(self.term, self.node)))
        self._become_replica(self.term, 0, now_ms)

    def _committed(self) -> list[Entry]:
        tail = self.tail
        if tail.applied >= tail.commit:
            return []
        return [entry for entry in tail.entries(tail.applied + 1, APPLY_BYTES) if entry.index <= tail.commit]

    def _publish(self) -> None:
        if self.role is not Role.PRIMARY or not self._broadcast:
            self._broadcast = False
            return
        self._broadcast = False
        if not self.peers:
            self._published = self.tail.last  # who comes later fetches it
            return
        self.round += 1
        entries: tuple[Entry, ...] = ()
        if self._published < self.tail.last:
            entries = tuple(self.tail.fresh[-(self.tail.last - self._published) :])
        append = self._append(self._published, entries, fetched=False)
        self._published = self.tail.last
        if self.is_alone or HardState(self.term, self.vote) != self._hard:
            # It tells of a commit, or of a term, that is not durable yet: a crash could put another one in its place.
            self._words += [(node, append) for node in self.peers]
        else:
            self._early.append(append)
