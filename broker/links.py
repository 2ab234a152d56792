"""The ROUTER that clients speak to: frames in, frames out, with every limit set."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import zmq

from .node import Counters
from .store import StartError

HWM = 256  # messages waiting in one direction of one connection; then TCP holds the client back
HANDSHAKE_MS = 10_000
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
            (zmq.HANDSHAKE_IVL, HANDSHAKE_MS), (zmq.HEARTBEAT_IVL, HEARTBEAT_MS), (zmq.HEARTBEAT_TIMEOUT, 3 * HEARTBEAT_MS),
            (zmq.ROUTER_MANDATORY, 1), (zmq.BACKLOG, 1024),
        ):  # fmt: skip
            self._socket.setsockopt(option, value)
        self.endpoints = [self._bind(endpoint) for endpoint in endpoints]
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)

    def _bind(self, endpoint: str) -> str:
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as fault:
            raise StartError(
                f"cannot listen on {endpoint}: {fault.strerror}", "is another daemon there? Give another with --listen"
            ) from fault
        return self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def watch(self, fd: int) -> None:
        """Let this descriptor, too, end the waiting of `receive`."""
        self._poller.register(fd, zmq.POLLIN)

    def receive(self, wait_ms: int, heard_max: int, bytes_max: int) -> list[tuple[bytes, list[bytes]]]:
        """What has come, at most `heard_max` messages and about `bytes_max` bytes; waits for the first one."""
        heard: list[tuple[bytes, list[bytes]]] = []
        receive = self._socket.recv_multipart
        if wait_ms:
            self._poller.poll(wait_ms)
        size = 0
        while len(heard) < heard_max and size < bytes_max:
            try:
                route, *frames = receive(zmq.NOBLOCK)
            except zmq.Again:
                break
            heard.append((route, frames))
            for frame in frames:
                size += len(frame)
        return heard

    def send(self, messages: Sequence[tuple[bytes, list[bytes]]]) -> None:
        """Say everything. What cannot be said (the client is gone, or does not read) is dropped and counted: it asks again."""
        send = self._socket.send_multipart
        for route, frames in messages:
            try:
                send([route, *frames], zmq.NOBLOCK)
            except zmq.ZMQError as fault:
                if fault.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                    raise
                self._counters.dropped_replies += 1

    def close(self) -> None:
        with contextlib.suppress(zmq.ZMQError):
            self._socket.close()
