"""How long the disk takes for what must be durable: everybody waits for it."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

SLOW_MS: Final = 250  # a quarter of the default election timeout
SAY_S: Final = 60.0  # between two warnings

logger = logging.getLogger("penstock.store")


class Commits:
    """Counts transactions, and says when the disk is slow."""

    def __init__(self) -> None:
        self.count = 0
        self.slow = 0  # that took longer than SLOW_MS
        self.max_ms = 0.0
        self._said_s = -SAY_S

    def end(self, txn: Any) -> None:
        """Commit it: once this returns it is durable."""
        began_s = time.perf_counter()
        txn.commit()
        ended_s = time.perf_counter()
        self.took((ended_s - began_s) * 1000, ended_s)

    def took(self, ms: float, now_s: float) -> None:
        """One took so long."""
        self.count += 1
        if ms > self.max_ms:
            self.max_ms = ms
        if ms > SLOW_MS:
            self.slow += 1
            if now_s - self._said_s >= SAY_S:
                self._said_s = now_s
                logger.warning(
                    "slow disk: a commit took %d ms, and everybody waited for it; %d so far took longer than %d ms",
                    ms, self.slow, SLOW_MS,
                )  # fmt: skip
