"""What the two models are asked about jobs; see test_model_property.py, whose machine has these rules, too."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kit.naive import LEASED
from kit.naive_jobs import NaiveJobs
from penstock.peers import messages as m
from penstock.peers.wire import pack_payload

picks = st.integers(0, 1 << 16)
EACH = 10


class JobRules(RuleBasedStateMachine):
    """The machine that has these brings `model`, `naive`, `both`, `session`, `name`, `lease`, `holder` and `sweep`."""

    naive: NaiveJobs
    model: Any
    entries: list[Any]
    both: Any
    session: Any
    name: Any
    lease: Any
    holder: Any
    sweep: Any

    @rule(who=picks, at=picks, place=picks, other=st.booleans(), lines=st.integers(0, 2))
    def tell(self, who: int, at: int, place: int, other: bool, lines: int) -> None:
        lease = self.lease(at, False)
        held = self.naive.held(lease) or [0]
        offset, session = held[place % len(held)], self.holder(lease, who, other and place % 4 == 0)
        if lines:
            some = [f"{len(self.entries)}"] * lines
            payload = pack_payload([line.encode() for line in some])
            command: Any = m.LogLines(lease, offset)
            self.both(session, command, lambda: self.naive.tell(session, lease, offset, None, some), payload)
        else:
            command = m.Progress(lease, offset, 0.5, "half")
            self.both(session, command, lambda: self.naive.tell(session, lease, offset, 0.5, []))

    @rule(who=picks, at=picks, place=picks, count=st.integers(1, 4), output=picks, some=st.integers(1, 2))
    def complete_with(self, who: int, at: int, place: int, count: int, output: int, some: int) -> None:
        self.sweep()
        lease = self.lease(at, False)
        held = self.naive.held(lease) or [0]
        first = held[place % len(held)]
        end = first + 1
        while end in held and end < first + count:
            end += 1
        session, ranges = self.holder(lease, who, False), ((first, end - first),)
        name = self.name(output, output % 8 == 0)
        command = m.Complete(lease, ranges, ((name, some, some * EACH, None),), end - first + some, 0)
        payload = pack_payload([b"%d" % at for at in range(end - first + some)])
        expected = lambda: self.naive.complete_with(session, lease, ranges, (name, some, EACH))  # noqa: E731
        self.both(session, command, expected, payload)

    @rule(who=picks, at=picks, first=picks, count=st.integers(1, 5), verb=st.sampled_from(["cancel", "retry", "retry"]))
    def of_a_range(self, who: int, at: int, first: int, count: int, verb: str) -> None:
        self.sweep()
        name = self.name(at, at % 8 == 0)
        queue = self.naive.queues.get(name)
        first = first % (queue.next + 1) if queue is not None else first
        if verb == "cancel":
            command: Any = m.Cancel(name, first, count)
            answer, wanted = self.both(self.session(who), command, lambda: self.naive.cancel_range(name, first, count))
            assert wanted is None or answer.body["cancelled"] == wanted
        elif not name.endswith(".dead"):
            count += 1
            command = m.Retry(name, first, count)
            answer, wanted = self.both(self.session(who), command, lambda: self.naive.retry_range(name, first, count))
            assert wanted is None or answer.body["count"] == wanted

    @rule(who=picks, at=picks, to=picks, verb=st.sampled_from(["move", "retry", "retry"]))
    def hand_over(self, who: int, at: int, to: int, verb: str) -> None:
        self.sweep()
        name, other = self.name(at, at % 8 == 0), self.name(to, to % 8 == 0)
        if verb == "move":
            answer, wanted = self.both(self.session(who), m.Move(name, other, 1), lambda: self.naive.move(name, other))
            assert wanted is None or answer.body["moved"] == wanted
        else:
            name = name.removesuffix(".dead")
            answer, wanted = self.both(self.session(who), m.RetryDead(name, 1), lambda: self.naive.retry_dead(name))
            assert wanted is None or answer.body["count"] == wanted

    @rule(who=picks, at=picks)
    def call(self, who: int, at: int) -> None:
        self.sweep()
        name = self.name(at, at % 8 == 0)
        append = m.Append(name, 1, EACH, True, None, None)
        answer, first = self.both(
            self.session(who), m.Call(tuple(append)), lambda: self.naive.call(name, EACH), pack_payload([b"0"])
        )
        assert first is None or answer.body["offset"] == first

    @rule(who=picks, at=picks, offset=picks, ended=st.sampled_from([True, True, True, False]))
    def forget_job(self, who: int, at: int, offset: int, ended: bool) -> None:
        name = self.name(at, at % 8 == 0)
        queue = self.naive.queues.get(name)
        if queue is not None:
            known = sorted({outcome[1] for outcome in queue.outcomes})
            offset = known[offset % len(known)] if known and ended else offset % (queue.next + 2)
        self.both(self.session(who), m.ForgetJob(name, offset), lambda: self.naive.forget_job(name, offset))

    @invariant()
    def what_was_told_of_jobs_in_hand_is_there(self) -> None:
        for (name, offset), (progress, lines) in self.naive.told.items():
            queue = self.naive.queues[name]
            if queue.groups[""][offset].state == LEASED:
                note = self.model.state.queues[name].notes.at(offset)
                assert note is not None
                assert list(note.lines) == lines
                assert (note.progress is None) == (not progress)
