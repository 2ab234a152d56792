"""Ids of jobs, QUEUE/OFFSET, and of arrays of them, QUEUE/FIRST-LAST."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..peers.errors import InvalidArgument

Span = tuple[int, int]  # offset of the first, how many
OFFSET_END = 2**63

_PART = re.compile(r"(\d{1,19})(?:-(\d{1,19}))?")


def parse_id(text: str) -> tuple[str, int]:
    """QUEUE/OFFSET. Raises InvalidArgument."""
    queue, _, offset = text.rpartition("/") if isinstance(text, str) else ("", "", "")
    if not queue or not offset.isdecimal() or not offset.isascii():
        hint = 'a job id looks like "forecast/42"'
        if queue and _PART.match(offset):
            hint += f"; for the array {text} take job_array()"
        raise InvalidArgument(f"{text!r} is no job id", hint)
    return queue, int(offset)


def parse_array_id(text: str) -> tuple[str, list[Span]]:
    """QUEUE/FIRST-LAST, or several such parts and single offsets after one queue: "work/0-499,510,600-699".

    Raises InvalidArgument.
    """
    queue, _, parts = text.rpartition("/") if isinstance(text, str) else ("", "", "")
    spans: list[Span] = []
    for part in parts.split(","):
        match = _PART.fullmatch(part)
        first, last = (0, -1) if match is None else (int(match[1]), int(match[2] or match[1]))
        if not queue or last < first or last >= OFFSET_END:
            raise InvalidArgument(f"{text!r} is no id of jobs", 'one looks like "forecast/42" or "forecast/0-499"')
        spans.append((first, last - first + 1))
    return queue, spans


def array_id(queue: str, spans: Iterable[Span]) -> str:
    """The id of these jobs of a queue; "" if there are none."""
    parts = [str(first) if count == 1 else f"{first}-{first + count - 1}" for first, count in spans]
    return f"{queue}/{','.join(parts)}" if parts else ""


def spans_of(offsets: Iterable[int]) -> list[Span]:
    """Offsets as spans, in their order."""
    spans: list[Span] = []
    for offset in offsets:
        if spans and spans[-1][0] + spans[-1][1] == offset:
            spans[-1] = (spans[-1][0], spans[-1][1] + 1)
        else:
            spans.append((offset, 1))
    return spans
