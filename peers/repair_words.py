"""What nodes say to each other about an entry that the disk of one of them has damaged."""

from __future__ import annotations

from typing import NamedTuple


class AskEntry(NamedTuple):
    """The sender's copy of committed entry `index` is damaged: who has a sound one?"""

    term: int
    sender: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls


class GivenEntry(NamedTuple):
    """Committed entry `index`, as it lies on the sender's disk: `raw` carries its own checksum."""

    term: int
    sender: int
    index: int  # type: ignore[assignment]
    raw: bytes
