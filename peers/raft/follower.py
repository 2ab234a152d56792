"""The follower: take what fits behind the own log, and fetch what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from ..log import Entry
from .standing import Role, Standing
from .tail import Violation
from .words import Append, Appended, Fetch


def hear_append(me: Standing, append: Append, now_ms: int) -> None:
    """The primary of our term speaks."""
    if me.role is Role.PRIMARY:
        raise Violation(f"nodes {me.node} and {append.sender} are both primary of term {me.term}")
    if append.round > me.heard_round or (append.fetched and append.round == me.heard_round):
        if me.role is not Role.REPLICA or me.primary != append.sender:
            me.become_replica(me.term, append.sender, now_ms)
        me.heard_ms, me.heard_round = now_ms, append.round
        me.wait_anew(now_ms)
    elif me.role is not Role.REPLICA or me.primary != append.sender:
        return  # late, or twice: it is no sign of life, its sender may have given up meanwhile
    tail, entries, prev_index, prev_term = me.tail, append.entries, append.prev_index, append.prev_term
    if prev_index < tail.commit:  # what is committed is alike everywhere: only what is behind it is news
        skipped = tail.commit - prev_index
        entries = entries[skipped:]
        prev_index = min(tail.commit, prev_index + len(append.entries))
        prev_term = tail.term_at(prev_index) or 0
        if prev_index < tail.commit:
            _answer(me, append, tail.commit)
            return
    if tail.term_at(prev_index) != prev_term:
        _fetch(me, append, prev_index, now_ms)
        return
    _take(me, entries)
    me.verified = max(me.verified, prev_index + len(entries))
    # Behind what was verified our log may be another primary's: a broadcast commit says nothing about it.
    _commit_to(me, min(append.commit, me.verified))
    _answer(me, append, me.verified)
    if append.fetched and me.verified > me.fetch_after:  # the same answer once more asks for nothing
        me.fetch_ms = 0
        if me.verified < append.last:
            _ask_for(me, append.sender, me.verified, now_ms)


def _take(me: Standing, entries: Sequence[Entry]) -> None:
    for at, entry in enumerate(entries):
        held = me.tail.term_at(entry.index)
        if held == entry.term:
            continue
        if held is not None:  # a real conflict, and the only reason to truncate
            me.tail.truncate(entry.index)
            while me.history[-1][0] >= entry.index:
                me.history.pop()
        me.tail.append(entries[at:])
        me.remember(entries[at:])
        return


def _answer(me: Standing, append: Append, match: int) -> None:
    me.say(append.sender, Appended(me.term, me.node, match, append.round))


def _fetch(me: Standing, append: Append, prev_index: int, now_ms: int) -> None:
    """Ask for what is missing: once for a gap, and again if the answer says to look further down, or none came."""
    tail = me.tail
    after = min(tail.last, prev_index)
    while after > tail.commit and (tail.term_at(after) or 0) > append.prev_term:
        after -= 1  # no entry of ours of a later term can be the primary's
    if now_ms < me.fetch_ms and not (append.fetched and after < me.fetch_after):
        return
    _ask_for(me, append.sender, after, now_ms)


def _ask_for(me: Standing, primary: int, after: int, now_ms: int) -> None:
    heartbeat_ms = me.timing.heartbeat_ms
    me.fetch_after = after
    me.fetch_ms = now_ms + heartbeat_ms + me.random.randrange(heartbeat_ms + 1)
    me.say(primary, Fetch(me.term, me.node, after, me.tail.term_at(after) or 0))


def _commit_to(me: Standing, index: int) -> None:
    if index > me.tail.commit:
        me.tail.commit = index
