"""The ROUTER that clients speak to: frames in, frames out, with every limit set."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Sequence

import zmq

from .desk import Counters
from .store import StartError

BIND_HINTS: dict[int | None, str] = {
    errno.EADDRINUSE: "is another daemon there?",
    errno.ENOENT: "make the folder of that file first.",
    errno.EACCES: "this user may not listen there.",
}
HWM = 256  # messages waiting in one direction of one connection; then TCP holds the client back
HANDSHAKE_MS = 10_000
# Plain integers: pyzmq's enums cost 2 us a frame, and this is the hottest loop there is.
NOBLOCK, NOBLOCK_SNDMORE, RCVMORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE), int(zmq.RCVMORE)
EVENTS, POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)
HEARTBEAT_MS = 10_000


class Links:
    """One socket, used by one thread."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoints: Sequence[str], frame_max: int, counters: Counters
    ) -> None:
        self._socket = context.socket(zmq.ROUTER)
        self._counters = counters
        for option, value in (
            (zmq.LINGER, 1000), (zmq.SNDHWM, HWM), (zmq.RCVHWM, HWM), (zmq.MAXMSGSIZE, frame_max),
            (zmq.HANDSHAKE_IVL, HANDSHAKE_MS), (zmq.HEARTBEAT_IVL, HEARTBEAT_MS),
            (zmq.HEARTBEAT_TIMEOUT, 3 * HEARTBEAT_MS), (zmq.ROUTER_MANDATORY, 1), (zmq.BACKLOG, 1024),
        ):  # fmt: skip
            self._socket.setsockopt(option, value)
        self.endpoints = [self._bind(endpoint) for endpoint in endpoints]
        self.rung = False  # the descriptor of `watch` was readable
        self._fd = -1
        self._poller, self._quiet = zmq.Poller(), zmq.Poller()  # quiet: without the clients
        self._poller.register(self._socket, zmq.POLLIN)

    def _bind(self, endpoint: str) -> str:
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as fault:
            self._socket.close(0)  # an open socket would keep the context, and so the process, from ending
            hint = f"{BIND_HINTS.get(fault.errno, 'is it an endpoint of this machine?')} Give another with --listen"
            raise StartError(f"cannot listen on {endpoint}: {fault.strerror}", hint) from fault
        return self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def watch(self, fd: int) -> None:
        """Let this descriptor, too, end the waiting of `receive`."""
        self._fd = fd
        self.share(lambda poller: poller.register(fd, zmq.POLLIN))

    def share(self, register: Callable[[zmq.Poller], None]) -> None:
        """Let others, too, end the waiting of `receive`."""
        register(self._poller)
        register(self._quiet)

    def receive(self, wait_ms: Callable[[], int], heard_max: int, bytes_max: int) -> list[tuple[bytes, list[bytes]]]:
        """What has come, at most `heard_max` messages and about `bytes_max` bytes; waits for the first one.

        With `heard_max` 0 clients are not heard, and do not end the waiting. `wait_ms` is asked only if nothing is
        there: a busy daemon need not know when something falls due.
        """
        heard: list[tuple[bytes, list[bytes]]] = []
        receive, get = self._socket.recv, self._socket.get
        self.rung = False
        if not heard_max or not get(EVENTS) & POLLIN:  # type: ignore[operator]  # these options are integers
            poller = self._poller if heard_max else self._quiet
            self.rung = any(source == self._fd for source, _ in poller.poll(wait_ms()))
        size = 0
        while len(heard) < heard_max and size < bytes_max:
            try:
                route = receive(NOBLOCK)
            except zmq.Again:
                break
            frames: list[bytes] = []
            more: object = True  # a route never comes alone, and to ask zmq costs more than to receive
            while more:
                frame = receive(NOBLOCK)
                more = get(RCVMORE)
                size += len(frame)
                frames.append(frame)
            heard.append((route, frames))
            if len(heard) == 1 and not get(EVENTS) & POLLIN:  # type: ignore[operator]  # these options are integers
                break  # most often it is the only one, and to be refused the next one costs more than to ask
        return heard

    def send(self, messages: Sequence[tuple[bytes, list[bytes]]]) -> list[bytes]:
        """Say everything. Returns the routes on which it could not be said: the client is gone, or does not read."""
        lost: list[bytes] = []
        send = self._socket.send
        for route, frames in messages:
            try:
                send(route, NOBLOCK_SNDMORE)
                for frame in frames[:-1]:
                    send(frame, NOBLOCK_SNDMORE)
                send(frames[-1], NOBLOCK)
            except zmq.ZMQError as fault:
                if fault.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                    raise
                self._counters.dropped_replies += 1
                lost.append(route)
        return lost

    def close(self) -> None:
        with contextlib.suppress(zmq.ZMQError):
            self._socket.close()
