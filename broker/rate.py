"""How fast messages are given: an allowance that fills steadily, up to a tenth of a second's worth or one message."""

from __future__ import annotations

BURST_US = 100_000
US = 1_000


class Rate:
    """`next_us`: when the allowance would be full again, in microseconds of the log's time (GCRA)."""

    __slots__ = ("next_us",)

    def __init__(self) -> None:
        self.next_us = 0

    def allowance(self, rate: tuple[int, int], now_ms: int) -> int:
        """How many messages may be given now. `rate`: (messages, period_ms)."""
        messages, period_us = rate[0], rate[1] * US
        burst_us = max(BURST_US, -(-period_us // messages))
        spare_us = min(burst_us, now_ms * US + burst_us - self.next_us)
        return max(0, spare_us * messages // period_us)

    def take(self, rate: tuple[int, int], now_ms: int, count: int) -> None:
        """So many were given."""
        messages, period_us = rate[0], rate[1] * US
        self.next_us = max(self.next_us, now_ms * US) + -(-count * period_us // messages)

    def next_ms(self, rate: tuple[int, int]) -> int:
        """When one more may be given."""
        messages, period_us = rate[0], rate[1] * US
        one_us = -(-period_us // messages)
        return -(-(self.next_us - max(BURST_US, one_us) + one_us) // US)
