"""Least-squares lines through the ends of series, read beyond their last step: all of a batch in one expression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Lines:
    """Sums over the ends of `values` (assets x steps), from which each line costs a handful of operations.

    With k counting steps back from the last one, the line through the last w values needs two sums only: those of y
    and of k * y over k < w. Both are kept for every w. Values are taken relative to the last one of their series, so
    that little is cancelled when they are large against their changes.

    Source: closed form of simple linear regression, Draper & Smith, Applied Regression Analysis, ch. 1.
    """

    def __init__(self, values: Floats) -> None:
        assets, steps = values.shape
        self._last = values[:, -1].copy()
        back = values[:, ::-1] - self._last[:, None]
        self._sums = np.zeros((assets, steps + 1))
        self._moments = np.zeros((assets, steps + 1))
        np.cumsum(back, axis=1, out=self._sums[:, 1:])
        np.cumsum(back * np.arange(steps), axis=1, out=self._moments[:, 1:])

    def read(self, assets: Ints, windows: Ints, horizons: Ints) -> Floats:
        """Lines through the last `windows` steps (>= 2) of `assets`, `horizons` steps after the last: all (n,)."""
        width = windows.astype(np.float64)
        sums = self._sums[assets, windows]
        middle = (width - 1.0) / 2.0
        slope = (middle * sums - self._moments[assets, windows]) * 12.0 / (width * (width * width - 1.0))
        read: Floats = self._last[assets] + sums / width + slope * (middle + horizons)
        return read
