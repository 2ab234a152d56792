"""The sockets between nodes: PUB for what is equal for all, one ROUTER in and one DEALER out per peer for the rest.

Words may be dropped, never delayed without end, and nothing here waits: consensus asks again for what it lacks.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import zmq
from zmq.utils.monitor import parse_monitor_message

from .curve import Doorkeeper, KeyPair
from .encoded import Encoded
from .errors import InvalidArgument
from .frames import BadFrames, Foreign, PeerWord, Said, frames_of, read_header, read_word
from .presence import Disks, Presence
from .raft.words import Append
from .sockets import Context, Socket, Sockets, bind

PUBLISH_HWM = 1000  # broadcasts waiting for one peer; further ones are dropped, and fetched by the peer
TOLD_MAX = 100  # reasons why words were dropped, in one log
HWM = 256  # the same of what goes to one peer alone: answers, votes, pieces of snapshots
WORDS_MAX = 1024  # of one `receive`: bounds one turn, and so the time to the next heartbeat
BYTES_MAX = 16 << 20
FRAME_MAX = 80 << 20
ZERO_COPY = 64 << 10  # bytes; below it a copy costs less than keeping the original for libzmq

# Plain integers: pyzmq's enums cost 2 us a frame.
NOBLOCK, NOBLOCK_SNDMORE, RCVMORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE), int(zmq.RCVMORE)
POLLIN = int(zmq.POLLIN)
UNSENT = int(zmq.EAGAIN), int(zmq.EHOSTUNREACH)
CONNECTED, DISCONNECTED = int(zmq.EVENT_HANDSHAKE_SUCCEEDED), int(zmq.EVENT_DISCONNECTED)
# After these libzmq never tries again: the other side speaks in the clear, or not in the clear, perhaps not for long.
GIVEN_UP = int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL), int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)

logger = logging.getLogger("penstock.links")


class PeerAddress(NamedTuple):
    """Where a node listens for its peers (`listen`, a ROUTER), where it publishes (a PUB), and its public key."""

    listen: str
    publish: str
    key: str = ""


@dataclass
class LinkCounters:
    """Words since the start. `unsent`: no channel, or it is full. Received and dropped: what is `foreign` (of another
    cluster, version or node than it may be), `stale` (of a former process of a peer), `corrupt`, or `replaced` (of a
    node that is known on another disk)."""

    sent: int = 0
    unsent: int = 0
    heard: int = 0
    foreign: int = 0
    stale: int = 0
    corrupt: int = 0
    replaced: int = 0


class _Peer(NamedTuple):
    dealer: Socket
    sub: Socket
    monitors: tuple[Socket, ...]


class PeerLinks:
    """All sockets of one node, used by one thread. See the top of this file.

    `incarnation` rises with each start of the process. `election_ms`: a peer that answers no ping for so long counts as
    lost. `frame_max`: bytes of the largest entry; who sends more is cut off. `peers` may name the node itself, which is
    left out. `disks`: on which disk everyone is. With `keys` everything is encrypted, and only who has the key of a
    peer is heard, and hears. Raises InvalidArgument if an endpoint cannot be bound.
    """

    def __init__(
        self,
        context: Context,
        cluster: str,
        node: int,
        incarnation: int,
        listen: str,
        publish: str,
        peers: Mapping[int, PeerAddress],
        disks: Disks,
        election_ms: int = 1000,
        frame_max: int = FRAME_MAX,
        encoded: Encoded | None = None,
        keys: KeyPair | None = None,
    ) -> None:
        self.cluster = cluster
        self.node = node
        self.incarnation = incarnation
        self.counters = LinkCounters()
        self.encoded = encoded or Encoded()
        self.disks = disks
        self.drained = True  # the last `receive` left nothing behind: now a silence is a silence
        self._sockets = Sockets(context, election_ms, frame_max, keys)
        self._peers: dict[int, _Peer] = {}
        self._sources: dict[Any, Callable[[Socket], PeerWord | None]] = {}
        self._polled: list[tuple[Any, int]] = []
        self._pollers: list[zmq.Poller] = []
        self._incarnations: dict[int, int] = {}  # the newest of each peer that was heard of
        self.addresses = {peer: address for peer, address in peers.items() if peer != node}
        self._connected: set[int] = set()
        self._lost: list[int] = []
        self._size = 0  # bytes of the current `receive`
        self._greet: dict[int, bool] = {}  # who is to be told that we are here, and whether to ask the same of it
        self._given_up: dict[int, float] = {}  # libzmq did so: when we try again
        self._told: set[str] = set()  # what was said of those whose words are dropped
        self._door: Doorkeeper | None = None
        try:
            if keys is not None:
                self._door = Doorkeeper(self._sockets.open(zmq.REP, HWM))
                self._watch(self._door.socket, self._hear_door)
            self._router = self._sockets.open(zmq.ROUTER, HWM)
            # A peer that comes back may be faster than the news that it had gone.
            self._router.setsockopt(zmq.ROUTER_HANDOVER, 1)
            self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)  # who has no channel to us cannot be answered: count it
            self._pub = self._sockets.open(zmq.PUB, PUBLISH_HWM)
            places = bind(self._router, listen), bind(self._pub, publish)
            self.address = PeerAddress(*places, keys.public if keys is not None else "")
            self._watch(self._router, self._hear_router)
            for peer, address in peers.items():
                self.add_peer(peer, address)
        except BaseException:
            self.close()  # an open socket would keep the context, and so the process, from ending
            raise

    # -- who is there -------------------------------------------------------------------------------------------------

    def add_peer(self, node: int, address: PeerAddress) -> None:
        """Connect to a node; one that is there already is connected anew. The node itself is left out."""
        if node == self.node:
            return
        self.remove_peer(node)
        self.addresses[node] = address
        if self._door is not None:
            self._door.admit(node, address.key)
        dealer = self._sockets.open(zmq.DEALER, HWM, address.listen, address.key)
        dealer.setsockopt(zmq.ROUTING_ID, b"%d" % self.node)
        dealer.setsockopt(zmq.IMMEDIATE, 1)  # nothing is kept for a peer that is away: it would be out of date
        sub = self._sockets.open(zmq.SUB, PUBLISH_HWM, address.publish, address.key)
        sub.setsockopt(zmq.SUBSCRIBE, b"")
        failures = GIVEN_UP[0] | GIVEN_UP[1]
        monitors = dealer.get_monitor_socket(CONNECTED | DISCONNECTED | failures), sub.get_monitor_socket(failures)
        self._peers[node] = _Peer(dealer, sub, monitors)
        for socket, endpoint in ((sub, address.publish), (dealer, address.listen)):
            try:
                socket.connect(endpoint)
            except zmq.ZMQError as fault:
                self.remove_peer(node)
                raise InvalidArgument(
                    f"cannot connect to node {node} at {endpoint}: {fault.strerror}",
                    'give "tcp://HOST:PORT" or "ipc://PATH"',
                ) from fault
        for source in (sub, dealer):  # by the latter it answers if it does not know our address
            self._watch(source, lambda source: self._accept(self._take(source), node))
        for monitor in monitors:
            self._watch(monitor, lambda source: self._hear_monitor(source, node))

    def remove_peer(self, node: int) -> None:
        """Close the channels to a node, if there are any. What it still says to us alone is heard."""
        self._connected.discard(node)
        self._given_up.pop(node, None)
        self.addresses.pop(node, None)
        if self._door is not None:
            self._door.dismiss(node)
        peer = self._peers.pop(node, None)
        if peer is None:
            return
        for source in (peer.sub, peer.dealer, *peer.monitors):
            if self._sources.pop(source, None) is not None:
                self._polled.remove((source, POLLIN))
                for poller in self._pollers:
                    poller.unregister(source)
        for socket in (peer.dealer, peer.sub):
            socket.disable_monitor()
        for socket in (peer.dealer, peer.sub, *peer.monitors):
            socket.close()

    def connected(self) -> set[int]:
        """The peers whose channel stood at the last `receive`."""
        return set(self._connected)

    def lost(self) -> list[int]:
        """The peers whose channel broke since this was asked last, up to the last `receive`: they have probably gone.

        To be asked after the words of that `receive` were stepped: a peer's last words come before its end.
        """
        lost, self._lost = self._lost, []
        return lost

    # -- saying -------------------------------------------------------------------------------------------------------

    def publish(self, words: Iterable[PeerWord]) -> None:
        """Say these to everyone. A peer that reads too slowly misses them."""
        for word in words:
            self._say(self._pub, self._frames(word))

    def send(self, words: Iterable[tuple[int, Said]]) -> None:
        """Say each to its node alone. What cannot leave at once is dropped, and counted."""
        before: Said | None = None
        frames: list[bytes] = []
        for to, word in words:
            peer = self._peers.get(to)
            if word is not before:  # often the same word for each of several nodes
                before, frames = word, self._frames(word)
            if peer is not None:
                self._say(peer.dealer, frames)
            else:  # who joined while we were away can be answered where it reached us, and may need our vote
                self._say(self._router, [b"%d" % to, *frames])

    def greet(self, nodes: Iterable[int] = ()) -> None:
        """Tell that we are here to those who are new, and ask these `nodes` whether they know us.

        After each `receive`, when `disks` are durable: what we say to know of others has to stay known.
        """
        greet, self._greet = self._greet | dict.fromkeys(nodes, True), {}
        self.send([(node, Presence(self.node, self.disks.known.get(node, 0), ask)) for node, ask in greet.items()])

    def _frames(self, word: Said) -> list[bytes]:
        assert word.sender == self.node, word
        return frames_of(word, self.cluster, self.incarnation, self.disks.disk, self.encoded)

    def _say(self, socket: Socket, frames: list[bytes]) -> None:
        try:
            for frame in frames[:-1]:
                socket.send(frame, NOBLOCK_SNDMORE, copy=len(frame) < ZERO_COPY)
            socket.send(frames[-1], NOBLOCK, copy=len(frames[-1]) < ZERO_COPY)
        except zmq.ZMQError as fault:  # only for the first frame: with it libzmq has taken the place for all
            if fault.errno not in UNSENT:
                raise
            self.counters.unsent += 1
        else:
            self.counters.sent += 1

    # -- hearing ------------------------------------------------------------------------------------------------------

    def register(self, poller: zmq.Poller) -> None:
        """Let `poller` wait for what `receive` reads; peers that come and go later are seen to."""
        self._pollers.append(poller)
        for source in self._sources:
            poller.register(source, POLLIN)

    def receive(self, words_max: int = WORDS_MAX, bytes_max: int = BYTES_MAX) -> list[PeerWord]:
        """What has come, without waiting: about `words_max` words and `bytes_max` bytes, in turn from all peers.

        If more is there, `drained` is False. The sender of each word is checked.
        """
        heard: list[PeerWord] = []
        if self._given_up:
            self._try_again()
        taken = self._size = 0
        while ready := zmq.zmq_poll(self._polled, 0):
            for source, _ in ready:
                word = self._sources[source](source)
                if word is not None:
                    heard.append(word)
            taken += len(ready)
            if taken >= words_max or self._size >= bytes_max:
                self.drained = False
                break
        else:
            self.drained = True
        self.counters.heard += len(heard)
        return heard

    def _hear_router(self, router: Socket) -> PeerWord | None:
        first = router.recv(NOBLOCK, copy=False)
        route, frames = first.bytes, self._rest(router, [])
        # A node whose address we do not know may speak, too: whom to believe is for consensus to say.
        speaker = int(route) if route.isdigit() else 0
        if speaker == self.node:
            self._tell_dropped(f"another node has the id of this one, {speaker}")
        if route != b"%d" % speaker or speaker == self.node or not self._is_key_of(speaker, first):
            self.counters.foreign += 1
            return None
        return self._accept(frames, speaker)

    def _is_key_of(self, speaker: int, first: zmq.Frame) -> bool:
        """Did this frame come over a connection that was let in with the key of `speaker`? Told once if not."""
        if self._door is None:
            return True
        node = int(first.get("User-Id") or 0)  # as the doorkeeper said
        if node != speaker:
            self._tell_dropped(f"who has the key of node {node} speaks as node {speaker}")
        return node == speaker

    def _tell_dropped(self, why: str) -> None:
        """Say so in the log: each reason once, and no more of them than a mistake has."""
        if why not in self._told and len(self._told) < TOLD_MAX:
            self._told.add(why)
            logger.warning("%s: what it says is dropped", why)

    def _hear_door(self, door: Socket) -> None:
        assert self._door is not None
        self._door.answer(self._take(door))

    def _hear_presence(self, presence: Presence) -> None:
        self.disks.hear(presence)
        if presence.answer:
            self._greet.setdefault(presence.sender, False)

    def _hear_monitor(self, monitor: Socket, node: int) -> None:
        event = parse_monitor_message(self._take(monitor))["event"]
        if event == CONNECTED:
            self._connected.add(node)
            self._greet[node] = True
        elif event in GIVEN_UP:
            self._given_up.setdefault(node, time.monotonic() + self._sockets.election_ms / 1000)
        elif event == DISCONNECTED and node in self._connected:
            self._connected.discard(node)
            self._lost.append(node)

    def _take(self, source: Socket) -> list[bytes]:
        return self._rest(source, [source.recv(NOBLOCK)])

    def _rest(self, source: Socket, frames: list[bytes]) -> list[bytes]:
        while source.get(RCVMORE):
            frames.append(source.recv(NOBLOCK))
        self._size += sum(map(len, frames))
        return frames

    def _try_again(self) -> None:
        now_s = time.monotonic()
        for node in [node for node, due_s in self._given_up.items() if now_s >= due_s]:
            self.add_peer(node, self.addresses[node])

    def _accept(self, frames: list[bytes], speaker: int) -> PeerWord | None:
        """The word, if it is whole and comes from `speaker`, whose channel this is."""
        counters = self.counters
        try:
            header = read_header(frames)
            if header.cluster != self.cluster:
                self._tell_dropped(f"node {speaker} is of the cluster {header.cluster!r:.80}, not of {self.cluster!r}")
            elif header.sender != speaker:
                self._tell_dropped(f"at the address of node {speaker} speaks node {header.sender}")
            if header.cluster != self.cluster or header.sender != speaker:
                counters.foreign += 1
                return None
            if self.disks.known.get(speaker) != header.disk and not self._meet(speaker, header.disk):
                self._tell_dropped(f"node {speaker} comes with another data folder than it had")
                counters.replaced += 1
                return None
            newest = self._incarnations.get(speaker, 0)
            if header.incarnation < newest:
                counters.stale += 1
                return None
            word, raws = read_word(header, frames)
        except Foreign:
            self._tell_dropped(f"node {speaker} speaks another version of the protocol")
            counters.foreign += 1
            return None
        except BadFrames:
            counters.corrupt += 1
            return None
        self._incarnations[speaker] = header.incarnation
        if isinstance(word, Presence):
            self._hear_presence(word)
            return None
        if type(word) is Append:
            for entry, raw in zip(word.entries, raws, strict=True):
                self.encoded.keep(entry, raw)
        return word

    def _meet(self, speaker: int, disk: int) -> bool:
        """Is this the disk of that node? Whom we have no channel to decides nothing here, and is not remembered."""
        if speaker not in self._peers and speaker not in self.disks.known:
            return True
        if self.disks.meet(speaker, disk):
            return True
        self._greet.setdefault(speaker, False)  # so that it hears which one we know
        return False

    def _watch(self, source: Socket, hear: Callable[[Socket], PeerWord | None]) -> None:
        self._sources[source] = hear
        self._polled.append((source, POLLIN))
        for poller in self._pollers:
            poller.register(source, POLLIN)

    def close(self) -> None:
        """Close all sockets. What was said leaves within LINGER_MS, or never."""
        for node in list(self._peers):
            self.remove_peer(node)
        for name in ("_router", "_pub"):
            socket = getattr(self, name, None)
            if socket is not None:
                with contextlib.suppress(zmq.ZMQError):
                    socket.close()
        if self._door is not None:
            self._door.socket.close()
