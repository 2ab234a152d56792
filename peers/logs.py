"""What processes that run for long say to people: a line each on stderr, with the time."""

from __future__ import annotations

import logging
import sys
import time


def log_to_stderr(level: str, who: str = "") -> None:
    """Have all that is logged from `level` on come out at stderr, said by `who`."""
    said_by = f"{who}: ".replace("%", "%%") if who else ""
    line = f"%(asctime)s.%(msecs)03dZ %(levelname)s {said_by}%(message)s"
    formatter = logging.Formatter(line, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logger = logging.getLogger("penstock")
    logger.addHandler(handler)
    logger.setLevel(level.upper())
