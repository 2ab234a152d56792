"""Client sessions: a counted request is done once, and answered alike however often it is asked."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..peers.errors import PenstockError, ProtocolError, to_body

CALLS_MAX = 1_000  # calls of one session whose answers are kept beyond the window
FORGOTTEN = ""  # in place of the queue of a call: its job is forgotten
CANCELLED_MAX = 1_000  # leases of one session, of which it is not yet told what was cancelled
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
    """`last`: the highest sequence used. `answers`: the last `window` of them. `leases`: what it holds.

    `calls`: answers to calls, with the queue, by sequence; they take no place among the others: who has `window`
    requests under way may have any number of calls between them. Those whose job is forgotten go first. `cancelled`:
    what was taken out of its leases, by lease, and has not been told.
    """

    __slots__ = ("answers", "calls", "cancelled", "client", "id", "last", "leases", "secret")

    def __init__(self, id: int, secret: str, client: str, last: int) -> None:
        self.id = id
        self.secret = secret
        self.client = client
        self.last = last
        self.answers: dict[int, Answer] = {}
        self.calls: dict[int, tuple[Answer, str]] = {}
        self.cancelled: dict[int, list[tuple[int, int]]] = {}
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
        if sequence in self.calls:
            return self.calls[sequence][0]
        return refusal(
            ProtocolError(
                f"sequence {sequence} was used long ago, its answer is no longer remembered (the last is {self.last})",
                "keep at most `window` counted requests without a reply",
            )
        )

    def remember(self, sequence: int, answer: Answer) -> None:
        self.last = sequence
        if sequence in self.calls:
            return
        self.answers[sequence] = answer
        if len(self.answers) > WINDOW:
            del self.answers[next(iter(self.answers))]

    def keep_call(self, sequence: int, answer: Answer, queue: str) -> None:
        """Remember the answer to a call beyond the window."""
        self.calls[sequence] = answer, queue
        if len(self.calls) > CALLS_MAX:
            forgotten = (sequence for sequence, (_, name) in self.calls.items() if name == FORGOTTEN)
            del self.calls[next(forgotten, next(iter(self.calls)))]

    def has_job(self, sequence: int) -> bool:
        """Whether this was a call whose job is there."""
        return self.calls.get(sequence, (OK, FORGOTTEN))[1] != FORGOTTEN

    def drop_call(self, queue: str, offset: int) -> None:
        """The job that a call made is forgotten."""
        for sequence, (answer, name) in self.calls.items():
            if name == queue and answer.body["offset"] == offset:
                self.calls[sequence] = answer, FORGOTTEN  # among the others it would push one out
                return

    def note_cancelled(self, lease: int, ranges: list[tuple[int, int]]) -> None:
        """These were cancelled while it held them; it is told when it asks for more time."""
        self.cancelled.setdefault(lease, []).extend(ranges)
        if len(self.cancelled) > CANCELLED_MAX:
            del self.cancelled[next(iter(self.cancelled))]

    def take_cancelled(self, leases: tuple[int, ...]) -> list[tuple[int, int, int]]:
        """What was cancelled of these leases and not told yet: (lease, first, count)."""
        if not self.cancelled:
            return []
        return [(lease, *each) for lease in leases for each in self.cancelled.pop(lease, ())]
