"""What running jobs tell, on its way to the daemon: of each job one request at a time, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..client import AckReceipt, Message
from .words import Words


class _Sent(NamedTuple):
    message: Message  # kept, so that its id stays its own
    receipts: list[AckReceipt]

    @property
    def answered(self) -> bool:
        # Also by a refusal: a job that is not ours any more has nothing to tell, and its end will say so.
        return all(receipt.done() for receipt in self.receipts)


class Reports:
    """Words that come while earlier ones of their job are under way, or while no daemon is there, are put together and
    follow them: so a daemon that is away costs a few kilobytes for each job, and never the job."""

    def __init__(self) -> None:
        self._sent: dict[int, _Sent] = {}
        self._waiting: dict[int, tuple[Message, Words]] = {}

    @property
    def waiting(self) -> bool:
        """Are there words that wait for an answer to earlier ones?"""
        return bool(self._waiting)

    def tell(self, message: Message, words: Words) -> None:
        sent = self._sent.get(id(message))
        if sent is None or sent.answered:
            self._send(message, words)
            return
        _, later = self._waiting.setdefault(id(message), (message, Words()))
        later.add(words.progress, words.said, words.left_out)

    def pump(self) -> None:
        """Send what has waited long enough."""
        for key in [key for key, sent in self._sent.items() if sent.answered]:
            del self._sent[key]
            if key in self._waiting:
                self._send(*self._waiting.pop(key))

    def finish(self, messages: Sequence[Message]) -> None:
        """These jobs are about to end: what they told leaves now."""
        if self._waiting:
            for message in messages:
                if id(message) in self._waiting:
                    self._send(*self._waiting.pop(id(message)))

    def _send(self, message: Message, words: Words) -> None:
        receipts = []
        if words.progress is not None:
            receipts.append(message.progress(*words.progress))
        if words.said:
            receipts.append(message.log(*words.lines))
        self._sent[id(message)] = _Sent(message, receipts)
