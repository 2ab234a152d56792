"""The daemon: one thread that hears, decides, makes durable, and then says."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from random import SystemRandom
from typing import Any

import zmq

from ..peers.curve import KeyPair, read_keys
from ..peers.encoded import Encoded
from ..peers.errors import InvalidArgument
from ..peers.links import PeerAddress, PeerLinks
from ..peers.log import CorruptEntry, HardState
from ..peers.presence import Disks
from ..peers.raft.core import Timing
from ..peers.raft.words import Members
from . import damage
from .bulletin import SAY_MS, Bulletin
from .commits import Commits
from .config import Config, load, reloadable
from .desk import Limits
from .fitting import check_address, check_members
from .folder import check_not_lost, join_anew
from .garbage import Garbage
from .host import raise_file_limit, tell_systemd
from .links import Links
from .model import Model
from .node import Node, Turn
from .outbox import Message
from .peering import Peering
from .recovery import first_members, model_of, recover
from .store import CorruptRow, Recovered, StartError, Store

__all__ = ["StartError", "serve"]

FRAME_SLACK_BYTES = (
    1 << 20
)  # a frame may be this much larger than max_message: the answer is TooLarge, not a cut connection
logger = logging.getLogger("penstock.daemon")


class Clock:
    """Milliseconds since 1970 that never jump: the wall is read once, then the monotonic clock goes on from there."""

    def __init__(self) -> None:
        self._start_ms = time.time_ns() // 1_000_000 - time.monotonic_ns() // 1_000_000

    def not_before(self, stamp_ms: int) -> None:
        """The log's last stamp: if the wall was once far ahead, time goes on from there and does not stand still."""
        self._start_ms += max(0, stamp_ms - self.now_ms())

    def now_ms(self) -> int:
        return self._start_ms + time.monotonic_ns() // 1_000_000


def limits_of(config: Config) -> Limits:
    """What of the configuration concerns a node."""
    limits = config.limits
    return Limits(
        max_message=config.storage.max_message_bytes, max_batch=limits.max_batch,
        session_timeout_ms=limits.session_timeout_ms, parked=limits.parked, in_flight_max=limits.in_flight_max,
        lease_max_ms=limits.lease_max_ms, cache_bytes=limits.cache_bytes, checkpoint_entries=limits.checkpoint_entries,
        checkpoint_bytes=limits.checkpoint_bytes,
    )  # fmt: skip


def turn_bytes_max(config: Config) -> int:
    """What one turn may hear, and so write: the last frame may come when `heard_bytes` are nearly reached."""
    return config.limits.heard_bytes + config.storage.max_message_bytes + FRAME_SLACK_BYTES


def serve(config: Config, source: str | None = None) -> None:
    """Run a node until SIGTERM or SIGINT. `source`: the file that SIGHUP reads anew.

    Raises StartError if it cannot start; OSError, lmdb.Error, CorruptEntry or CorruptRow if it must not go on: nothing
    is retried on a disk that may have written half.
    """
    raise_file_limit()
    with contextlib.ExitStack() as closing:
        daemon = Daemon(config, source, closing)
        try:
            daemon.run()
        except CorruptEntry as fault:
            if daemon.peering is not None:  # the next start fetches it from the others
                damage.note(daemon.store.folder, [fault.index])
            raise


