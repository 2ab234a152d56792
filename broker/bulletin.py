"""What the log of a daemon tells of its cluster: who is primary, who cannot be reached, who belongs to it. Each change
once, and again each minute for as long as nobody can be served."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final

from ..peers.raft.standing import Role, Standing

SAY_MS: Final = 60_000  # between two warnings of the same
ELECTIONS: Final = 3  # so many election time-outs without a primary are no election any more

logger = logging.getLogger("penstock.cluster")


class Bulletin:
    """Looks at the node after each turn, and says what has changed."""

    def __init__(self, raft: Standing, now_ms: int) -> None:
        self._raft = raft
        self._primary = 0
        self._term = 0
        self._alone_ms = now_ms  # since when no primary has been known
        self._say_ms = self._look_ms = now_ms + ELECTIONS * raft.timing.election_ms
        self._reached: dict[int, bool] = {}  # the others, as was said last
        self._members = raft.members

    def look(self, now_ms: int, connected: Collection[int], awaited: Collection[int]) -> None:
        """`connected`: the nodes to which the channel stands; `awaited`: those without which a new cluster does not
        begin."""
        raft = self._raft
        if raft.members != self._members and raft.history[-1][0] <= raft.tail.commit:
            self._say_members()
        for node in raft.members.everyone:
            if node != raft.node and (node in connected) is not self._reached.get(node):
                self._say_reached(node, node in connected, now_ms)
        # Who asks for votes has given up its primary, whoever is noted down.
        primary = raft.primary if raft.role in (Role.REPLICA, Role.PRIMARY) else 0
        if (primary, raft.term) != (self._primary, self._term) and primary:
            self._say_primary(primary, now_ms)
        elif not primary:
            if self._primary:
                self._say_gone(now_ms)
            if now_ms >= self._say_ms:
                self._say_none(now_ms, connected, awaited)

    def _say_primary(self, primary: int, now_ms: int) -> None:
        took = f", after {(now_ms - self._alone_ms) / 1000:.3g} s without one" if not self._primary else ""
        me = ", this node," if primary == self._raft.node else ""
        self._primary, self._term = primary, self._raft.term
        logger.info("node %d%s is the primary of term %d%s", primary, me, self._term, took)

    def _say_gone(self, now_ms: int) -> None:
        gone, self._primary, self._alone_ms = self._primary, 0, now_ms
        self._say_ms = now_ms + ELECTIONS * self._raft.timing.election_ms
        logger.info("node %d is the primary no more: an election follows", gone)

    def _say_none(self, now_ms: int, connected: Collection[int], awaited: Collection[int]) -> None:
        self._say_ms = now_ms + SAY_MS
        raft, for_s = self._raft, (now_ms - self._alone_ms) // 1000
        if awaited:
            logger.warning("a new cluster waits for node %s since %d s: start all of them", _list(awaited), for_s)
        elif raft.node not in raft.members.everyone:
            logger.info("node %d belongs to no cluster: it waits for `penstock cluster add %d`", raft.node, raft.node)
        else:
            missed = [node for node in raft.members.voters if node != raft.node and node not in connected]
            voters = _list(raft.members.voters)
            who = f"cannot reach {_list(missed)} of the voters {voters}" if missed else f"{voters} are connected"
            logger.warning("no primary since %d s, and nothing can be acknowledged: %s", for_s, who)

    def _say_reached(self, node: int, reached: bool, now_ms: int) -> None:
        if not reached and node not in self._reached and now_ms < self._look_ms:
            return  # just started: channels are being made
        self._reached[node] = reached
        if reached:
            logger.info("node %d is connected", node)
        else:
            logger.warning("node %d cannot be reached", node)

    def _say_members(self) -> None:
        raft, before = self._raft, self._members
        self._members = members = raft.members
        self._reached = {node: it for node, it in self._reached.items() if node in members.everyone}
        learners = f", learners {_list(members.learners)}" if members.learners else ""
        logger.info("the members are: voters %s%s", _list(members.voters), learners)
        if raft.node in before.everyone and raft.node not in members.everyone:
            logger.warning("node %d was removed from the cluster: stop it; its id is never used again", raft.node)


def _list(nodes: Collection[int]) -> str:
    return ", ".join(map(str, sorted(nodes)))
