"""Client sessions: a counted request is done once, and answered alike however often it is asked."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..peers.errors import PenstockError, ProtocolError, to_body

WINDOW = 128  # counted requests a client may have without a reply; a part of the model, so no setting


class Answer(NamedTuple):
    """What a command came to: status "ok" with a body, or an error code with the body of the error."""

    status: str
    body: dict[str, Any]


OK = Answer("ok", {})


def refusal(error: PenstockError) -> Answer:
    """The answer that carries an error."""
    return Answer(error.code, to_body(error))


class Session:
    """`last`: the highest sequence used. `answers`: those to the last `window` of them. `leases`: what it holds."""

    __slots__ = ("answers", "client", "id", "last", "leases", "secret")

    def __init__(self, id: int, secret: str, client: str, last: int) -> None:
        self.id = id
        self.secret = secret
        self.client = client
        self.last = last
        self.answers: dict[int, Answer] = {}
        self.leases: dict[int, int] = {}  # by the sequence of the pull: the lease it was given

    @property
    def token(self) -> str:
        """What the client is told to resume with; the secret part keeps others from guessing it."""
        return f"{self.id:x}-{self.secret}"

    def recall(self, sequence: int) -> Answer | None:
        """None: the sequence is the next one. Otherwise the answer given before, or the refusal of a gap."""
        if sequence == self.last + 1:
            return None
        if sequence > self.last:
            return refusal(
                ProtocolError(
                    f"sequence {sequence} leaves a gap: the next one of this session is {self.last + 1}",
                    "number counted requests one by one; after a new connection send what has no reply again, in order",
                )
            )
        known = self.answers.get(sequence)
        if known is not None:
            return known
        return refusal(
            ProtocolError(
                f"sequence {sequence} was used long ago, its answer is no longer remembered (the last is {self.last})",
                "keep at most `window` counted requests without a reply",
            )
        )

    def remember(self, sequence: int, answer: Answer) -> None:
        self.last = sequence
        self.answers[sequence] = answer
        self.answers.pop(sequence - WINDOW, None)
