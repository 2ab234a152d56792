"""The bugs that are planted into the consensus and the disk, as edits of sources. The number names the broken rule."""

from __future__ import annotations

from .mutant import Mutant

MUTANTS = [
    Mutant(
        "truncate on any mismatch",
        3,
        (
            (
                "    if tail.term_at(prev_index) != prev_term:\n",
                "    if entries and entries[0].index <= tail.last and entries[0].index > tail.commit:\n"
                "        tail.truncate(entries[0].index)\n"
                "        while me.history[-1][0] > tail.last:\n"
                "            me.history.pop()\n"
                "    if tail.term_at(prev_index) != prev_term:\n",
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
                "                primary.hear_appended(self, word, now_ms)\n"
                "            if type(word) in (Append, AskVote, Fetch):\n",
            ),
        ),
    ),
    Mutant(
        "the vote is not persisted",
        1,
        (
            (
                "        changed = hard if hard != self.hard else None\n",
                "        changed = HardState(self.term, 0) if hard != self.hard else None\n",
            ),
        ),
    ),
    Mutant(
        "what a primary knew of others outlives its term",
        2,
        (("    me.peers = {}\n    greet", "    greet"),),
    ),
    Mutant(
        "an append is answered before its fsync",
        1,
        (
            (
                "    me.say(append.sender, Appended(me.term, me.node, match, append.round))\n",
                "    me.early.append(Appended(me.term, me.node, match, append.round))\n",
            ),
        ),
    ),
    Mutant(
        "a lone voter broadcasts what is not durable",
        1,
        (
            (
                "    if me.is_alone or HardState(me.term, me.vote) != me.hard:\n",
                "    if False:\n",
            ),
        ),
    ),
    Mutant(
        "a broadcast commit is not capped",
        12,
        (
            (
                "_commit_to(me, min(append.commit, me.verified))",
                "_commit_to(me, append.commit)",
            ),
        ),
    ),
    Mutant(
        "a broadcast commit is taken before logs were compared",
        12,
        (
            (
                "    if tail.term_at(prev_index) != prev_term:\n",
                "    _commit_to(me, min(append.commit, tail.last))\n    if tail.term_at(prev_index) != prev_term:\n",
            ),
        ),
    ),
    Mutant(
        "what was verified outlives its term",
        12,
        (
            (
                "            self.verified = self.heard_round = 0\n",
                "            self.heard_round = 0\n",
            ),
        ),
    ),
    Mutant(
        "entries of earlier terms are counted",
        4,
        (
            (
                "if index > me.tail.commit and me.tail.term_at(index) == me.term:",
                "if index > me.tail.commit:",
            ),
        ),
    ),
    Mutant(
        "a primary begins its term without an empty entry",
        4,
        (
            (
                '    me.term_began = propose(me, 0, 0, 0, Noop(me.node), b"").index\n',
                "    me.term_began = me.tail.commit\n",
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
                "                self.heard_round = -1\n"
                "                follower.hear_append(self, word, now_ms)\n"
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
            ("        if chunk.index <= commit:\n            return NOTHING\n", ""),
            ("        if self.sink is not None and self._stream[2] <= commit:\n", "        if False:\n"),
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
                "            while me.history[-1][0] >= entry.index:\n                me.history.pop()\n",
                "",
            ),
        ),
    ),
    Mutant(
        "votes are granted without comparing logs",
        5,
        (
            (
                "    newer = (ask.last_term, ask.last_index) >= (me.tail.last_term, me.tail.last)\n",
                "    newer = True\n",
            ),
        ),
    ),
    Mutant(
        "logs are compared by length alone",
        5,
        (
            (
                "(ask.last_term, ask.last_index) >= (me.tail.last_term, me.tail.last)",
                "ask.last_index >= me.tail.last",
            ),
        ),
    ),
    Mutant(
        "two votes in a term",
        1,
        (
            (
                "newer and me.vote in (0, ask.sender) and",
                "newer and me.vote != me.node and",
            ),
        ),
    ),
    Mutant(
        "match falls",
        13,
        (
            (
                "    if answer.match > peer.match:\n",
                "    if answer.match != peer.match:\n",
            ),
        ),
    ),
    Mutant(
        "votes are asked for at once, and given though the primary is heard",
        5,
        (
            ("                election.ask(self, now_ms)\n", "                election.campaign(self, now_ms)\n"),
            (
                "            if type(word) is AskVote and not word.transfer and self.has_primary(now_ms):\n",
                "            if False:\n",
            ),
        ),
    ),
    Mutant(
        "a primary that hears no majority stays",
        5,
        (
            (
                "        if sum(1 for voter in me.members.voters if voter in alive) <"
                " quorum.size(me.members.voters):\n",
                "        if False:\n",
            ),
        ),
    ),
    Mutant(
        "a transfer waits for ever",
        8,
        (
            (
                "    if me.transferee and now_ms >= me.transfer_ms:\n",
                "    if False:\n",
            ),
        ),
    ),
    Mutant(
        "the target of a transfer need not have everything",
        8,
        (
            (
                "peer is not None and peer.match == me.tail.last",
                "peer is not None",
            ),
        ),
    ),
    Mutant(
        "no snapshot for who disagrees at the floor",
        21,
        (
            (
                "    if after < me.tail.floor or (me.tail.term_at(after) or 0) > term:",
                "    if after < me.tail.floor:",
            ),
        ),
    ),
    Mutant(
        "a lone primary's first broadcast has the wrong predecessor",
        11,
        (
            (
                "        me.published = me.tail.last  # who comes later fetches it\n",
                "",
            ),
        ),
    ),
    Mutant("a gap is never fetched", 14, (("        _fetch(me, append, prev_index, now_ms)\n", ""),)),
    # -- the node and the model ----------------------------------------------------------------------------------------
    Mutant(
        "an answer leaves before what it speaks of is committed",
        2,
        (
            (
                "self._held[0].index <= commit and self._held[0].round <= confirmed_round",
                "self._held[0].round <= confirmed_round",
            ),
        ),
    ),
    Mutant(
        "a deposed primary keeps the model that ran ahead",
        10,
        (("        return self._end_turn(now_ms, deposed=True)\n", "        return self._end_turn(now_ms)\n"),),
    ),
    Mutant(
        "a deposed primary says what it had held back",
        2,
        (
            (
                "        for route, sequence in unsent + self.waiting.drain():\n",
                "        self.desk.messages += self.outbox_before\n"
                "        for route, sequence in unsent + self.waiting.drain():\n",
            ),
            (
                "        unsent = [(route, wire.parse_reply(frames).sequence)",
                "        self.outbox_before = [message for held in self.outbox._held for message in held.messages]\n"
                "        unsent = [(route, wire.parse_reply(frames).sequence)",
            ),
        ),
    ),
    Mutant(
        "a new primary ends leases before it knows what is committed",
        10,
        (("        if self.raft.is_settled and not self._settling:", "        if not self._settling:"),),
    ),
    Mutant(
        "a lease is ended by a primary that was deposed",
        10,
        (
            (
                "            self._turn_away(heard, shows=self.desk.state.applied >= self._sure)\n",
                "            for command in list(self.upkeep.due(self.desk.now_ms, 1 << 40)):\n"
                "                if isinstance(command, m.Expire):\n"
                "                    self.desk.state.end_lease(self.desk.state.leases[command.lease])\n"
                "            self._turn_away(heard, shows=self.desk.state.applied >= self._sure)\n",
            ),
        ),
    ),
    Mutant(
        "leases do not get back the time without a primary",
        10,
        (("self._all_timers(max(0, now_ms - state.stamp_ms))", "self._all_timers(0)"),),
    ),
    Mutant(
        "the answers of a session are not remembered",
        31,
        (("        known = self.answers.get(sequence)\n", "        known = OK\n"),),
    ),
    Mutant(
        "what was asked again is done again",
        31,
        (
            ("        known = session.recall(entry.sequence)\n", "        known = None\n"),
            ("            answer = session.recall(sequence) or self._counted(", "            answer = self._counted("),
        ),
    ),
    Mutant(
        "a checkpoint is taken of what is not committed",
        10,
        (("        settled = state.applied <= raft.tail.commit\n", "        settled = True\n"),),
    ),
    Mutant(
        "a checkpoint forgets the answers of sessions",
        31,
        (("        session.answers = {sequence: Answer(*answer) for sequence, answer in answers}\n", ""),),
    ),
    Mutant(
        "a torn or damaged entry is taken for what was written",
        24,
        (
            (
                '    if zlib.crc32(memoryview(raw)[_CHECK.size :], zlib.crc32(index.to_bytes(8, "big")))'
                " != _CHECK.unpack_from(raw)[0]:\n",
                "    if False:\n",
            ),
        ),
    ),
    Mutant(
        "a replica does not know what it has written",
        3,
        (
            (
                "        if self.raft.is_alone or not self._office:\n            return []\n"
                "        return self.outbox.release",
                "        return self.outbox.release",
            ),
            (
                "        self.raft.stable(self.raft.tail.last)  # of a replica, too",
                "        if self.raft.is_alone or not self._office:\n            return []\n"
                "        self.raft.stable(self.raft.tail.last)  # of a replica, too",
            ),
        ),
    ),
    Mutant(
        "a snapshot that is not whole is installed",
        21,
        (
            ("            if _unpack(chunk.payload) != (self._records, self._digest):\n", "            if False:\n"),
            ("        if (self.arrived is None and chunk.number == self._next) or stream", "        if True or stream"),
        ),
    ),
]
