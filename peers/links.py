"""The sockets between nodes: PUB for what is equal for all, one ROUTER in and one DEALER out per peer for the rest.

Words may be dropped, never delayed without end, and nothing here waits: consensus asks again for what it lacks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import zmq
from zmq.utils.monitor import parse_monitor_message

from .encoded import Encoded
from .errors import InvalidArgument
from .frames import BadFrames, Foreign, PeerWord, frames_of, read_header, read_word
from .raft.words import Append

Socket = zmq.Socket[bytes]
Context = zmq.Context[Socket]

PUBLISH_HWM = 1000  # broadcasts waiting for one peer; further ones are dropped, and fetched by the peer
HWM = 256  # the same of what goes to one peer alone: answers, votes, pieces of snapshots
WORDS_MAX = 1024  # of one `receive`: bounds one turn, and so the time to the next heartbeat
BYTES_MAX = 16 << 20
FRAME_MAX = 80 << 20
LINGER_MS = 200
RECONNECT_MS, RECONNECT_MAX_MS = 50, 200  # a node that came back has to be heard in the next election
ZERO_COPY = 64 << 10  # bytes; below it a copy costs less than keeping the original for libzmq

# Plain integers: pyzmq's enums cost 2 us a frame.
NOBLOCK, NOBLOCK_SNDMORE, RCVMORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE), int(zmq.RCVMORE)
POLLIN = int(zmq.POLLIN)
CONNECTED, DISCONNECTED = int(zmq.EVENT_HANDSHAKE_SUCCEEDED), int(zmq.EVENT_DISCONNECTED)


class PeerAddress(NamedTuple):
    """Where a node listens for its peers (`listen`, a ROUTER), and where it publishes (a PUB)."""

    listen: str
    publish: str


@dataclass
class LinkCounters:
    """Words since the start. `unsent`: no channel, or it is full. Received and dropped: what is `foreign` (of another
    cluster, version or node than it may be), `stale` (of a former process of a peer) or `corrupt`."""

    sent: int = 0
    unsent: int = 0
    heard: int = 0
    foreign: int = 0
    stale: int = 0
    corrupt: int = 0


class _Peer(NamedTuple):
    dealer: Socket
    sub: Socket
    monitor: Socket


class PeerLinks:
    """All sockets of one node, used by one thread. See the top of this file.

    `incarnation` rises with each start of the process. `election_ms`: a peer that answers no ping for so long counts as
    lost. `frame_max`: bytes of the largest entry; who sends more is cut off. `peers` may name the node itself, which is
    left out. Raises InvalidArgument if an endpoint cannot be bound.
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
        election_ms: int = 1000,
        frame_max: int = FRAME_MAX,
        encoded: Encoded | None = None,
    ) -> None:
        self.cluster = cluster
        self.node = node
        self.incarnation = incarnation
        self.counters = LinkCounters()
        self.encoded = encoded or Encoded()
        self.drained = True  # the last `receive` left nothing behind: now a silence is a silence
        self._context = context
        self._election_ms = election_ms
        self._frame_max = frame_max
        self._peers: dict[int, _Peer] = {}
        self._sources: dict[Any, Callable[[Socket], PeerWord | None]] = {}
        self._polled: list[tuple[Any, int]] = []
        self._pollers: list[zmq.Poller] = []
        self._incarnations: dict[int, int] = {}  # the newest of each peer that was heard of
        self.addresses = {peer: address for peer, address in peers.items() if peer != node}
        self._connected: set[int] = set()
        self._lost: list[int] = []
        self._size = 0  # bytes of the current `receive`
        try:
            self._router = self._open(zmq.ROUTER, HWM)
            # A peer that comes back may be faster than the news that it had gone.
            self._router.setsockopt(zmq.ROUTER_HANDOVER, 1)
            self._pub = self._open(zmq.PUB, PUBLISH_HWM)
            self.address = PeerAddress(self._bind(self._router, listen), self._bind(self._pub, publish))
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
        dealer = self._open(zmq.DEALER, HWM, address.listen)
        dealer.setsockopt(zmq.ROUTING_ID, b"%d" % self.node)
        dealer.setsockopt(zmq.IMMEDIATE, 1)  # nothing is kept for a peer that is away: it would be out of date
        monitor = dealer.get_monitor_socket(CONNECTED | DISCONNECTED)
        sub = self._open(zmq.SUB, PUBLISH_HWM, address.publish)
        sub.setsockopt(zmq.SUBSCRIBE, b"")
        peer = self._peers[node] = _Peer(dealer, sub, monitor)
        for socket, endpoint in ((sub, address.publish), (dealer, address.listen)):
            try:
                socket.connect(endpoint)
            except zmq.ZMQError as fault:
                self.remove_peer(node)
                raise InvalidArgument(
                    f"cannot connect to node {node} at {endpoint}: {fault.strerror}",
                    'give "tcp://HOST:PORT" or "ipc://PATH"',
                ) from fault
        self._watch(peer.sub, lambda source: self._accept(self._take(source), node))
        self._watch(peer.monitor, lambda source: self._hear_monitor(source, node))

    def remove_peer(self, node: int) -> None:
        """Close the channels to a node, if there are any. What it still says to us alone is heard."""
        self._connected.discard(node)
        peer = self._peers.pop(node, None)
        if peer is None:
            return
        for source in (peer.sub, peer.monitor):
            if self._sources.pop(source, None) is not None:
                self._polled.remove((source, POLLIN))
                for poller in self._pollers:
                    poller.unregister(source)
        peer.dealer.disable_monitor()
        for socket in peer:
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

    def send(self, words: Iterable[tuple[int, PeerWord]]) -> None:
        """Say each to its node alone. What cannot leave at once is dropped, and counted."""
        before: PeerWord | None = None
        frames: list[bytes] = []
        for to, word in words:
            peer = self._peers.get(to)
            if peer is None:
                self.counters.unsent += 1
                continue
            if word is not before:  # often the same word for each of several nodes
                before, frames = word, self._frames(word)
            self._say(peer.dealer, frames)

    def _frames(self, word: PeerWord) -> list[bytes]:
        assert word.sender == self.node, word
        return frames_of(word, self.cluster, self.incarnation, self.encoded)

    def _say(self, socket: Socket, frames: list[bytes]) -> None:
        try:
            for frame in frames[:-1]:
                socket.send(frame, NOBLOCK_SNDMORE, copy=len(frame) < ZERO_COPY)
            socket.send(frames[-1], NOBLOCK, copy=len(frames[-1]) < ZERO_COPY)
        except zmq.Again:  # only for the first frame: with it libzmq has taken the place for all
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
        route, *frames = self._take(router)
        # A node whose address we do not know may speak, too: whom to believe is for consensus to say.
        speaker = int(route) if route.isdigit() else 0
        if route != b"%d" % speaker or speaker == self.node:
            self.counters.foreign += 1
            return None
        return self._accept(frames, speaker)

    def _hear_monitor(self, monitor: Socket, node: int) -> None:
        event = parse_monitor_message(self._take(monitor))["event"]
        if event == CONNECTED:
            self._connected.add(node)
        elif event == DISCONNECTED and node in self._connected:
            self._connected.discard(node)
            self._lost.append(node)

    def _take(self, source: Socket) -> list[bytes]:
        frames = [source.recv(NOBLOCK)]
        while source.get(RCVMORE):
            frames.append(source.recv(NOBLOCK))
        self._size += sum(map(len, frames))
        return frames

    def _accept(self, frames: list[bytes], speaker: int) -> PeerWord | None:
        """The word, if it is whole and comes from `speaker`, whose channel this is."""
        counters = self.counters
        try:
            header = read_header(frames)
            if header.cluster != self.cluster or header.sender != speaker:
                counters.foreign += 1
                return None
            newest = self._incarnations.get(speaker, 0)
            if header.incarnation < newest:
                counters.stale += 1
                return None
            word, raws = read_word(header, frames)
        except Foreign:
            counters.foreign += 1
            return None
        except BadFrames:
            counters.corrupt += 1
            return None
        self._incarnations[speaker] = header.incarnation
        if type(word) is Append:
            for entry, raw in zip(word.entries, raws, strict=True):
                self.encoded.keep(entry, raw)
        return word

    # -- sockets ------------------------------------------------------------------------------------------------------

    def _open(self, kind: int, hwm: int, endpoint: str = "") -> Socket:
        socket = self._context.socket(kind)
        for option, value in (
            (zmq.LINGER, LINGER_MS), (zmq.SNDHWM, hwm), (zmq.RCVHWM, hwm), (zmq.MAXMSGSIZE, self._frame_max),
            (zmq.HANDSHAKE_IVL, self._election_ms), (zmq.IPV6, int("[" in endpoint)),
            (zmq.RECONNECT_IVL, RECONNECT_MS), (zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS),
            # The kernel repeats an unanswered SYN after ever longer pauses: after a partition that would be minutes.
            (zmq.CONNECT_TIMEOUT, self._election_ms),
            *self._signs_of_life(kind),
        ):  # fmt: skip
            socket.setsockopt(option, value)
        return socket

    def _signs_of_life(self, kind: int) -> list[tuple[int, int]]:
        # A connection that a SUB itself gives up while its queue is full aborts the process (libzmq issue 3937): it
        # must neither ping nor be told a TTL. The kernel asks instead, and takes no full queue for a dead host.
        if kind == zmq.SUB:
            return [(zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, 1), (zmq.TCP_KEEPALIVE_INTVL, 1),
                    (zmq.TCP_KEEPALIVE_CNT, 2)]  # fmt: skip
        ttl_ms = 0 if kind == zmq.PUB else self._election_ms
        return [(zmq.HEARTBEAT_IVL, max(self._election_ms // 4, 1)), (zmq.HEARTBEAT_TIMEOUT, self._election_ms),
                (zmq.HEARTBEAT_TTL, ttl_ms)]  # fmt: skip

    def _bind(self, socket: Socket, endpoint: str) -> str:
        try:
            socket.setsockopt(zmq.IPV6, int("[" in endpoint))
            socket.bind(endpoint)
        except zmq.ZMQError as fault:
            raise InvalidArgument(
                f"cannot listen for peers on {endpoint}: {fault.strerror}", "is another daemon there?"
            ) from fault
        return socket.getsockopt_string(zmq.LAST_ENDPOINT)

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
