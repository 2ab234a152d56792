"""The place of a node in the world."""

from __future__ import annotations

from typing import Any

from .clients import Channel
from .disk import Disk
from .machine import Config, Machine


class Seat:
    """The place of a node: its configuration, its disk, and its life, if it has one just now."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.node = config.node
        self.disk = Disk()
        self.machine: Machine | None = None
        self.is_dead = False  # its disk is not what it was: it never comes back
        self.life = 0
        self.offset_ms = 0  # its clock against the world's
        self.paused_until_ms = 0
        self.writing = False
        self.called = False  # a turn is on the calendar for this moment
        self.alarm = 0  # counts alarms: an older one that rings is void
        self.alarm_ms = -1
        self.slow_ms = 0  # a write takes up to so long
        self.channels: dict[bytes, Channel] = {}
        self.probed, self.probes = (0, 0), 0  # life and term in which it was probed, how often
        self.term = self.commit = self.applied = 0  # of this life, for the checks
        self.told_applied = 0  # to who reads locally, of this life
        self.presides = self.was_primary = self.presides_ms = 0  # term and moment of its election
        self.office = self.office_ms = 0
        self.left: dict[Any, int] = {}  # by lease and its end: the time it had left when the office was taken
        self.digested = -1  # of how much applied the model was looked at last
        self.fetches: dict[tuple[int, int], tuple[int, int]] = {}  # when it began to ask for this, how often
        self.promised = (0, 0)  # the latest term in which it answered an append, and how far
        self.members: Any = None  # its own view, and since when
        self.members_ms = 0
        self.now_ms = 0  # its own, of its latest turn
        self.heard: dict[int, int] = {}  # when it last heard of others
        self.matches: dict[int, int] = {}

    @property
    def primary(self) -> Machine | None:
        return self.machine if self.machine is not None and self.machine.raft.is_primary else None
