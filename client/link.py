"""One DEALER socket to one endpoint, for the length of one connection: zmq never reconnects it by itself.

What zmq queued for a lost connection would arrive before the hello of the next one, so each connection gets a fresh
socket.
"""

from __future__ import annotations

import itertools
import os
import select
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
REASONS: dict[int, str] = {
    zmq.EVENT_DISCONNECTED: "the connection was lost",
    zmq.EVENT_CLOSED: "nobody listens there",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "the handshake failed",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "the other side speaks no ZeroMQ",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the handshake was refused",
}
OPTIONS = {
    zmq.LINGER: 0,
    zmq.SNDHWM: 0,  # the session's window bounds what is under way
    zmq.RCVHWM: 0,
    zmq.IMMEDIATE: 1,  # nothing is queued for a connection that does not stand
    zmq.RECONNECT_IVL: -1,
    zmq.CONNECT_TIMEOUT: 5_000,
    zmq.HANDSHAKE_IVL: 5_000,
    zmq.HEARTBEAT_IVL: 5_000,
    zmq.HEARTBEAT_TIMEOUT: 15_000,
    zmq.HEARTBEAT_TTL: 15_000,
    zmq.MAXMSGSIZE: 2**30,
}
# Plain integers: or-ing zmq's enumerations costs more than the call they are for.
NOBLOCK, SEND_MORE, POLL_IN = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE), int(zmq.POLLIN)
HAPPENED, RECEIVE_MORE = int(zmq.EVENTS), int(zmq.RCVMORE)
COPY_MAX = 2**18  # larger frames are handed to zmq without a copy, which costs a detour through pyzmq's collector

_numbers = itertools.count()


class Link:
    """A socket and its monitor. Not thread-safe: whoever holds the connection's lock may touch it."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        """Begin to connect. Raises zmq.ZMQError for an endpoint that cannot be."""
        self.endpoint = endpoint
        self._socket = context.socket(zmq.DEALER)
        self._monitor = context.socket(zmq.PAIR)
        try:
            for option, value in OPTIONS.items():
                self._socket.set(option, value)
            address = f"inproc://penstock-monitor-{os.getpid()}-{next(_numbers)}"
            self._socket.monitor(address, EVENTS)
            self._monitor.set(zmq.LINGER, 0)
            self._monitor.connect(address)
            self._socket.connect(endpoint)
        except BaseException:
            self.close()
            raise
        self.fds: tuple[int, int] = (self._get(self._socket, zmq.FD), self._get(self._monitor, zmq.FD))

    def send(self, frames: list[bytes]) -> None:
        """Hand one message to zmq. Raises zmq.Again if the connection is gone."""
        send = self._socket.send
        last = len(frames) - 1
        for frame in frames[:last]:
            send(frame, SEND_MORE)
        send(frames[last], NOBLOCK, len(frames[last]) <= COPY_MAX)

    def receive(self) -> list[bytes] | None:
        """The next message that has come. None: there is no more, and zmq's descriptor will wake whoever polls it."""
        get, receive = self._socket.get, self._socket.recv
        if not get(HAPPENED) & POLL_IN:  # type: ignore[operator]  # these options are integers
            return None
        frames = [receive(NOBLOCK)]
        while get(RECEIVE_MORE):
            frames.append(receive(NOBLOCK))
        return frames

    def event(self) -> str | None:
        """Call it once for each new link: zmq wakes a reader only after it has found nothing. The next thing that
        happened to the connection: "" for connected, else why it is lost. None: nothing more."""
        monitor = self._monitor
        if not self._get(monitor, zmq.EVENTS) & POLL_IN:
            return None
        event: Any = parse_monitor_message(monitor.recv_multipart(NOBLOCK))
        return REASONS.get(int(event["event"]), "")

    @staticmethod
    def _get(socket: zmq.Socket[bytes], option: int) -> int:
        return socket.get(option)  # type: ignore[return-value]  # these options are integers

    def watch(self, poll: select.poll) -> None:
        """Have `poll` wake up when `receive` or `event` may have something."""
        for fd in self.fds:
            poll.register(fd, select.POLLIN)

    def close(self) -> None:
        """Close at once; what is queued in zmq is dropped."""
        if not self._socket.closed:
            self._socket.disable_monitor()
        self._socket.close(0)
        self._monitor.close(0)
