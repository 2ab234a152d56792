"""What ranks and helpers print, line by line: several processes share the pipe to the pool."""

from __future__ import annotations

import io
import sys
from contextlib import suppress


def print_whole_lines() -> None:
    """Have each line that is printed leave at once, and in one piece: unbuffered, the text and the end of its line
    leave one after the other, and a line of another process comes between them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=False)


def print_the_rest() -> None:
    """What a job has printed without the end of a line: it may be the last thing that this process prints."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # a task may have closed it, or put another thing there
            stream.flush()
