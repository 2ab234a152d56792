"""What nodes say to each other about the log. Frozen values; peers/links puts them on sockets."""

from __future__ import annotations

from typing import NamedTuple

from ..log import Entry


class Members(NamedTuple):
    """Who votes, and who only follows. A change is effective as soon as it is in a node's log."""

    voters: tuple[int, ...]
    learners: tuple[int, ...] = ()

    @property
    def everyone(self) -> tuple[int, ...]:
        return tuple(sorted({*self.voters, *self.learners}))


class Append(NamedTuple):
    """Entries behind `prev_index`, and how far the log is committed. Without entries: a heartbeat.

    The same words go to everyone by PUB, and to one node in answer to its Fetch.
    """

    term: int
    sender: int
    prev_index: int
    prev_term: int
    entries: tuple[Entry, ...]
    commit: int
    round: int  # counts broadcasts: an answer that carries it proves that the sender was primary when it was sent
    last: int  # where the primary's log ends
    fetched: bool  # the answer to a Fetch


class Appended(NamedTuple):
    """The follower's log is that of the primary up to `match`, durably. Leaves after the commit, never before."""

    term: int
    sender: int
    match: int
    round: int


class Fetch(NamedTuple):
    """The follower lacks what is behind `after` (whose entry there is of `after_term`), or disagrees from there on."""

    term: int
    sender: int
    after: int
    after_term: int


class Stale(NamedTuple):
    """You speak of a term that is over; this is mine."""

    term: int
    sender: int


class AskVote(NamedTuple):
    """`pre`: would you? Nothing is promised yet, and no term is changed. `transfer`: the primary itself wants it so."""

    term: int
    sender: int
    last_index: int
    last_term: int
    pre: bool
    transfer: bool


class Vote(NamedTuple):
    """The answer, in the term that was asked for (a refused `pre`: in one's own)."""

    term: int
    sender: int
    granted: bool
    pre: bool


class TimeoutNow(NamedTuple):
    """The primary hands over: campaign at once."""

    term: int
    sender: int


Word = Append | Appended | Fetch | Stale | AskVote | Vote | TimeoutNow
