"""Scenarios as texts: a few cores on a stage, moved by hand. Nothing happens that the text does not ask for.

Commands, one a line; what they came to stands below a line of four dashes:
    nodes 1 2 3 [learners 4] [blank 5]  the cast; a blank node knows of nobody yet
    campaign N                          let N's election time-out pass
    tick N MS                           let time pass for N alone (everyone: tick all MS)
    deliver [N ..] [drop A>B ..]        deliver what is under way (to these nodes) until nothing is, dropping some ways
    step                                deliver only what is under way now
    drop A>B [kind]                     lose what is under way from A to B
    cut A|B C  /  heal                  nothing passes between the groups; `cut A>B` one way only
    put N TEXT / read N / change N VERB M / transfer N M / lost N M
    crash N / start N                   a crash loses nothing that was written
    silence N ..                        as if they had not heard their primary for an election time-out
    limit BYTES                         of an answer to a fetch
    log N / status                      show
    compact N                           give up the log up to what is applied
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Any

from penstock.peers.log import Entry, HardState
from penstock.peers.messages import Noop, SetMembers
from penstock.peers.raft import core
from penstock.peers.raft.core import Raft, Timing
from penstock.peers.raft.tail import Tail, Violation
from penstock.peers.raft.words import Append, Appended, AskVote, Fetch, Members, Stale, TimeoutNow, Vote


class Snapshot:
    """The state up to an index, on its way to another node."""

    def __init__(self, index: int, term: int, members: Members, base: list[Entry]) -> None:
        self.index, self.term, self.members, self.base = index, term, members, base


class Actor:
    """A node: a core, and a disk that holds what a turn wrote."""

    def __init__(self, node: int, members: Members) -> None:
        self.node, self.members = node, members
        self.hard = HardState(0, 0)
        self.base: list[Entry] = []
        self.log: list[Entry] = []
        self.now_ms = 0
        self.raft: Raft | None = None
        self.reads: list[tuple[int, int]] = []
        self.was: Any = None  # role and term, as told last

    def start(self) -> None:
        floor = len(self.base)
        tail = Tail(floor, self.base[-1].term if self.base else 0, lambda a, b, n: self.log[a - floor - 1 : b - floor])
        tail.recall(self.log)
        self.raft = Raft(self.node, self.hard, tail, self.members, Timing(), Random(self.node), self.now_ms)
        self.reads = []
        self.was = self.raft.role, self.raft.term

    @property
    def last(self) -> int:
        return len(self.base) + len(self.log)


class Stage:
    """Carries out commands and tells what came of them."""

    def __init__(self) -> None:
        self.actors: dict[int, Actor] = {}
        self.under_way: list[tuple[int, int, Any]] = []
        self.cut: set[tuple[int, int]] = set()
        self.told: list[str] = []

    def play(self, line: str) -> str:
        """One command."""
        self.told = []
        verb, *words = line.split()
        command: Callable[..., None] | None = getattr(self, f"do_{verb}", None)
        if command is None:
            raise ValueError(f"no such command: {line!r}")
        command(*words)
        return "\n".join(self.told) or "ok"

    # -- the cast -----------------------------------------------------------------------------------------------------

    def do_nodes(self, *words: str) -> None:
        lists: dict[str, list[int]] = {"voters": [], "learners": [], "blank": []}
        at = "voters"
        for word in words:
            if word in lists:
                at = word
            else:
                lists[at].append(int(word))
        members = Members(tuple(lists["voters"]), tuple(lists["learners"]))
        for kind, nodes in lists.items():
            for node in nodes:
                self.actors[node] = Actor(node, Members(()) if kind == "blank" else members)
                self.actors[node].start()

    def do_crash(self, node: str) -> None:
        self._actor(node).raft = None

    def do_start(self, node: str) -> None:
        self._actor(node).start()

    # -- time ---------------------------------------------------------------------------------------------------------

    def do_campaign(self, node: str) -> None:
        actor = self._actor(node)
        assert actor.raft is not None
        actor.now_ms = max(actor.now_ms, actor.raft.next_ms())
        self._turn(actor)

    def do_tick(self, node: str, ms: str) -> None:
        for actor in self.actors.values() if node == "all" else [self._actor(node)]:
            end_ms = actor.now_ms + int(ms)
            while actor.raft is not None and actor.raft.next_ms() <= end_ms:
                actor.now_ms = max(actor.now_ms, actor.raft.next_ms())
                self._turn(actor)
            actor.now_ms = end_ms

    # -- network ------------------------------------------------------------------------------------------------------

    def do_cut(self, *words: str) -> None:
        text = " ".join(words)
        if ">" in text:
            self.cut |= {(int(a), int(b)) for a, b in (word.split(">") for word in words)}
            return
        groups = [[int(node) for node in group.split()] for group in text.split("|")]
        self.cut |= {(a, b) for g in groups for h in groups if g is not h for a in g for b in h}

    def do_heal(self) -> None:
        self.cut = set()

    def do_drop(self, way: str, kind: str = "") -> None:
        a, b = (int(node) for node in way.split(">"))
        kept = [w for w in self.under_way if w[:2] != (a, b) or (kind and type(w[2]).__name__.lower() != kind)]
        self.told.append(f"dropped {len(self.under_way) - len(kept)}")
        self.under_way = kept

    def do_deliver(self, *words: str) -> None:
        ways = {tuple(int(node) for node in word.split(">")) for word in words if ">" in word}
        nodes = {int(word) for word in words if word.isdigit()}
        for _ in range(1000):
            if not (now := [w for w in self.under_way if (not nodes or w[1] in nodes)]):
                return
            self.under_way = [w for w in self.under_way if w not in now]
            self._arrive([w for w in now if w[:2] not in ways])
        raise AssertionError("the words never end")

    def do_step(self) -> None:
        now, self.under_way = self.under_way, []
        self._arrive(now)

    def _arrive(self, words: list[tuple[int, int, Any]]) -> None:
        for source, target, word in words:
            actor = self.actors.get(target)
            if actor is None or actor.raft is None:
                continue
            self.told.append(f"{source}>{target} {describe(word)}")
            if isinstance(word, Snapshot):
                if actor.raft.restored(word.index, word.term, word.members):
                    actor.base, actor.log, actor.members = list(word.base), [], word.members
                    self.told.append(f"  {target} has everything up to {word.index} from a snapshot")
                else:
                    self.told.append(f"  {target} ignores the snapshot")
            else:
                try:
                    actor.raft.step(word, actor.now_ms)
                except Violation as violation:
                    self.told.append(f"  {target} stops: {violation}")
                    actor.raft = None
                    continue
            self._turn(actor, tick=False)

    # -- clients and operators ----------------------------------------------------------------------------------------

    def do_put(self, node: str, *text: str) -> None:
        actor = self._actor(node)
        assert actor.raft is not None
        if not actor.raft.may_propose:
            self.told.append(f"refused: {node} takes no writes now")
            return
        actor.raft.propose(0, 0, 0, Noop(), " ".join(text).encode())
        self._turn(actor, tick=False)

    def do_read(self, node: str) -> None:
        actor = self._actor(node)
        assert actor.raft is not None
        if not actor.raft.is_settled:
            self.told.append(f"refused: {node} does not know what is committed")
            return
        actor.reads.append((actor.raft.ask_round(), actor.raft.tail.commit))
        self._turn(actor, tick=False)

    def do_change(self, node: str, verb: str, other: str) -> None:
        actor = self._actor(node)
        raft = actor.raft
        assert raft is not None
        voters, learners = ({*part} - {int(other)} for part in raft.members)
        {"learn": learners, "promote": voters, "remove": set[int]()}[verb].add(int(other))
        members = Members(tuple(sorted(voters)), tuple(sorted(learners)))
        if why := raft.why_no_change(members):
            self.told.append(f"refused: {why}")
            return
        if missed := raft.missed_with(members, actor.now_ms):
            self.told.append(f"refused: nothing was heard of {list(missed)}")
            return
        raft.propose(0, 0, 0, SetMembers(*members))
        self._turn(actor, tick=False)

    def do_transfer(self, node: str, to: str) -> None:
        actor = self._actor(node)
        assert actor.raft is not None
        actor.raft.transfer(int(to), actor.now_ms)
        self._turn(actor, tick=False)

    def do_lost(self, node: str, other: str) -> None:
        actor = self._actor(node)
        assert actor.raft is not None
        actor.raft.lost(int(other), actor.now_ms)

    def do_silence(self, *nodes: str) -> None:
        for node in nodes:
            raft = self._actor(node).raft
            assert raft is not None
            raft.lost(raft.primary, self._actor(node).now_ms)

    def do_limit(self, fetch_bytes: str) -> None:
        core.FETCH_BYTES = int(fetch_bytes)

    def do_compact(self, node: str) -> None:
        actor = self._actor(node)
        assert actor.raft is not None
        tail = actor.raft.tail
        count = tail.applied - tail.floor
        actor.members = [members for index, members in actor.raft.history if index <= tail.applied][-1]
        tail.raise_floor(tail.applied)
        actor.base += actor.log[:count]
        del actor.log[:count]

    # -- show ---------------------------------------------------------------------------------------------------------

    def do_log(self, node: str) -> None:
        actor = self._actor(node)
        gone = [f"(..{len(actor.base)} in the checkpoint)"] if actor.base else []
        self.told.append(f"{node}: " + " ".join(gone + [brief(entry) for entry in actor.log]))

    def do_status(self) -> None:
        for node, actor in sorted(self.actors.items()):
            if actor.raft is None:
                self.told.append(f"{node}: down, term {actor.hard.term}, log to {actor.last}")
                continue
            raft = actor.raft
            voters, learners = raft.members
            about = f"voters {list(voters)}" + (f" learners {list(learners)}" if learners else "")
            where = f"committed {raft.tail.commit} of {raft.tail.last}"
            self.told.append(f"{node}: {raft.role.value}, term {raft.term}, {where}, {about}")

    # -- a turn -------------------------------------------------------------------------------------------------------

    def _turn(self, actor: Actor, tick: bool = True) -> None:
        raft = actor.raft
        assert raft is not None
        if tick:
            raft.tick(actor.now_ms)
        ready = raft.take(actor.now_ms)
        if ready.hard is not None:
            actor.hard = ready.hard
        if ready.truncate_from is not None:
            gone = actor.log[ready.truncate_from - len(actor.base) - 1 :]
            del actor.log[ready.truncate_from - len(actor.base) - 1 :]
            self.told.append(f"  {actor.node} truncates {' '.join(map(brief, gone))}")
        actor.log += ready.entries
        others = [node for node in self.actors if node != actor.node]
        words = [(to, word) for word in ready.early for to in others] + list(ready.words)
        for to in dict.fromkeys(ready.snapshots):
            words.append((to, Snapshot(len(actor.base), actor.base[-1].term, actor.members, actor.base)))  # type: ignore[arg-type]
        self.under_way += [(actor.node, to, word) for to, word in words if (actor.node, to) not in self.cut]
        if ready.committed:
            self.told.append(f"  {actor.node} applies {' '.join(map(brief, ready.committed))}")
        raft.stable(raft.tail.last)
        if (raft.role, raft.term) != actor.was:
            actor.was = raft.role, raft.term
            self.told.append(f"  {actor.node} is {raft.role.value} at term {raft.term}")
        for read in list(actor.reads):
            if not raft.is_primary:
                self.told.append(f"  {actor.node} refuses a read: it is no longer primary")
                actor.reads.remove(read)
            elif raft.confirmed_round >= read[0] and raft.tail.applied >= read[1]:
                self.told.append(f"  {actor.node} answers a read as of {raft.tail.applied}")
                actor.reads.remove(read)
        if raft.tail.applied < raft.tail.commit:
            self._turn(actor, tick=False)

    def _actor(self, node: str) -> Actor:
        return self.actors[int(node)]


def brief(entry: Entry) -> str:
    """index/term and what it is."""
    if type(entry.command) is SetMembers:
        return f"{entry.index}/t{entry.term}:voters{list(entry.command.voters)}".replace(" ", "")
    return f"{entry.index}/t{entry.term}" + (f":{entry.payload.decode()}" if entry.payload else "")


def describe(word: Any) -> str:
    """A word in few words."""
    match word:
        case Append():
            entries = " ".join(map(brief, word.entries)) or "nothing"
            kind, prev = "fetched" if word.fetched else "append", f"{word.prev_index}/t{word.prev_term}"
            return f"{kind} t{word.term} {entries} after {prev}, committed {word.commit}"
        case Appended():
            return f"appended t{word.term} up to {word.match}"
        case Fetch():
            return f"fetch t{word.term} after {word.after}/t{word.after_term}"
        case AskVote():
            kind = "would you" if word.pre else "transfer, vote" if word.transfer else "vote"
            return f"{kind} t{word.term} (log ends {word.last_index}/t{word.last_term})"
        case Vote():
            return f"{'would' if word.pre else 'vote'} {'yes' if word.granted else 'no'} t{word.term}"
        case Stale():
            return f"stale, it is t{word.term}"
        case TimeoutNow():
            return f"campaign now t{word.term}"
        case Snapshot():
            return f"snapshot up to {word.index}/t{word.term}"
    raise AssertionError(word)


def blocks(text: str) -> list[tuple[str, str]]:
    """(command lines, transcript) in the order of the text; comments begin with #."""
    found = []
    for part in re.split(r"\n\s*\n", text.strip()):
        commands, _, transcript = part.partition("\n----")
        found.append((commands, transcript.strip("\n")))
    return found
