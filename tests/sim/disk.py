"""A disk that keeps what was synced, and loses or tears the rest; what it keeps may rot.

A turn is one transaction, so a crash leaves all of it or nothing, except on a disk that tears: there a part of it is
found at the next start, and has to be recognised by its checksum.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import msgpack

from penstock.broker.checkpoint import Writes, unpack_consensus
from penstock.broker.rows import FORMAT
from penstock.broker.snapshots import BadSnapshot, chain
from penstock.broker.store import Recovered
from penstock.peers.log import CorruptEntry, Entry, decode, encode, verify
from penstock.peers.messages import SetMembers
from penstock.peers.raft.words import Members
from penstock.testing.memory import MemoryDisk

PIECE_BYTES = 3000


class Disk(MemoryDisk):
    """What one node has. Beside it, for the checks and never for the node: the terms of all that it ever held."""

    def __init__(self) -> None:
        super().__init__()
        self.terms: dict[int, int] = {0: 0}
        self.disks: dict[int, int] = {}  # on which disk each node was met
        self.changes: list[tuple[int, Members]] = []  # of the members, as in the log
        self.last = 0
        self.folder = Folder()
        self.damaged: set[int] = set()  # entries that were not as they were written, and must never be believed

    def term_at(self, index: int) -> int | None:
        """The term of an entry that is held, also of one that is in the checkpoint by now."""
        return self.terms.get(index) if index <= self.last else None

    @property
    def is_broken(self) -> bool:
        """Some entry on it is not what was written."""
        self.damaged = {index for index in self.damaged if index in self.log and not self.is_sound(index)}
        return bool(self.damaged)

    def is_sound(self, index: int) -> bool:
        try:
            verify(index, self.log[index])
        except CorruptEntry:
            return False
        return True

    # -- what a node does with it -------------------------------------------------------------------------------------

    def commit(self, writes: Writes) -> None:
        if writes.truncate_from is not None:
            assert writes.truncate_from > self.floor, (writes.truncate_from, self.floor)
            self.last = writes.truncate_from - 1
            self.changes = [change for change in self.changes if change[0] <= self.last]
        if writes.hard is not None:
            assert writes.hard.term >= self.hard.term, (writes.hard, self.hard)
        super().commit(writes)
        for entry in writes.entries:
            assert entry.index == self.last + 1, (entry.index, self.last)
            self.last = entry.index
            self.terms[entry.index] = entry.term
            if type(entry.command) is SetMembers:
                self.changes.append((entry.index, Members(entry.command.voters, entry.command.learners)))

    def recover(self) -> Recovered:
        meta, queues, sessions = self.rows()
        return Recovered(self.hard, self.consensus, meta, queues, sessions, 1, self.disks)

    def keep_disks(self, disks: dict[int, int]) -> None:
        self.disks = dict(disks)

    def replay(self, after: int | None = None) -> Iterator[Entry]:  # type: ignore[override]
        """As the store does it. Raises CorruptEntry."""
        expected = (self.floor if after is None else after) + 1
        for index in sorted(index for index in self.log if index >= expected):
            if index != expected:
                raise CorruptEntry(expected, f"it is missing; the next one there is {index}")
            yield decode(index, self.log[index])
            expected += 1

    def entries(self, first: int, last: int, bytes_max: int) -> list[Entry]:
        found: list[Entry] = []
        for index in range(first, last + 1):
            raw = self.log.get(index)
            if raw is None:
                raise CorruptEntry(index, "it is missing")
            found.append(decode(index, raw))
            bytes_max -= len(raw)
            if bytes_max <= 0:
                break
        return found

    def raw_entry(self, index: int) -> bytes | None:
        return self.log.get(index)

    def mend(self, index: int, raw: bytes) -> None:
        assert index in self.log, index
        self.log[index] = raw

    def export(self) -> Export:
        return Export(self)

    def incoming(self, size_bytes: int) -> Incoming:
        return Incoming()

    def adopt(self, incoming: Incoming) -> Recovered:
        """The snapshot takes the place of everything but the node's own term and vote."""
        found = incoming.content()
        hard = self.hard
        MemoryDisk.__init__(self, self.room)
        self.hard, self.damaged = hard, set()
        for name in KEPT:
            setattr(self, name, found[name])
        self.last, self.terms = found["last"], found["terms"]
        self.changes = [(index, Members(*members)) for index, members in found["changes"]]
        return self.recover()

    # -- what befalls it ----------------------------------------------------------------------------------------------

    def tear(self, writes: Writes, random: Random) -> None:
        """The power went while a turn was written, and what is there of it now is no whole transaction."""
        entries = list(writes.entries)
        whole = random.randrange(len(entries))
        if writes.truncate_from is None:
            self.log |= {entry.index: encode(entry) for entry in entries[:whole]}
            raw = encode(entries[whole])
            self.log[entries[whole].index] = _damaged(raw, random) if random.random() < 0.5 else raw[: len(raw) // 2]
            self.damaged.add(entries[whole].index)

    def rot(self, random: Random) -> int | None:
        """A bit flips somewhere in the log. Returns in which entry."""
        if not self.log:
            return None
        index = random.choice(list(self.log))
        self.log[index] = _damaged(self.log[index], random)
        self.damaged.add(index)
        return index


OWN = {"room", "hard", "_sorted"}  # what is not part of a snapshot
KEPT = {name: type(value) for name, value in vars(MemoryDisk()).items() if name not in OWN}  # whatever is kept there


def _damaged(raw: bytes, random: Random) -> bytes:
    # Behind the checksum, or it would be the checksum that is wrong and the entry that is right.
    at = random.randrange(4, len(raw))
    return raw[:at] + bytes([raw[at] ^ (1 << random.randrange(8))]) + raw[at + 1 :]


class Folder:
    """The files beside the data: those that are written and renamed are there whole, or not at all."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    def __truediv__(self, name: str) -> File:
        return File(self, name)


class File:
    """One of them, as `Path` offers it."""

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder = folder
        self._name = name

    def read_text(self, encoding: str = "") -> str:
        if self._name not in self._folder.files:
            raise FileNotFoundError(self._name)
        return self._folder.files[self._name]

    def write_text(self, text: str, encoding: str = "") -> None:
        self._folder.files[self._name] = text

    def with_suffix(self, suffix: str) -> File:
        return File(self._folder, self._name + suffix)

    def replace(self, other: File) -> None:
        self._folder.files[other._name] = self._folder.files.pop(self._name)

    def unlink(self, missing_ok: bool = False) -> None:
        self._folder.files.pop(self._name, None)


class Export:
    """The last checkpoint of a disk and the entries up to it, in pieces that are the same each time."""

    def __init__(self, disk: Disk) -> None:
        assert disk.meta is not None, "there is no checkpoint yet, so nothing is gone that anybody could lack"
        assert disk.consensus is not None
        self.index = int(msgpack.unpackb(disk.meta)["applied"])
        known = unpack_consensus(disk.consensus)
        self.index_term = known.term
        for index, raw in disk.log.items():
            if index <= self.index:
                entry = decode(index, raw)  # what rotted is not handed on
                if index == self.index:
                    self.index_term = entry.term
        content = {name: _packed(getattr(disk, name)) for name in KEPT}
        content["log"] = [(index, raw) for index, raw in disk.log.items() if index <= self.index]
        content["last"] = self.index
        content["terms"] = [(index, term) for index, term in disk.terms.items() if index <= self.index]
        content["changes"] = [change for change in disk.changes if change[0] <= self.index]
        packed: bytes = msgpack.packb(content)
        self._pieces = [msgpack.packb((FORMAT, len(packed)))]
        self._pieces += [packed[at : at + PIECE_BYTES] for at in range(0, len(packed), PIECE_BYTES)]
        digest = b""
        for piece in self._pieces:
            digest = chain(digest, piece)
        self._pieces.append(msgpack.packb((len(self._pieces) - 1, digest)))
        self.is_open = True
        self.known = len(self._pieces) - 1

    def piece(self, number: int) -> tuple[bytes, bool]:
        return self._pieces[number], number == len(self._pieces) - 1

    def close(self) -> None:
        self.is_open = False


class Incoming:
    """A snapshot that comes in."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, payload: bytes) -> int:
        self._parts.append(payload)
        return 1

    def discard(self) -> None:
        self._parts.clear()

    def content(self) -> dict[str, Any]:
        found: dict[str, Any] = msgpack.unpackb(b"".join(self._parts), use_list=False)
        for name, kind in (*KEPT.items(), ("terms", dict)):
            if kind in (dict, set):
                found[name] = kind(found[name])
        found["changes"] = list(found["changes"])
        return found

    def members(self, index: int) -> Members:
        found = self.content()
        if msgpack.unpackb(found["meta"])["applied"] != index:
            raise BadSnapshot(f"it is not of entry {index}")
        return unpack_consensus(found["consensus"]).history[-1][1]


def _packed(value: Any) -> Any:
    if isinstance(value, dict):
        return list(value.items())
    return sorted(value) if isinstance(value, set) else value
