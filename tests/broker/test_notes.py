"""What is noted of jobs, and outcomes that are forgotten one by one, against a dict with one item per job."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock.broker import checkpoint, notes
from penstock.broker.extents import Outcome
from penstock.broker.model import Model
from penstock.broker.notes import Failure, Notes
from penstock.broker.outcomes import Outcomes
from penstock.testing.memory import MemoryDisk

END = 12
offsets = st.integers(0, END - 1)
steps = st.lists(
    st.tuples(st.sampled_from(["fail", "fail", "progress", "log", "drop", "save"]), offsets, st.integers(1, 6)),
    max_size=40,
)


def failure(at_ms: int) -> Failure:
    return Failure(at_ms, at_ms - 5, 1, notes.NACKED, "ana", f"it was {at_ms}")


def save(disk: MemoryDisk, queue_id: int, kept: Notes) -> None:
    rows, gone = kept.take_recent()
    made = checkpoint.take(Model(disk), checkpoint.Consensus(0, 0, []))
    disk.save(made._replace(notes=[(queue_id, rows, gone)]))


@given(steps)
def test_notes_are_kept_for_each_job_wherever_they_lie(script: list[tuple[str, int, int]]) -> None:
    disk = MemoryDisk()
    kept, plain = Notes(7, disk), {offset: _nothing() for offset in range(END)}
    for number, (verb, first, count) in enumerate(script):
        end = min(END, first + count)
        if verb == "fail":
            kept.change(first, end, notes.failed(failure(number), b"e%d" % number))
            for offset in range(first, end):
                plain[offset]["failures"] = [*plain[offset]["failures"], failure(number)][-notes.FAILURES_MAX :]
                plain[offset]["error"] = b"e%d" % number
        elif verb == "progress":
            kept.change(first, first + 1, notes.progressed((0.5, "half", number)))
            plain[first]["progress"] = (0.5, "half", number)
        elif verb == "log":
            kept.change(first, first + 1, notes.logged([str(number)] * count))
            plain[first]["lines"] += [str(number)] * count
        elif verb == "drop":
            kept.drop(first, end)
            assert not kept.sweep()
            plain |= {offset: _nothing() for offset in range(first, end)}
        elif verb == "save":
            save(disk, 7, kept)
            again = Notes(7, disk)
            again.restore(kept.pack())
            kept = again
        for offset in range(END):
            assert _shown(kept, offset) == plain[offset], (verb, offset)
    assert kept.rows == len({note.first for offset in range(END) if (note := kept.at(offset)) is not None})
    save(disk, 7, kept)
    assert len(disk.notes) == kept.rows, "nothing is left over on disk"


def _nothing() -> dict[str, Any]:
    return {"failures": [], "error": b"", "progress": None, "lines": []}


def _shown(kept: Notes, offset: int) -> dict[str, Any]:
    note = kept.at(offset)
    if note is None:
        return _nothing()
    return {
        "failures": list(note.failures), "error": note.error, "progress": note.progress, "lines": list(note.lines),
    }  # fmt: skip


def test_a_log_keeps_its_latest_lines_and_counts_the_others() -> None:
    kept = Notes(1, MemoryDisk())
    for number in range(1_200):
        kept.change(0, 1, notes.logged([f"line {number}"]))
    note = kept.at(0)
    assert note is not None
    assert (len(note.lines), note.lines[0], note.dropped) == (1_000, "line 200", 200)
    kept.change(0, 1, notes.logged(["x" * 60_000]))
    note = kept.at(0)
    assert note is not None
    assert note.dropped + len(note.lines) == 1_201
    assert sum(map(len, note.lines)) <= notes.LINES_BYTES


def test_a_thousand_failures_together_are_one_row_and_many_rows_are_swept_in_steps() -> None:
    kept = Notes(1, MemoryDisk())
    kept.change(0, 1_000, notes.failed(failure(1), b""))
    assert kept.rows == 1
    for offset in range(0, 1_000, 2):
        kept.change(offset, offset + 1, notes.progressed((0.1, "", 1)))
    assert kept.rows == 1_000
    kept.drop(0, 1_000)
    rounds = 1
    while kept.sweep():
        rounds += 1
        assert rounds < 10
    assert (kept.rows, rounds) == (0, 4)


def test_what_is_not_used_costs_no_look_at_the_disk() -> None:
    kept = Notes(1, None)  # type: ignore[arg-type]  # there is none to look at
    kept.drop(0, 10**9)
    assert not kept.sweep()
    assert kept.at(5) is None


@given(
    st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=30),
)
def test_outcomes_can_be_forgotten_one_by_one(sizes: list[list[int]], forgotten: list[tuple[int, bool]]) -> None:
    disk = MemoryDisk()
    kept, plain = Outcomes(3, disk), {}
    gone: list[tuple[int, int, list[int]]] = []
    offset = 0
    for home, counts in enumerate(sizes, 1):
        start = 0
        for count in counts:
            kept.add(Outcome(offset, count, home, start, True, "done", "", 1, 0, home, -1))
            plain |= {offset + at: (home, start + at) for at in range(count)}
            start += count
            offset += count
    for place, saved in forgotten:
        if saved:
            steps = [(3, home, step) for home, step in kept.take_recent().items()]
            made = checkpoint.take(Model(disk), checkpoint.Consensus(0, 0, []))
            made.gone.steps, gone = gone, []
            disk.save(made._replace(steps=steps))
        at = place % offset
        outcome = kept.at(at)
        assert (outcome is not None) == (at in plain)
        if outcome is not None:
            step = kept.forget(outcome, at)
            if step:
                gone.append((3, outcome.home, [each.first for each in step]))
            del plain[at]
        assert _seen(kept) == plain
        restored = [each.first + by for each in kept.from_offset(0) for by in range(each.count)]
        assert restored == sorted(plain)
        for number in range(offset):
            found = kept.at(number)
            assert (found and (found.home, found.start + number - found.first)) == plain.get(number)


def _seen(kept: Outcomes) -> dict[int, tuple[int, int]]:
    return {
        it.first + by: (home, it.start + by) for home, step in kept.after(0) for it in step for by in range(it.count)
    }
