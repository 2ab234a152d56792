"""The system around a daemon: what it allows its process, and systemd, which may wait for it to be ready."""

from __future__ import annotations

import logging
import os
import resource
import socket

logger = logging.getLogger("penstock.daemon")


def raise_file_limit() -> None:
    """As many open files as we may have: each connection is one, and at the limit no client would get in any more.

    The limit that processes begin with is often 1024, for the sake of programs that use select().
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def tell_systemd(state: str) -> None:
    """ "READY=1" or "STOPPING=1", if we were started with Type=notify."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # no file: a name in the abstract
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(state.encode(), address)
    except OSError as fault:
        logger.warning("systemd could not be told %s: %s", state, fault.strerror)
