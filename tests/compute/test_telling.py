"""What jobs tell while they run, through real MPI: progress and log lines, from each kind of task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.compute.cancels import Cancels
from penstock.compute.current import Home, current_job, running
from penstock.compute.frames import Frame
from penstock.compute.job_log import JobLogHandler
from penstock.compute.telling import Teller, words_of
from penstock.compute.words import LINES_BYTES, LINES_MAX, Words, clean
from penstock.peers.errors import InvalidArgument

Start = Callable[..., Any]
TALK: dict[str, Any] = {"queue": "talk", "tasks": "talking_tasks"}


@pytest.fixture
def frames() -> list[Frame]:
    return []


@pytest.fixture
def teller(tmp_path: Path, frames: list[Frame]) -> Teller:
    return Teller(frames.append, Cancels.create(tmp_path / "cancels"), by_timer=False)


class TestThroughRanks:
    pytestmark = pytest.mark.mpi

    def test_what_a_job_tells_comes_before_its_end_in_few_frames(self, start: Start) -> None:
        run = start([("count", {"steps": 500})], **TALK).finish()
        told = run.source.told[0]
        assert told[-1].progress == (1.0, "step 500")
        assert [line for words in told for line in words.lines] == [f"line {step}" for step in range(1, 501)]
        assert len(told) < 50
        assert run.outcomes[0] == ("done", 500)

    def test_what_is_held_back_is_told_while_the_job_goes_on(self, start: Start, tmp_path: Path) -> None:
        run = start([("tell_and_hold", {"release": str(tmp_path / "release")})], **TALK)
        run.until(lambda: [words for words in run.source.told.get(0, []) if words.lines], "the last words")
        assert run.source.told[0][-1].progress == (0.4, "late")
        assert run.source.told[0][-1].lines == ["from logging"]
        assert run.outcomes == {}
        (tmp_path / "release").touch()
        run.finish()

    def test_each_job_of_a_batch_call_speaks_for_itself(self, start: Start) -> None:
        run = start([("count_together", {"n": n}) for n in range(10)], **TALK).finish()
        assert {n: run.source.told[n][-1].progress for n in range(10)} == {n: (n / 10, "") for n in range(10)}

    def test_of_a_collective_job_the_first_rank_is_heard(self, start: Start) -> None:
        run = start([("speak", {})] * 3, **TALK).finish()
        for number in range(3):
            told = run.source.told[number]
            assert [words.progress for words in told if words.progress] == [(0.5, "rank 0")]
            assert [line for words in told for line in words.lines] == ["rank 0"]
            assert run.outcomes[number] == ("done", 2)

    def test_that_need_not_be_rank_0_of_the_world(self, start: Start) -> None:
        run = start([("speak_in_pair", {"steps": 300})], ranks=3, queue="pair", tasks="talking_tasks").finish()
        assert run.source.told[0][-1].progress == (1.0, "rank 0")
        assert len(run.source.told[0]) < 50

    def test_who_says_nothing_costs_nothing(self, start: Start) -> None:
        run = start([("square", {"n": n}) for n in range(100)], **TALK).finish()
        assert run.source.told == {}


def test_the_first_word_leaves_at_once_and_the_next_wait_for_their_time(teller: Teller, frames: list[Frame]) -> None:
    for step in range(100):
        teller.say(7, 3, (step / 100, ""), [f"line {step}"])
    assert [(place, words.progress) for place, words in words_of(frames[0].payload)] == [(3, (0.0, ""))]
    assert len(frames) < 50
    teller.flush()
    assert frames[-1].batch == 7
    assert [(place, words.progress) for place, words in words_of(frames[-1].payload)] == [(3, (0.99, ""))]
    assert [line for frame in frames for _, words in words_of(frame.payload) for line in words.lines] == [
        f"line {step}" for step in range(100)
    ]
    count = len(frames)
    teller.flush()
    assert len(frames) == count


def test_many_lines_lose_the_oldest_and_say_how_many() -> None:
    words = Words()
    words.add(None, [f"line {n}" for n in range(LINES_MAX + 50)])
    assert words.lines[:2] == ["... 50 lines were left out", "line 50"]
    words.add((0.5, "half"), ["x" * 2000] * 100)
    assert sum(len(line) for line in words.said) <= LINES_BYTES
    again = Words.unpack(words.pack())
    assert (again.lines, again.progress) == (words.lines, (0.5, "half"))


def test_text_that_cannot_travel_is_made_to() -> None:
    assert clean("a\ud800b", 10) == "a?b"
    assert clean("abcdef", 3) == "abc"


class Heard:
    """A voice that notes what is said."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def progress(self, place: int, fraction: float, text: str) -> None:
        self.said.append((place, fraction, text))

    def log(self, place: int, lines: Any) -> None:
        self.said.append((place, list(lines)))

    def cancelled(self, place: int) -> bool:
        return place == 4


def test_fractions_are_kept_in_bounds_and_lines_are_cut_at_their_ends() -> None:
    from penstock.compute.notes import Note

    voice = Heard()
    with running(Home(("ipc:///nobody",), "q"), [Note(9, 1, None)], voice, 4):
        job = current_job()
        job.progress(1.0000001)
        job.progress(-3, "x" * 600)
        job.log("a\nb", 7)  # type: ignore[arg-type]
        job.log("")
        assert job.cancelled
        for wrong in ("half", None, True, float("nan")):
            with pytest.raises(InvalidArgument):
                job.progress(wrong)  # type: ignore[arg-type]
    assert voice.said == [(4, 1.0, ""), (4, 0.0, "x" * 500), (4, ["a", "b", "7"])]


def test_a_log_handler_where_no_job_runs_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    JobLogHandler().handle(logging.makeLogRecord({"msg": "hello"}))
    assert capsys.readouterr() == ("", "")


def test_cancelled_jobs_are_found_by_batch_and_place(tmp_path: Path) -> None:
    cancels = Cancels.create(tmp_path / "cancels")
    reader = Cancels(tmp_path / "cancels")
    assert reader.empty
    for batch, place in [(1, 2), (2, 0), (0, 3)]:
        cancels.add(batch, place)
    assert [reader.holds(*job) for job in [(1, 2), (2, 0), (0, 3), (2, 2), (0, 0), (3, 1)]] == [True] * 3 + [False] * 3
    cancels.clear()
    assert reader.empty
    assert not reader.holds(1, 2)
