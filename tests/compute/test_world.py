"""The supervisor's hold on a world, when the world is not what it should be."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import zmq

from penstock.compute.frames import Frame, Kind
from penstock.compute.settings import WorldSettings
from penstock.compute.world import World


def test_what_is_sent_to_a_rank_that_has_died_holds_nobody_up() -> None:
    context: zmq.Context[Any] = zmq.Context()
    with tempfile.TemporaryDirectory() as folder:
        endpoint = f"ipc://{Path(folder, 'runner')}"
        world = World(["sleep", "60"], WorldSettings(endpoint, folder, 1, "q", "m", {}, [], (), 2**20), context, {})
        rank = context.socket(zmq.PAIR)
        rank.linger = 0
        rank.connect(endpoint)
        rank.send(b"here")
        assert world.socket.poll(10_000)
        rank.close()
        for _ in range(2_000):  # more than a socket takes by itself
            world.send(Frame(Kind.STOP))
        world.kill()
        world.close()
    context.term()
