"""Ports of this machine that stay ours, whether or not anybody listens there at the moment."""

from __future__ import annotations

import socket


class HeldPorts:
    """Loopback addresses that nobody else is given, until `close`.

    Each is bound by a socket here that never listens. Sockets that allow for others at their address (SO_REUSEADDR, as
    zmq sets it) may bind it as well, as long as only one of them listens: so a daemon of ours can, and again after it
    was down. The system gives such a port to nobody who asks for any, and to no outgoing connection.
    """

    def __init__(self) -> None:
        self._holders: list[socket.socket] = []

    def endpoint(self) -> str:
        """One more of them."""
        holder = socket.socket()
        self._holders.append(holder)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{holder.getsockname()[1]}"

    def close(self) -> None:
        """Let all of them go."""
        while self._holders:
            self._holders.pop().close()
