"""The bugs that are planted, as edits of core.py. A rule's number names what each breaks."""

from __future__ import annotations

from typing import NamedTuple

SEEDS_MAX = 200


class Mutant(NamedTuple):
    """`edits`: (what stands in core.py or tail.py, what is put in its place)."""

    name: str
    rule: int
    edits: tuple[tuple[str, str], ...]
    seeds_max: int = SEEDS_MAX  # more for one that needs a rare meeting


MUTANTS = [
    Mutant(
        "truncate on any mismatch",
        3,
        (
            (
                "        if tail.term_at(prev_index) != prev_term:\n",
                "        if entries and entries[0].index <= tail.last and entries[0].index > tail.commit:\n"
                "            tail.truncate(entries[0].index)\n"
                "            while self.history[-1][0] > tail.last:\n"
                "                self.history.pop()\n"
                "        if tail.term_at(prev_index) != prev_term:\n",
            ),
        ),
    ),
    Mutant(
        "an answer counts whatever its term",
        2,
        (
            (
                "            if type(word) in (Append, AskVote, Fetch):\n",
                "            if type(word) is Appended and self.role is Role.PRIMARY:\n"
                "                self._hear_appended(word, now_ms)\n"
                "            if type(word) in (Append, AskVote, Fetch):\n",
            ),
        ),
    ),
    Mutant(
        "what a primary knew of others outlives its term",
        2,
        (("        self.peers = {}\n        self._greet", "        self._greet"),),
    ),
    Mutant(
        "an append is answered before its fsync",
        1,
        (
            (
                "        self._words.append((append.sender, Appended(self.term, self.node, match, append.round)))\n",
                "        self._early.append(Appended(self.term, self.node, match, append.round))\n",
            ),
        ),
    ),
    Mutant(
        "a lone voter broadcasts what is not durable",
        1,
        (
            (
                "        if self.is_alone or HardState(self.term, self.vote) != self._hard:\n",
                "        if False:\n",
            ),
        ),
    ),
    Mutant(
        "a broadcast commit is not capped",
        12,
        (
            (
                "self._commit_to(min(append.commit, self._verified))",
                "self._commit_to(append.commit)",
            ),
        ),
    ),
    Mutant(
        "a broadcast commit is taken before logs were compared",
        12,
        (
            (
                "        if tail.term_at(prev_index) != prev_term:\n",
                "        self._commit_to(min(append.commit, tail.last))\n"
                "        if tail.term_at(prev_index) != prev_term:\n",
            ),
        ),
    ),
    Mutant(
        "what was verified outlives its term",
        12,
        (
            (
                "            self.term, self.vote = term, 0\n            self._verified = 0\n",
                "            self.term, self.vote = term, 0\n",
            ),
        ),
    ),
    Mutant(
        "what was verified outlives a campaign",
        12,
        (
            (
                "        self._verified = 0  # it was said",
                "        # it was said",
            ),
        ),
        seeds_max=800,
    ),
    Mutant(
        "entries of earlier terms are counted",
        4,
        (
            (
                "if index > self.tail.commit and self.tail.term_at(index) == self.term:",
                "if index > self.tail.commit:",
            ),
        ),
    ),
    Mutant(
        "a primary begins its term without an empty entry",
        4,
        (
            (
                "        self._term_began = self.propose(stamp_ms, 0, 0, Noop(self.node)).index\n",
                "        self._term_began = self.tail.commit\n",
            ),
        ),
    ),
    Mutant(
        "the vote is not persisted",
        1,
        (
            (
                "        changed = hard if hard != self._hard else None\n",
                "        changed = HardState(self.term, 0) if hard != self._hard else None\n",
            ),
        ),
    ),
    Mutant(
        "an append of an earlier term is taken",
        5,
        (
            (
                "            if type(word) in (Append, AskVote, Fetch):\n",
                "            if type(word) is Append and self.role is Role.REPLICA:\n"
                "                self._hear_append(word, now_ms)\n"
                "            if type(word) in (Append, AskVote, Fetch):\n",
            ),
        ),
    ),
    Mutant(
        "a snapshot at or below commit is installed",
        21,
        (
            (
                "        if index <= self.tail.commit:\n            return False\n",
                "        if index <= self.tail.floor:\n            return False\n",
            ),
            (
                "        if self.tail.term_at(index) == term:\n            self.tail.commit = index\n"
                "            return False\n",
                "",
            ),
        ),
    ),
    Mutant(
        "members change before an entry of the own term is committed",
        6,
        (
            (
                '        if not self.is_settled:\n            return "the primary',
                '        if False:\n            return "the primary',
            ),
        ),
    ),
    Mutant(
        "two changes of members at once",
        6,
        (
            (
                "        if self.history[-1][0] > self.tail.commit:\n",
                "        if False:\n",
            ),
        ),
    ),
    Mutant(
        "a change of members is not rolled back",
        6,
        (
            (
                "                while self.history[-1][0] >= entry.index:\n                    self.history.pop()\n",
                "",
            ),
        ),
    ),
    Mutant("changes in the log are forgotten at a restart", 6, (("        self._remember(tail.changes)\n", ""),)),
    Mutant(
        "votes are granted without comparing logs",
        5,
        (
            (
                "        newer = (ask.last_term, ask.last_index) >= (self.tail.last_term, self.tail.last)\n",
                "        newer = True\n",
            ),
        ),
    ),
    Mutant(
        "logs are compared by length alone",
        5,
        (
            (
                "(ask.last_term, ask.last_index) >= (self.tail.last_term, self.tail.last)",
                "ask.last_index >= self.tail.last",
            ),
        ),
    ),
    Mutant(
        "two votes in a term",
        1,
        (
            (
                "newer and self.vote in (0, ask.sender) and",
                "newer and self.vote != self.node and",
            ),
        ),
    ),
    Mutant(
        "match falls",
        13,
        (
            (
                "        if answer.match > peer.match:\n",
                "        if answer.match != peer.match:\n",
            ),
        ),
    ),
    Mutant(
        "votes are asked for at once, and given though the primary is heard",
        5,
        (
            ("                self._ask(now_ms)\n", "                self._campaign(now_ms)\n"),
            (
                "            if type(word) is AskVote and not word.transfer and self._has_primary(now_ms):\n",
                "            if False:\n",
            ),
        ),
    ),
    Mutant(
        "a primary that hears no majority stays",
        5,
        (
            (
                "            if sum(1 for voter in self.members.voters if voter in alive) <"
                " quorum.size(self.members.voters):\n",
                "            if False:\n",
            ),
        ),
    ),
    Mutant(
        "a read does not wait for a round",
        9,
        (
            (
                "        return quorum.reached(self.members.voters, {**rounds, self.node: self.round})\n",
                "        return self.round + 1\n",
            ),
        ),
    ),
    Mutant(
        "a read counts a round that was already under way",
        9,
        (("        return self.round + 1\n", "        return self.round\n"),),
    ),
    Mutant(
        "a transfer waits for ever",
        8,
        (
            (
                "        if self.transferee and now_ms >= self._transfer_ms:\n",
                "        if False:\n",
            ),
        ),
    ),
    Mutant(
        "the target of a transfer need not have everything",
        8,
        (
            (
                "peer is not None and peer.match == self.tail.last",
                "peer is not None",
            ),
        ),
    ),
    Mutant(
        "no snapshot for who disagrees at the floor",
        21,
        (
            (
                "        if after < self.tail.floor or (self.tail.term_at(after) or 0) > term:",
                "        if after < self.tail.floor:",
            ),
        ),
    ),
    Mutant(
        "a lone primary's first broadcast has the wrong predecessor",
        11,
        (
            (
                "            self._published = self.tail.last  # who comes later fetches it\n",
                "",
            ),
        ),
    ),
    Mutant(
        "a fetch that is answered twice is followed up twice",
        14,
        (("        if append.fetched and self._verified > self._fetch_after:", "        if append.fetched:"),),
    ),
    Mutant("a gap is never fetched", 14, (("            self._fetch(append, prev_index, now_ms)\n", ""),)),
]
