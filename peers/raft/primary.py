"""The primary: what it appends, how far the others are, what that commits, and how it hands over."""

from __future__ import annotations

from ..log import Entry, HardState
from ..messages import Command, Noop, SetMembers
from . import quorum
from .standing import Peer, Role, Standing
from .tail import Violation
from .words import Append, Appended, Fetch, TimeoutNow

UNHEARD = 3  # heartbeats without an answer; then a node is told alone what all are told


def begin(me: Standing, now_ms: int) -> None:
    """Elected."""
    me.role = Role.PRIMARY
    me.primary = me.node
    me.transferee = 0
    me.peers = {}
    greet(me, now_ms)
    me.round += 1
    me.beat_ms = now_ms + me.timing.heartbeat_ms
    me.check_ms = now_ms + me.timing.election_ms
    me.published = me.tail.last
    # Entries of earlier terms are committed by committing one of our own, never by counting them.
    # It has no time of its own: what leases had left is counted from the last entry of who could renew them.
    me.term_began = propose(me, 0, 0, 0, Noop(me.node), b"").index


def greet(me: Standing, now_ms: int) -> None:
    """Who is new among the members has not been silent so far."""
    me.met = False
    for node in me.members.everyone:
        if node != me.node and node not in me.peers:
            me.peers[node] = Peer(heard_ms=now_ms)


def propose(me: Standing, stamp_ms: int, session: int, sequence: int, command: Command, payload: bytes) -> Entry:
    """Append to our own log."""
    entry = Entry(me.tail.last + 1, me.term, stamp_ms, session, sequence, command, payload)
    me.tail.append((entry,))
    if type(command) is SetMembers:
        me.remember((entry,))
        me.met = True
    me.broadcast = True
    return entry


def tick(me: Standing, now_ms: int) -> None:
    """Give up a transfer that takes too long, or the office if no majority was heard; or send a heartbeat."""
    if me.transferee and now_ms >= me.transfer_ms:
        me.transferee = 0
    if now_ms >= me.check_ms:
        me.check_ms = now_ms + me.timing.election_ms
        heard = [n for n, peer in me.peers.items() if peer.heard_ms + me.timing.election_ms > now_ms]
        alive = {*heard, me.node}
        if sum(1 for voter in me.members.voters if voter in alive) < quorum.size(me.members.voters):
            me.become_replica(me.term, 0, now_ms)
            return
    if now_ms >= me.beat_ms:
        me.beat_ms = now_ms + me.timing.heartbeat_ms
        me.broadcast = True
        unheard_ms = now_ms - UNHEARD * me.timing.heartbeat_ms
        me.unheard = [node for node, peer in me.peers.items() if peer.heard_ms <= unheard_ms]


# -- what the others answer -------------------------------------------------------------------------------------------


def hear_appended(me: Standing, answer: Appended, now_ms: int) -> None:
    """A follower has this much, durably."""
    peer = me.peers.get(answer.sender)
    if me.role is not Role.PRIMARY or peer is None:
        return
    peer.heard_ms = now_ms
    peer.round = max(peer.round, answer.round)
    if answer.match > me.tail.last:
        raise Violation(f"node {answer.sender} has entry {answer.match} of our term, which we do not have")
    if answer.match > peer.match:
        peer.match = answer.match
        count(me)
        try_transfer(me)


def hear_fetch(me: Standing, fetch: Fetch, bytes_max: int, now_ms: int) -> None:
    """A follower lacks something: it gets about `bytes_max` bytes of it, or a snapshot."""
    if me.role is not Role.PRIMARY:
        return
    if (peer := me.peers.get(fetch.sender)) is not None:
        peer.heard_ms = now_ms
    after = min(fetch.after, me.tail.last)
    term = fetch.after_term
    while after > me.tail.floor and (me.tail.term_at(after) or 0) > term:
        after -= 1  # no entry of a later term can be alike
    if after < me.tail.floor or (me.tail.term_at(after) or 0) > term:  # it disagrees with what is gone
        me.snapshots.append(fetch.sender)
        return
    entries = tuple(me.tail.entries(after + 1, bytes_max)) if after < me.tail.last else ()
    me.say(fetch.sender, _append(me, after, entries, fetched=True))


def count(me: Standing) -> None:
    """Commit what a majority holds, if it is of our own term."""
    if me.is_alone:  # in each turn of a lone node
        index = me.tail.stable
    else:
        matches = {node: peer.match for node, peer in me.peers.items()}
        index = quorum.reached(me.members.voters, {**matches, me.node: me.tail.stable})
    if index > me.tail.commit and me.tail.term_at(index) == me.term:
        me.tail.commit = index


# -- handing over -----------------------------------------------------------------------------------------------------


def try_transfer(me: Standing) -> None:
    """To the transferee, as soon as it has everything."""
    peer = me.peers.get(me.transferee)
    me.hand_over = peer is not None and peer.match == me.tail.last


def hand_over(me: Standing) -> None:
    """The last thing before what is said leaves: not if it was given up in this very turn, and more was appended."""
    if me.hand_over and me.transferee:
        me.say(me.transferee, TimeoutNow(me.term, me.node))
    me.hand_over = False


def leave(me: Standing, now_ms: int) -> None:
    """We were removed, and everyone who counts knows: another one need not wait until we are missed."""
    best = max(me.members.voters, key=lambda voter: me.peers[voter].match)
    me.say(best, TimeoutNow(me.term, me.node))
    me.become_replica(me.term, 0, now_ms)


# -- what it says -----------------------------------------------------------------------------------------------------


def publish(me: Standing) -> None:
    """What is new, to everyone; without anything new it is a heartbeat."""
    if me.role is not Role.PRIMARY or not me.broadcast:
        me.broadcast = False
        return
    me.broadcast = False
    if not me.peers:
        me.published = me.tail.last  # who comes later fetches it
        return
    me.round += 1
    entries: tuple[Entry, ...] = ()
    if me.published < me.tail.last:
        entries = tuple(me.tail.fresh[-(me.tail.last - me.published) :])
    append = _append(me, me.published, entries, fetched=False)
    me.published = me.tail.last
    if me.is_alone or HardState(me.term, me.vote) != me.hard:
        # It tells of a commit, or of a term, that is not durable yet: a crash could put another one in its place.
        me.words += [(node, append) for node in me.peers]
    else:
        me.early.append(append)
        if me.unheard:  # who does not know us yet, or lost that channel, does not hear what is said to everyone
            beat = _append(me, me.published, (), fetched=False)
            me.words += [(node, beat) for node in me.unheard]
    me.unheard = []


def _append(me: Standing, prev_index: int, entries: tuple[Entry, ...], fetched: bool) -> Append:
    prev_term = me.tail.term_at(prev_index)
    assert prev_term is not None, prev_index
    commit, last = me.tail.commit, me.tail.last
    return Append(me.term, me.node, prev_index, prev_term, entries, commit, me.round, last, fetched)