class Daemon:
    """The node with its disk, its socket and its signals."""

    def __init__(self, config: Config, source: str | None, closing: contextlib.ExitStack) -> None:
        self.config = config
        self.source = source
        self.clock = Clock()
        self._from_file = load(source) if source is not None else config
        self.stopping = False
        self.reloading = False
        started = time.monotonic()
        storage = config.storage
        check_not_lost(Path(config.node.data))
        self.store = Store(Path(config.node.data), storage.map_size_bytes, storage.durability, turn_bytes_max(config))
        closing.callback(self.store.close)
        self._started_s = started
        self.node, found = self._recover()
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        closing.callback(context.term)
        frame_max = config.storage.max_message_bytes + FRAME_SLACK_BYTES
        self.links = Links(context, config.node.listen, frame_max, self.node.counters)
        closing.callback(self.links.close)
        self.links.watch(closing.enter_context(self._signals()))
        self.peering = self._join(context, frame_max, found, closing) if config.cluster.peers else None
        self._flush_ms = self.clock.now_ms()
        self.garbage = closing.enter_context(Garbage(self._flush_ms))
        self._bulletin = Bulletin(self.node.raft, self._flush_ms)
        self._say_full_ms = self._flush_ms

    def _join(
        self, context: zmq.Context[zmq.Socket[bytes]], frame_max: int, found: Recovered, closing: contextlib.ExitStack
    ) -> Peering:
        """The sockets to the other nodes."""
        cluster, me = self.config.cluster, self.config.node.id
        check_address(self.config, self.node.desk.state.addresses | self.node.raft.addresses)
        keys = self._keys()
        incarnation = _next_incarnation(self.store.folder)
        addresses = {peer.id: PeerAddress(peer.listen, peer.publish, peer.public_key) for peer in cluster.peers}
        disks = Disks(me, found.disk, found.disks)
        self.store.encoded = encoded = Encoded()
        links = PeerLinks(
            context, cluster.name, me, incarnation, cluster.listen, cluster.publish, addresses, disks,
            cluster.election_ms, frame_max, encoded, keys,
        )  # fmt: skip
        closing.callback(links.close)
        # One of the first nodes, whose disk is empty: either the cluster is new, or the disk was lost. The others know.
        is_empty = found.hard == HardState(0, 0) and not self.node.raft.tail.last
        is_new = is_empty and not cluster.join and not disks.is_admitted
        founders = [node for node in addresses if node != me] if is_new else []
        if founders:
            logger.info("a new cluster begins when node %d has met %s", me, ", ".join(map(str, founders)))
        return Peering(self.node, self.store, links, self.links, cluster.heartbeat_ms, founders)

    def _keys(self) -> KeyPair | None:
        """Our own, if nodes have keys. Raises InvalidArgument, StartError."""
        config, me = self.config, self.config.node.id
        if not config.security.curve:
            return None
        # Beside the file that names it, wherever we are started.
        folder = Path(self.source).parent if self.source is not None else Path()
        keys = read_keys(folder / config.security.key_file)
        address = self.node.desk.state.addresses.get(me)
        if address is not None and keys.public != address.key:
            raise StartError(
                f"the public key of {config.security.key_file} is {keys.public}, and the cluster knows node {me} by "
                f"{address.key}",
                "give the secret key that belongs to it as security.key_file; a node with a new key has to join anew",
            )
        return keys

    def _recover(self) -> tuple[Node, Recovered]:
        """The checkpoint, and the log behind it, which the node takes in when it knows how far it is committed."""
        config, store = self.config, self.store
        folder = store.folder if config.cluster.peers else None
        try:
            found = store.recover()
            start = recover(store, found, self._first_members(), config.limits.cache_bytes, folder)
        except (CorruptEntry, CorruptRow) as fault:
            hint = "restore the data folder from a copy, or go on without what is damaged: penstock check --set-aside"
            if config.cluster.peers:  # a copy would have forgotten what this node voted and acknowledged since
                hint = join_anew(config.node.id)
            raise StartError(f"{store.folder}: {fault}", hint) from fault
        self.clock.not_before(start.stamp_ms)
        now_ms = self.clock.now_ms()
        check_members(config, start.history[-1][1].everyone)
        timing = Timing(config.cluster.election_ms, config.cluster.heartbeat_ms)
        raft = start.raft(config.node.id, timing, SystemRandom(), now_ms)
        about = {
            "node": config.node.id, "cluster": config.cluster.name, "primary": config.node.listen[0],
            "version": version("penstock"), "pid": os.getpid(), "data": str(store.folder.absolute()),
            "durability": config.storage.durability, "started_ms": now_ms, "recovery_ms": 0,
        }  # fmt: skip
        addresses = {peer.id: peer.address for peer in config.cluster.peers}
        return Node(start.model, raft, store, SystemRandom(), limits_of(config), about, now_ms, addresses), found

    def _first_members(self) -> Members:
        cluster = self.config.cluster
        return first_members([peer.id for peer in cluster.peers], self.config.node.id, cluster.join)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[int]:
        """Signals end the waiting: a descriptor becomes readable."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        self._signal_reader = reader
        handlers = {signal.SIGTERM: self._on_stop, signal.SIGINT: self._on_stop, signal.SIGHUP: self._on_reload}
        before: dict[signal.Signals, Any] = {
            number: signal.signal(number, handler) for number, handler in handlers.items()
        }
        wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield reader.fileno()
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            reader.close()
            writer.close()

    def _on_stop(self, number: int, frame: object) -> None:
        self.stopping = True

    def _on_reload(self, number: int, frame: object) -> None:
        self.reloading = True

    # -- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """The turn, over and over."""
        node, store, links, clock = self.node, self.store, self.links, self.clock
        self._carry_out(node.begin(clock.now_ms()))
        self._say_started()
        lost: list[bytes] = []
        while not self.stopping:
            limits = self.config.limits
            heard_max = 0 if node.is_crowded else limits.heard_max
            heard = links.receive(_at_once if lost else self._wait_ms, heard_max, limits.heard_bytes)
            lost = self._carry_out(self._turn(heard, lost))
            self._between_turns()
            self.garbage.look(clock.now_ms(), bool(heard))
        tell_systemd("STOPPING=1")
        turn = node.close(clock.now_ms())
        store.commit(turn.writes)
        store.flush()
        links.send(turn.messages)
        logger.info("stopped applied=%d", node.desk.state.applied)

    def _turn(self, heard: list[Message], lost: list[bytes]) -> Turn:
        node, peering, now_ms = self.node, self.peering, self.clock.now_ms()
        if peering is None:
            return node.turn(now_ms, heard, lost)
        words, broken, drained = peering.hear(now_ms)
        return node.turn(now_ms, heard, lost, words, broken, drained)

    def _carry_out(self, turn: Turn) -> list[bytes]:
        """The order of the world: durable first, then said. Returns the routes on which it could not be said."""
        node, peering = self.node, self.peering
        if peering is not None:
            peering.publish(turn)
        # A vote, an answer or an ack that leaves before it is on disk is a promise that a crash breaks.
        self.store.commit(turn.writes)
        lost = self.links.send(turn.messages + node.durable())
        if turn.crash:
            os.kill(os.getpid(), signal.SIGKILL)
        if turn.deposed:
            self._reset(model_of(self.store, self.store.recover()))
        if peering is not None and (model := peering.send(turn, self.clock.now_ms())) is not None:
            self._reset(model)
        return lost

    def _reset(self, model: Model) -> None:
        self.node.reset(model, self.clock.now_ms())
        self.garbage.clear(self.clock.now_ms())

    def _wait_ms(self) -> int:
        now_ms = self.clock.now_ms()
        wait_ms = min(self.node.wait_ms(now_ms), self.garbage.wait_ms(now_ms))
        if self.peering is not None:
            wait_ms = min(wait_ms, self.peering.wait_ms(now_ms))
        if self.store.durability == "interval" and self.store.dirty:
            wait_ms = min(wait_ms, max(0, self._flush_ms - now_ms))
        return wait_ms

    def _between_turns(self) -> None:
        if self.peering is not None:
            self._bulletin.look(self.clock.now_ms(), self.node.clients.connected, self.peering.awaited)
        if self.store.durability == "interval" and self.clock.now_ms() >= self._flush_ms:
            self.store.flush()
            self._flush_ms = self.clock.now_ms() + self.config.storage.interval_ms
        if self.node.desk.full:
            self._say_full()
        self._count(self.store.commits)
        self.store.grow()
        if self.links.rung:
            with contextlib.suppress(BlockingIOError):
                self._signal_reader.recv(4096)
        if self.reloading:
            self.reloading = False
            self._reload()

    def _count(self, commits: Commits) -> None:
        counters = self.node.counters
        counters.commits, counters.slow_commits = commits.count, commits.slow
        counters.commit_max_ms = round(commits.max_ms, 1)

    def _say_full(self) -> None:
        """A publish was refused: once a minute, for as long as that goes on."""
        if (now_ms := self.clock.now_ms()) < self._say_full_ms:
            return
        self._say_full_ms = now_ms + SAY_MS
        usage = self.store.usage()
        logger.warning(
            "storage full: a publish was refused, %d bytes may still be published; %d are used of storage.map_size=%d, "
            "and the disk has %d free", usage["room_bytes"], usage["used_bytes"], usage["map_bytes"],
            shutil.disk_usage(self.store.folder).free,
        )  # fmt: skip

    def _say_started(self) -> None:
        config, node = self.config, self.node
        node.about["primary"] = self.links.endpoints[0]
        node.about["recovery_ms"] = recovery_ms = round((time.monotonic() - self._started_s) * 1000)
        path = self.store.folder / "endpoint"
        fresh = path.with_suffix(".new")
        fresh.write_text("".join(f"{endpoint}\n" for endpoint in self.links.endpoints))
        fresh.replace(path)
        logger.info(
            "started node=%d data=%s listen=%s applied=%d recovery_ms=%d durability=%s",
            config.node.id, self.store.folder, ",".join(self.links.endpoints), node.desk.state.applied,
            recovery_ms, config.storage.durability,
        )  # fmt: skip
        tell_systemd("READY=1")
        if config.storage.durability == "interval":
            logger.warning(
                "durability=interval: a crash loses what was acknowledged in the last %d ms", config.storage.interval_ms
            )

    def _reload(self) -> None:
        """SIGHUP: take over what can be taken over, say what needs a restart; a bad file changes nothing."""
        if self.source is None:
            logger.warning("reload: there is no configuration file to read")
            return
        try:
            fresh = load(self.source)
        except InvalidArgument as fault:
            logger.error("reload: refused, nothing was changed: %s", fault)
            return
        # Against the file as it was: what the command line said instead is no change.
        applied, restart = reloadable(self._from_file, fresh)
        self._from_file = fresh
        storage = self.config.storage
        self.config = Config(
            self.config.node, self.config.cluster, storage, self.config.security, fresh.limits, self.config.compute
        )
        self.node.change_limits(limits_of(self.config))
        self.store.turn_bytes_max = turn_bytes_max(self.config)
        logging.getLogger("penstock").setLevel(fresh.node.log_level.upper())
        logger.info("reload: applied=%s needs_restart=%s", ",".join(applied) or "-", ",".join(restart) or "-")


def _at_once() -> int:
    return 0


def _next_incarnation(folder: Path) -> int:
    """A number for this run of the process, higher than that of all before it, wherever the clock was set to."""
    path = folder / "incarnation"
    before = int(path.read_text()) if path.exists() else 0
    incarnation = max(before + 1, time.time_ns() // 1_000_000)
    fresh = path.with_suffix(".new")
    fresh.write_text(str(incarnation))
    fresh.replace(path)
    return incarnation
