"""How a node stands: its term and role, its log and who votes by it, and what it has to say. The same for all roles."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from ..log import Entry, HardState
from ..messages import Address, SetMembers
from .tail import Tail
from .words import Members, Word

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


class Standing:
    """Everything that one node's part of consensus remembers. Who changes what: election, follower, primary."""

    def __init__(
        self, node: int, hard: HardState, tail: Tail, members: Members, timing: Timing, random: Random, now_ms: int
    ) -> None:
        self.node = node
        self.term = hard.term
        self.vote = hard.vote
        self.hard = hard  # what of the two is durable, or will be with the writes that were handed out
        self.tail = tail
        self.timing = timing
        self.random = random
        self.role = Role.REPLICA
        self.primary = 0  # 0: not known
        self.may_lead = True  # False: parts of what is committed are damaged here
        self.history: list[tuple[int, Members]] = [(tail.floor, members)]
        # As told by the changes in the log, committed or not:
        self.addresses: dict[int, Address] = {}
        self.disks: dict[int, int] = {}
        self.remember(tail.changes)
        # What is to be said: to one node each, to everyone, and to whom a snapshot.
        self.words: list[tuple[int, Word]] = []
        self.early: list[Word] = []
        self.snapshots: list[int] = []
        # A follower's, and of all who may stand.
        self.heard_ms = -FOREVER_MS  # the primary
        self.due_ms = 0  # then it is missed
        self.heard_round = 0  # its latest broadcast
        self.verified = 0  # up to here the log is that of this term's primary
        self.fetch_ms = 0  # before that nothing is asked for again
        self.fetch_after = 0
        # A candidate's.
        self.votes: dict[int, bool] = {}
        self.asked_ms = -FOREVER_MS
        # A primary's.
        self.peers: dict[int, Peer] = {}
        self.round = 0  # counts broadcasts
        self.beat_ms = 0
        self.check_ms = 0
        self.term_began = 0  # the index of the empty entry with which we began our term
        self.published = 0  # entries up to here were broadcast
        self.broadcast = False  # there is something to be broadcast
        self.unheard: list[int] = []  # who has answered no broadcast for a while is told alone, too
        self.met = False  # somebody whom we have not greeted yet
        self.transferee = 0
        self.transfer_ms = 0
        self.hand_over = False  # the transferee has everything
        self.wait_anew(now_ms)

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

    def has_primary(self, now_ms: int) -> bool:
        """Is there one, as far as we can hear?"""
        if self.role is Role.PRIMARY:
            return True
        return self.primary != 0 and self.heard_ms + self.timing.election_ms > now_ms

    def say(self, to: int, word: Word) -> None:
        """To one node, after the writes of this turn."""
        self.words.append((to, word))

    def wait_anew(self, now_ms: int) -> None:
        """The primary is missed an election time-out from now, or up to twice that."""
        election_ms = self.timing.election_ms
        self.due_ms = now_ms + election_ms + self.random.randrange(election_ms)

    def remember(self, entries: Sequence[Entry]) -> None:
        """A change of members holds as soon as it is in the log, and until it is truncated."""
        for entry in entries:
            if type(entry.command) is SetMembers:
                # An id has one address for good, so those of a change that was truncated do no harm.
                self.addresses |= {node: Address(*address) for node, *address in entry.command.addresses}
                self.disks |= entry.command.disks
                self.history.append((entry.index, Members(entry.command.voters, entry.command.learners)))

    def become_replica(self, term: int, primary: int, now_ms: int) -> None:
        """In this term, of this primary; 0: of one that is not known yet."""
        if term != self.term:
            self.term, self.vote = term, 0
            self.verified = self.heard_round = 0
        if primary != self.primary:
            self.fetch_ms = 0
        self.role = Role.REPLICA
        self.primary = primary
        self.transferee = 0
        self.wait_anew(now_ms)
