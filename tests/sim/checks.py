"""What must hold at every moment, whatever the world does. Each check names the rule of the design that it guards."""

from __future__ import annotations

from typing import Any

from penstock.broker import checkpoint
from penstock.broker.node import Turn
from penstock.peers.log import Entry, decode
from penstock.peers.messages import EndSession, Expire, SetMembers
from penstock.peers.raft import quorum
from penstock.peers.raft.words import Append, Appended, Fetch, TimeoutNow, Vote
from penstock.peers.snapshot_words import Chunk

FETCH_WINDOW_MS, FETCHES_MAX = 300, 8
SILENCE_MS = 2100  # two election time-outs, and a little
DIGEST_EVERY = 16  # entries


class Broken(AssertionError):
    """A rule does not hold. `check` is its name in the table of mutants."""

    def __init__(self, check: str, what: str) -> None:
        super().__init__(f"{check}: {what}")
        self.check = check


class Checks:
    """Everything that was seen of a run, as far as later moments are judged by it."""

    def __init__(self, seats: dict[int, Any]) -> None:
        self.seats = seats
        self.canon: list[Entry] = []  # what was committed anywhere, in order
        self.known: dict[tuple[int, int], tuple[Entry, int | None]] = {}  # (index, term) -> entry, term before it
        self.primaries: dict[int, tuple[int, int]] = {}  # term -> node and its life
        self.votes: dict[tuple[int, int], int] = {}
        self.proven = 0  # committed up to here, and seen on the disks of a majority
        self.seen = 0  # the latest index that a client knows to be done
        self.told_next: dict[str, int] = {}  # by queue: what a read has to see
        self.digests: dict[tuple[int, int], tuple[str, int]] = {}  # (applied, its term) -> of the model, at which node
        self.acked = 0
        self.answered = 0
        self.shown_at: dict[tuple[int, str], tuple[Any, int]] = {}  # (applied, queue) -> what was read locally, where

    def started(self, seat: Any) -> None:
        """A node goes by the last change in its log, also one that is not committed (rule 6)."""
        members = seat.machine.raft.members
        if seat.disk.changes and members != seat.disk.changes[-1][1]:
            raise Broken(
                "members forgotten", f"node {seat.node} goes by {members}, its log says {seat.disk.changes[-1]}"
            )
        self.model(seat, always=True)

    # -- at the end of a turn, before anything of it leaves or is written ----------------------------------------------

    def turn(self, seat: Any, turn: Turn) -> None:
        raft = seat.machine.raft
        tail = raft.tail
        if raft.term < seat.term:
            raise Broken("term falls", f"node {seat.node} went from term {seat.term} back to {raft.term}")
        if tail.commit < seat.commit:
            raise Broken("commit falls", f"node {seat.node} went from {seat.commit} back to {tail.commit}")
        if raft.is_primary:
            self._quorum(seat, raft)
            self._transfer(seat, raft)
            if tail.commit > seat.commit and seat.presides == raft.term and tail.term_at(tail.commit) != raft.term:
                raise Broken(
                    "earlier term committed", f"primary {seat.node} of term {raft.term} commits {tail.commit} (rule 4)"
                )
        seat.term, seat.commit = raft.term, tail.commit
        self._one_change(seat, turn)
        self._time(seat, turn)

    def shown(self, seat: Any, turn: Turn) -> None:
        """Something of the turn leaves, or it is durable. What was only thought and lost breaks no rule."""
        raft = seat.machine.raft
        if raft.is_primary:
            self._primary(seat, raft)
        if turn.writes.entries:
            self._log_matching(seat.node, turn.writes.entries, raft.tail)

    def _quorum(self, seat: Any, raft: Any) -> None:
        """A primary that has heard no majority for two election time-outs has stepped down (rule 5)."""
        if seat.presides != raft.term or seat.members != raft.members:
            seat.members, seat.members_ms = raft.members, seat.now_ms
        if seat.presides != raft.term or seat.now_ms - max(seat.presides_ms, seat.members_ms) <= SILENCE_MS:
            return
        voters = raft.members.voters
        heard = [
            v for v in voters if v == seat.node or v not in seat.heard or seat.now_ms - seat.heard[v] <= SILENCE_MS
        ]
        if len(heard) < quorum.size(voters):
            raise Broken(
                "primary without a quorum",
                f"node {seat.node} heard only {heard} of {voters} in {SILENCE_MS} ms (rule 5)",
            )

    def _one_change(self, seat: Any, turn: Turn) -> None:
        """One change at a time, begun after a commit in the own term; truncated, it is undone (rule 6)."""
        raft = seat.machine.raft
        if raft.history[-1][0] > raft.tail.last:
            raise Broken(
                "change not undone",
                f"node {seat.node} goes by one at {raft.history[-1][0]}, its log ends at {raft.tail.last}",
            )
        changes = any(type(entry.command) is SetMembers and entry.term == raft.term for entry in turn.writes.entries)
        if not changes or not raft.is_primary:
            return
        commit, before = raft.tail.commit, [index for index, _ in raft.history[-2:-1]]
        if raft.tail.term_at(commit) != raft.term or max(before, default=0) > commit:
            what = f"primary {seat.node} of term {raft.term}, committed {commit}: {raft.history[-2:]}"
            raise Broken("hasty change", what)

    def _transfer(self, seat: Any, raft: Any) -> None:
        """Either it succeeds within an election time-out, or the primary goes on (rule 8)."""
        if raft.transferee and seat.now_ms > raft.transfer_ms:
            raise Broken("endless transfer", f"of primary {seat.node} to {raft.transferee} (rule 8)")

    def _primary(self, seat: Any, raft: Any) -> None:
        who = seat.node, seat.life
        first = self.primaries.setdefault(raft.term, who)
        if first != who:
            what = f"term {raft.term}: node {first[0]} (life {first[1]}) and node {who[0]} (life {who[1]})"
            raise Broken("two primaries", what)
        if seat.presides != raft.term:
            seat.presides, seat.matches, seat.heard, seat.presides_ms = raft.term, {}, {}, seat.now_ms
            seat.round_said = 0
            if not raft.is_alone and (bad := seat.machine.peering.repair.shelf.damaged()):
                raise Broken("led from a bad entry", f"primary {seat.node} of term {raft.term} lacks {bad} (rule 24)")
            count = len(self.canon)
            while count and self.canon[count - 1].term >= raft.term:
                count -= 1  # of a later term: it is not up to a primary that nobody has heard of yet
            if raft.tail.floor <= count and raft.tail.term_at(count) != (self.canon[count - 1].term if count else 0):
                raise Broken("leader completeness", f"primary {seat.node} of term {raft.term} lacks entry {count}")
        for node, peer in raft.peers.items():
            before = seat.matches.get(node, 0)
            if peer.match != before:
                if peer.match < before:
                    raise Broken(
                        "match falls", f"of node {node} at primary {seat.node}: {before} to {peer.match} (rule 13)"
                    )
                seat.matches[node] = peer.match
                self._held(seat, raft, node, peer.match)

    def heard(self, seat: Any, items: list[Any]) -> None:
        """From whom a primary hears; who never spoke is left out, since it may have just been added."""
        for item in items:
            if (sender := getattr(item, "sender", 0)) > 0:
                seat.heard[sender] = seat.now_ms

    def _held(self, seat: Any, raft: Any, node: int, match: int) -> None:
        """What the primary counts for another is there, durably, unless it has gone on to a later term."""
        disk = self.seats[node].disk
        if disk.hard.term <= raft.term and match >= raft.tail.floor:
            held = disk.hard.term == raft.term and disk.term_at(match) is not None
            if not held or disk.term_at(match) != raft.tail.term_at(match):
                what = f"primary {seat.node} counts entry {match} for node {node}, which does not hold it (rules 1, 13)"
                raise Broken("false match", what)

    def _log_matching(self, node: int, entries: Any, tail: Any) -> None:
        before = tail.term_at(entries[0].index - 1)
        for entry in entries:
            first = self.known.setdefault((entry.index, entry.term), (entry, before))
            if first[0] != entry or (before is not None and first[1] is not None and before != first[1]):
                raise Broken(
                    "log matching",
                    f"node {node}: {show(entry)} after term {before}; first seen: {show(first[0])} after {first[1]}",
                )
            before = entry.term

    def _committed(self, seat: Any) -> None:
        """What is committed is the same everywhere and for ever."""
        tail, log = seat.machine.raft.tail, seat.disk.log
        while seat.applied < tail.commit:
            index = seat.applied + 1
            entry = tail.recent(index)
            if entry is None and index in log and not seat.disk.is_broken:
                entry = decode(index, log[index])
            if entry is None:
                entry = self.known.get((index, seat.disk.term_at(index) or 0), (None, None))[0]
            seat.applied = index
            if index > len(self.canon):
                if entry is None or index != len(self.canon) + 1:
                    raise Broken("commit out of nothing", f"node {seat.node} has {index} committed and nobody has it")
                self.canon.append(entry)
            elif entry is not None and self.canon[index - 1] is not entry and self.canon[index - 1] != entry:
                first = self.canon[index - 1]
                raise Broken("committed entries change", f"node {seat.node}: {show(entry)}; first seen: {show(first)}")

    def installed(self, seat: Any, before: int) -> None:
        """A snapshot took the place of what was there (rule 21)."""
        state, tail = seat.machine.node.desk.state, seat.machine.raft.tail
        if state.applied <= before or state.applied > len(self.canon) or tail.commit < state.applied:
            what = f"node {seat.node}, committed up to {before}, installed one of {state.applied}"
            raise Broken("snapshot", f"{what}; committed anywhere: {len(self.canon)} (rule 21)")
        seat.applied = seat.commit = state.applied
        self.model(seat, always=True)

    def model(self, seat: Any, always: bool = False) -> None:
        """Equal models where as much was applied, speculation included: the term of the last entry names the log."""
        node = seat.machine.node
        applied = node.desk.state.applied
        if not always and (applied % DIGEST_EVERY or applied == seat.digested):
            return
        term = seat.machine.raft.tail.term_at(applied)
        if term is None:
            return
        seat.digested = applied
        state = node.desk.state
        # Until the first change of members these are what each node finds in its own configuration.
        addresses, state.addresses = state.addresses, {}
        digest = checkpoint.digest(node.desk.model)
        state.addresses = addresses
        first, where = self.digests.setdefault((applied, term), (digest, seat.node))
        if first != digest:
            what = f"node {seat.node} and node {where} differ, both having applied {applied} of term {term}"
            raise Broken("models differ", what)

    def _time(self, seat: Any, turn: Turn) -> None:
        """What time asks for waits for an entry of the own term; leases go on with what was left of them (rule 10)."""
        raft, desk = seat.machine.raft, seat.machine.node.desk
        if not raft.is_primary:
            return
        if seat.office != raft.term:
            seat.office, seat.office_ms = raft.term, desk.now_ms
            stamp_ms = self._last_stamp_ms(raft, desk.now_ms)
            seat.left = {(it.id, it.ends_ms): it.ends_ms - stamp_ms for it in desk.state.leases.values()}
        for entry in turn.writes.entries:
            command = entry.command
            if type(command) is not Expire and not (type(command) is EndSession and command.expired):
                continue
            # Entries of an earlier term were heard as a replica, in the very turn that made it the primary.
            if entry.term == raft.term and raft.tail.term_at(raft.tail.commit) != raft.term:
                raise Broken("hasty end", f"primary {seat.node} of term {raft.term}: {show(entry)} (rule 10)")
            left_ms = seat.left.get(tuple(command), 0)  # by lease and end: one that was extended has another end
            if entry.stamp_ms - seat.office_ms < left_ms:
                what = f"lease {command[0]} had {left_ms} ms left at the change of primaries"
                raise Broken("lease cut short", f"{what}, and got {entry.stamp_ms - seat.office_ms} (rule 10)")

    def written(self, seat: Any, turn: Turn) -> None:
        """The turn is durable: only now what it committed is a fact. A lone voter commits what it has yet to write."""
        term, match = seat.promised
        if term == seat.disk.hard.term and match >= (turn.writes.truncate_from or match + 1):
            what = f"node {seat.node} had answered {match} in term {term}, and truncates {turn.writes.truncate_from}"
            raise Broken("promise broken", f"{what} (rule 3)")
        self._committed(seat)

    @staticmethod
    def _last_stamp_ms(raft: Any, now_ms: int) -> int:
        """The latest moment at which anybody could renew a lease, before this primary."""
        index = raft.term_began - 1
        while (entry := raft.tail.recent(index)) is not None:
            if entry.stamp_ms:
                return int(entry.stamp_ms)
            index -= 1
        return now_ms  # it is long ago, nothing is known of it

    # -- when words leave ----------------------------------------------------------------------------------------------

    def said(self, seat: Any, word: Any, to: int = 0) -> None:
        """A word leaves now; the disk is as it is now."""
        kind = type(word)
        if kind is Append:
            seat.round_said = max(seat.round_said, word.round)
            if word.commit > self.proven:
                self._durable(seat, word.commit, f"an append of primary {seat.node} says")
        elif kind is Appended:
            if seat.disk.hard.term == word.term and seat.disk.last < word.match:
                what = f"node {seat.node} answers {word.match}, its disk ends at {seat.disk.last} (rule 1)"
                raise Broken("answer before fsync", what)
            seat.promised = max(seat.promised, (word.term, word.match))
        elif kind is Fetch:
            self._fetch(seat, word)
        elif kind is TimeoutNow:
            raft = seat.machine.raft
            if raft.is_primary and raft.term == word.term and self.seats[to].disk.last < raft.tail.last:
                ends = self.seats[to].disk.last
                what = f"primary {seat.node} to {to}, which ends at {ends} of {raft.tail.last} (rule 8)"
                raise Broken("hasty transfer", what)
        elif kind is Vote and word.granted and not word.pre and seat.disk.hard.term < word.term:
            raise Broken("vote before fsync", f"node {seat.node} in term {word.term} (rule 1)")

    def _fetch(self, seat: Any, fetch: Fetch) -> None:
        """A gap is asked for once, and again if no answer came: never in crowds (rule 14)."""
        first_ms, count = seat.fetches.get((fetch.term, fetch.after), (seat.now_ms, 0))
        if seat.now_ms - first_ms > FETCH_WINDOW_MS:
            first_ms, count = seat.now_ms, 0
        seat.fetches[fetch.term, fetch.after] = first_ms, count + 1
        if count >= FETCHES_MAX:
            raise Broken(
                "fetch storm",
                f"node {seat.node} asked {count + 1} times in {seat.now_ms - first_ms} ms: {fetch} (rule 14)",
            )

    def voted(self, seat: Any, vote: Vote, to: int) -> None:
        first = self.votes.setdefault((vote.sender, vote.term), to)
        if first != to:
            raise Broken("two votes", f"node {vote.sender} in term {vote.term}: for {first} and for {to}")

    # -- what clients are told -----------------------------------------------------------------------------------------

    def accepted(self, queue: str, next_offset: int, index: int) -> None:
        """A publish was confirmed, which is entry `index`."""
        self.acked += 1
        self.seen = max(self.seen, index)
        self.told_next[queue] = max(self.told_next.get(queue, 0), next_offset)

    def told(self, seat: Any, body: Any) -> None:
        """A node is about to answer a publish: it is committed, on the disks of a majority."""
        index = body.get("index")
        if index is not None and index > self.proven:
            self._durable(seat, index, f"primary {seat.node} acknowledges")
        if "lag_ms" in body:
            self._local(seat, body)

    def _local(self, seat: Any, body: Any) -> None:
        """One node says what it has applied: that is committed, it never goes back, and is the same at all nodes."""
        applied = body["applied"]
        if applied > self.proven:
            self._durable(seat, applied, f"node {seat.node} shows to who reads locally that")
        if applied < seat.told_applied:
            what = f"node {seat.node} showed {applied} to who reads locally, after {seat.told_applied}"
            raise Broken("local read goes back", what)
        seat.told_applied = applied
        if "groups" in body:
            shown = body["next"], body["done"], body["dead"], body["leased"], body["paused"]
            first, where = self.shown_at.setdefault((applied, body["name"]), (shown, seat.node))
            if first != shown:
                what = f"of {body['name']} at {applied} node {seat.node} shows {shown}, and node {where} showed {first}"
                raise Broken("local reads differ", what)

    def read(self, queue: str, due: int, body: Any) -> None:
        self.answered += 1
        if body["next"] < due:
            raise Broken("stale read", f"{queue} was said to go up to {body['next']}, after {due} was told (rule 9)")

    def _durable(self, seat: Any, index: int, who: str) -> None:
        """Committed is what a majority of the voters holds on disk; while members change, the majority of before."""
        raft = seat.machine.raft
        term = raft.tail.term_at(index) or seat.disk.term_at(index)
        for _, members in raft.history[-2:]:
            held = sum(1 for node in members.voters if self.seats[node].disk.term_at(index) == term)
            if term is not None and held >= quorum.size(members.voters):
                self.proven = index
                return
        raise Broken(
            "commit without a majority", f"{who} {index} is committed, which no majority holds on disk (rules 1, 4)"
        )


def show(word: Any) -> str:
    """Short, for a history."""
    if isinstance(word, Entry):
        command = word.command
        return f"{word.index}/t{word.term} {type(command).__name__}{tuple(command) or ''}"
    if isinstance(word, Append):
        what = ", ".join(show(entry) for entry in word.entries[:4]) + (" .." if len(word.entries) > 4 else "")
        kind = "fetched" if word.fetched else "append"
        where = f"after {word.prev_index}/t{word.prev_term}"
        return f"{kind} t{word.term} {where} [{what}] commit {word.commit} round {word.round} last {word.last}"
    if isinstance(word, Chunk):
        return f"piece {word.number} of the snapshot of {word.index}/t{word.index_term}{', the last' * word.last}"
    return repr(word)
