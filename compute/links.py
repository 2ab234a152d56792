"""How ranks reach each other: bytes by MPI, and a doorbell by ZeroMQ, since nobody can sleep in an MPI receive.

A rank that blocks in MPI burns a core. So who sends also rings, and who has nothing to do sleeps at the bell.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

from .frames import Frame, decode

if TYPE_CHECKING:
    from mpi4py import MPI

TAG = 1
SAFETY_MS = 250  # a bell that was not heard costs no more than this
SENDING_MS = 1  # a large message moves only while both sides call MPI
HURRY_S = 0.02  # so the sender does not sleep at all at first; the receiver may be in a collective job for long
HANDSHAKE_S = 30.0


class Links:
    """Frames between rank 0 and each other rank."""

    def __init__(self, mpi: Any, folder: str) -> None:
        self._mpi = mpi
        self._comm: MPI.Intracomm = mpi.COMM_WORLD.Dup()  # the world itself is left to collective jobs
        self.rank: int = self._comm.Get_rank()
        self.size: int = self._comm.Get_size()
        self._sending: deque[tuple[Any, bytes]] = deque()  # MPI reads the bytes until the request is done
        self._hurry_until_s = 0.0
        self._owed = 0  # rings heard less frames received: above 0, a frame is on its way that MPI has not shown yet
        self._status = mpi.Status()
        self._context = zmq.Context()
        hosts = self._comm.allgather(socket.gethostname())
        self.hosts = sorted(set(hosts))
        if self.rank == 0:
            self._bell, self._ear = self._bind(folder)
        else:
            self._bell, self._ear = self._connect()

    @property
    def ear(self) -> zmq.Socket[bytes]:
        """Readable when another rank has sent something."""
        return self._ear

    def send(self, rank: int, frame: Frame) -> None:
        """To rank 0 from another rank, or from rank 0 to another. Never waits."""
        data = frame.encode()
        self._hurry_until_s = time.monotonic() + HURRY_S
        self._sending.append((self._comm.Isend([data, self._mpi.BYTE], dest=rank, tag=TAG), data))
        self._bell.send(_topic(rank), zmq.DONTWAIT)

    def receive(self) -> list[Frame]:
        """What has arrived. Looks twice after the last: the first look may only move a message forward."""
        frames: list[Frame] = []
        looks = 0
        while looks < 2:
            if self._comm.Iprobe(tag=TAG, status=self._status):
                data = bytearray(self._status.Get_count(self._mpi.BYTE))
                self._comm.Recv([data, self._mpi.BYTE], source=self._status.Get_source(), tag=TAG)
                frames.append(decode(data))
                self._owed -= 1
                looks = 0
            else:
                looks += 1
        while self._sending and self._sending[0][0].Test():
            self._sending.popleft()
        return frames

    def hush(self) -> None:
        """The bell has been heard."""
        try:
            while True:
                self._ear.recv(zmq.DONTWAIT)
                self._owed += 1
        except zmq.Again:
            pass

    def wait_ms(self) -> int:
        """How long this rank may sleep at the bell."""
        if self._owed > 0:
            return 0
        if self._sending:
            return SENDING_MS if time.monotonic() > self._hurry_until_s else 0
        return SAFETY_MS

    def finish_sending(self) -> None:
        """Wait until all that was sent has left: before a collective job, in which this rank serves nobody."""
        for request, _ in self._sending:
            request.Wait()
        self._sending.clear()

    def gather(self, value: Any) -> list[Any] | None:
        return self._comm.gather(value, root=0)

    def close(self) -> None:
        self.finish_sending()
        for each in (self._bell, self._ear):
            each.close(linger=0)
        self._context.term()

    def _bind(self, folder: str) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
        """Rank 0 rings by topic, so that only the one who is meant wakes up, and is rung by all."""
        bell, ear = self._socket(zmq.XPUB), self._socket(zmq.PULL)
        endpoints = []
        for name, each in (("bell", bell), ("ear", ear)):
            if len(self.hosts) == 1:
                each.bind(f"ipc://{Path(folder, name)}")
                endpoints.append(each.getsockopt_string(zmq.LAST_ENDPOINT))
            else:
                port = each.bind_to_random_port("tcp://*")
                endpoints.append(f"tcp://{socket.gethostname()}:{port}")
        self._comm.bcast(endpoints, root=0)
        deadline = time.monotonic() + HANDSHAKE_S
        for _ in range(self.size - 1):  # a subscription that is still on its way would miss its first ring
            if not bell.poll(max(0, int((deadline - time.monotonic()) * 1000))):
                raise RuntimeError(f"not all ranks reached rank 0 at {endpoints[0]} within {HANDSHAKE_S:g} s")
            bell.recv()
        return bell, ear

    def _connect(self) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
        bell_of_0, ear_of_0 = self._comm.bcast(None, root=0)
        bell, ear = self._socket(zmq.PUSH), self._socket(zmq.SUB)
        ear.subscribe(_topic(self.rank))
        ear.connect(bell_of_0)
        bell.connect(ear_of_0)
        return bell, ear

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        made = self._context.socket(kind)
        made.linger = 0
        made.sndhwm = made.rcvhwm = 100_000
        made.maxmsgsize = 64
        return made


def _topic(rank: int) -> bytes:
    return rank.to_bytes(4, "big")
