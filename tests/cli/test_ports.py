"""Ports that stay ours while nobody listens there."""

import socket

import pytest
import zmq

from penstock.cli.ports import HeldPorts


def listen(endpoint: str) -> None:
    """As a daemon does, and end again."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        router.bind(endpoint)
        with pytest.raises(zmq.ZMQError, match="Address already in use"), context.socket(zmq.ROUTER) as other:
            other.bind(endpoint)


def test_a_daemon_can_listen_at_a_held_port_again_and_again_and_nobody_else_gets_it() -> None:
    ports = HeldPorts()
    endpoint = ports.endpoint()
    port = int(endpoint.rpartition(":")[2])
    for _ in range(3):
        listen(endpoint)
        with socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
            other.bind(("127.0.0.1", port))
        with socket.socket() as other, pytest.raises(ConnectionRefusedError):
            other.connect(("127.0.0.1", port))
    ports.close()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what listened a moment ago is not quite gone
        other.bind(("127.0.0.1", port))


def test_held_ports_are_different_ones() -> None:
    ports = HeldPorts()
    assert len({ports.endpoint() for _ in range(100)}) == 100
    ports.close()
