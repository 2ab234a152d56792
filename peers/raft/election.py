"""Elections: would you vote for me, do you, and who may stand."""

from __future__ import annotations

from . import primary, quorum
from .standing import Role, Standing
from .words import AskVote, Vote


def may_stand(me: Standing) -> bool:
    """A voter by our log or, as long as a change in it is not known to be committed, by what held before.

    Who was removed by an entry that only it holds may be the only one that can be elected.
    """
    for index, members in reversed(me.history):
        if me.node in members.voters:
            return me.may_lead
        if index <= me.tail.commit:
            break
    return False


def ask(me: Standing, now_ms: int) -> None:
    """Would they? Nobody's term rises by that."""
    me.role = Role.ASKING
    me.primary = 0
    _request_votes(me, me.term + 1, pre=True, transfer=False, now_ms=now_ms)


def campaign(me: Standing, now_ms: int, transfer: bool = False) -> None:
    """`transfer`: the primary itself wants it so."""
    me.role = Role.CANDIDATE
    me.primary = 0
    me.term += 1
    me.vote = me.node
    me.verified = 0  # it was said of the last term's primary; who wins this one may have another log
    me.heard_round = 0
    _request_votes(me, me.term, pre=False, transfer=transfer, now_ms=now_ms)


def _request_votes(me: Standing, term: int, pre: bool, transfer: bool, now_ms: int) -> None:
    me.votes = {me.node: True}
    me.asked_ms = now_ms
    # Soon again if the votes are split: with one primary gone, every moment without another one is a gap.
    me.due_ms = now_ms + me.timing.election_ms // 4 + me.random.randrange(me.timing.election_ms // 2)
    question = AskVote(term, me.node, me.tail.last, me.tail.last_term, pre, transfer)
    for voter in me.members.voters:
        if voter != me.node:
            me.say(voter, question)
    _tally(me, now_ms)


def _tally(me: Standing, now_ms: int) -> None:
    outcome = quorum.decided(me.members.voters, me.votes)
    if outcome and me.role is Role.ASKING:
        campaign(me, now_ms)
    elif outcome:
        primary.begin(me, now_ms)
    elif outcome is False:
        me.role = Role.REPLICA


def hear_ask(me: Standing, ask: AskVote, now_ms: int) -> None:
    """Somebody stands, or would."""
    newer = (ask.last_term, ask.last_index) >= (me.tail.last_term, me.tail.last)
    if ask.pre:
        granted = newer and ask.term > me.term and not me.has_primary(now_ms) and not _goes_first(me, ask, now_ms)
        if granted:  # let it try before we do
            me.due_ms = max(me.due_ms, now_ms + 2 * me.timing.heartbeat_ms)
        me.say(ask.sender, Vote(ask.term if granted else me.term, me.node, granted, True))
        return
    granted = newer and me.vote in (0, ask.sender) and me.role is not Role.PRIMARY
    if granted:
        me.vote = ask.sender
        me.wait_anew(now_ms)
    me.say(ask.sender, Vote(me.term, me.node, granted, False))


def _goes_first(me: Standing, ask: AskVote, now_ms: int) -> bool:
    """Two of equal right that ask at the same moment would split the votes: the lower number goes on alone."""
    tied = (ask.last_term, ask.last_index) == (me.tail.last_term, me.tail.last) and me.node < ask.sender
    return me.role is Role.ASKING and tied and now_ms < me.asked_ms + me.timing.heartbeat_ms


def hear_vote(me: Standing, vote: Vote, now_ms: int) -> None:
    """An answer to what we asked."""
    waiting = Role.ASKING if vote.pre else Role.CANDIDATE
    if me.role is waiting and (not vote.pre or not vote.granted or vote.term == me.term + 1):
        me.votes.setdefault(vote.sender, vote.granted)
        _tally(me, now_ms)
