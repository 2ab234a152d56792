"""How long a node may be silent before it is asked if it is there, and before it is left. Pure.

Where there are other nodes to go to, a silent one is left sooner: a frozen primary is replaced in a second or two.
"""

from __future__ import annotations

from enum import Enum

CONNECT_MS = 5_000  # a try that is not connected, or got no answer to its hello, within this time has failed
SILENCE_MS = 5_000  # an answer is overdue, and nothing came for this long: ask if the daemon is there; twice: it is not
CLUSTER_CONNECT_MS = 1_000  # at first; a quarter of the outage later on
CLUSTER_SILENCE_MS = 750  # doubled by each silence in a row: a slow network must not keep us from ever being served
SILENCES_MAX = 3  # doublings


class Next(Enum):
    """What to do about a silence."""

    WAIT = "wait"
    PROBE = "probe"
    LEAVE = "leave"


class Patience:
    """With one node, or with one of several."""

    def __init__(self, lone: bool, now_ms: int) -> None:
        self.lone = lone
        self.check_ms = SILENCE_MS if lone else CLUSTER_SILENCE_MS // 3  # how often to look while something is expected
        self._heard_ms = now_ms
        self._probed_ms: int | None = None
        self._silences = 0  # how many connections were left for it since the last answer

    @property
    def silence_ms(self) -> int:
        """How long a silence is borne before the node is asked if it is there, and as long again after that."""
        return SILENCE_MS if self.lone else CLUSTER_SILENCE_MS << min(self._silences, SILENCES_MAX)

    def connect_ms(self, outage_ms: int) -> int:
        """How long a try to connect may take when nobody has served for so long."""
        return CONNECT_MS if self.lone else min(CONNECT_MS, max(CLUSTER_CONNECT_MS, outage_ms // 4))

    def heard(self, now_ms: int) -> None:
        """Something came."""
        self._heard_ms = now_ms
        self._probed_ms = None

    def answered(self) -> None:
        """It was what we asked for."""
        self._silences = 0

    def judge(self, expected_ms: int, now_ms: int) -> Next:
        """What to do now if something has been expected since `expected_ms`."""
        if now_ms - max(expected_ms, self._heard_ms) <= self.silence_ms:
            return Next.WAIT
        if self._probed_ms is None:
            self._probed_ms = now_ms
            return Next.PROBE
        if now_ms - self._probed_ms <= self.silence_ms:
            return Next.WAIT
        self._silences += 1
        return Next.LEAVE
