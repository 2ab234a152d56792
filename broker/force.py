"""For disasters: a node whose quorum is gone for good goes on alone, with what its own disk holds.

This breaks the promise of the cluster on purpose. What the lost majority had acknowledged and this node never received
is lost; what it received and nobody acknowledged becomes true.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from ..peers.errors import InvalidArgument
from ..peers.log import CorruptEntry, Entry, HardState
from ..peers.messages import SetMembers
from ..peers.raft.words import Members
from .checkpoint import Writes, unpack_consensus
from .config import Config
from .store import CorruptRow, Recovered, StartError, Store

Addresses = tuple[tuple[Any, ...], ...]  # (node, *Address)


class Forced(NamedTuple):
    """What was done: `node` is alone from the log's entry `entry`, of `term`, on; before, `members` voted."""

    node: int
    term: int
    entry: int
    members: tuple[int, ...]


def force_new(config: Config) -> Forced:
    """Make the stopped node of `config` a cluster of its own, by one entry at the end of its log, which says so.

    Raises StartError if it runs, if there is no log, or if that is damaged; InvalidArgument if it is no member.
    """
    folder = Path(config.node.data)
    if not (folder / "data.mdb").exists():
        raise StartError(f"there is no data in {folder}", "give the data folder of a stopped node with --data")
    store = Store(folder, config.storage.map_size_bytes, config.storage.durability)
    try:
        return _rewrite(store, config)
    except (CorruptEntry, CorruptRow) as fault:
        raise StartError(f"{folder}: {fault}", "take the folder of another node; nothing was changed") from fault
    finally:
        store.close()


def _rewrite(store: Store, config: Config) -> Forced:
    found = store.recover()
    known = Known(config, found)
    for entry in store.replay():
        known.note(entry)
    me = config.node.id
    if me not in known.members.everyone:
        nodes = ", ".join(map(str, known.members.everyone))
        raise InvalidArgument(
            f"node.id is {me}, but the members in {store.folder} are {nodes}",
            "give the configuration of the node whose folder it is with --config",
        )
    term = known.term + 1
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    told = f"force-new at {at}; until then these voted: {known.members.voters}"
    # Alone it may move: perhaps its data was restored on another machine.
    addresses = {node: (node, *where) for node, *where in known.addresses}
    addresses |= {peer.id: (peer.id, *peer.address) for peer in config.cluster.peers if peer.id == me}
    change = SetMembers((me,), (), tuple(addresses.values()), ((me, found.disk),))
    entry = Entry(known.index + 1, term, known.stamp_ms, 0, 0, change, told.encode())
    store.commit(Writes(None, [entry], HardState(term, me), None))
    store.flush()
    return Forced(me, term, entry.index, known.members.voters)


class Known:
    """The end of the log and the last word on the members, be it committed or not."""

    def __init__(self, config: Config, found: Recovered) -> None:
        peers = config.cluster.peers
        self.index = self.stamp_ms = 0
        self.term = found.hard.term
        self.members = Members(tuple(sorted(peer.id for peer in peers)) or (config.node.id,))
        self.addresses: Addresses = tuple((peer.id, *peer.address) for peer in peers)
        if found.consensus is not None and found.meta is not None:
            consensus, meta = unpack_consensus(found.consensus), msgpack.unpackb(found.meta, use_list=False)
            self.index, self.stamp_ms = consensus.floor, meta["stamp_ms"]
            self.members = consensus.history[-1][1]
            self.addresses = tuple((node, *where) for node, where in meta["addresses"]) or self.addresses

    def note(self, entry: Entry) -> None:
        """An entry above the floor, in the order of the log."""
        self.index, self.term = entry.index, max(self.term, entry.term)
        self.stamp_ms = max(self.stamp_ms, entry.stamp_ms)
        if isinstance(entry.command, SetMembers):
            self.members = Members(entry.command.voters, entry.command.learners)
            self.addresses = entry.command.addresses or self.addresses
