"""What travels with jobs, and what a task sees of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.compute.current import Home, current_job, current_jobs, running
from penstock.compute.notes import Note, Notes
from penstock.peers.errors import InvalidArgument

HOME = Home(("tcp://a:1",), "work")
spans = st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 3)), max_size=6)


@given(spans=spans, data=st.data())
def test_a_cut_has_the_notes_of_its_jobs(spans: list[tuple[int, int, int]], data: st.DataObject) -> None:
    size = sum(count for _, count, _ in spans)
    headers = data.draw(st.none() | st.just([{"place": place} for place in range(size)]))
    first = data.draw(st.integers(0, size))
    end = data.draw(st.integers(first, size))
    notes = Notes(spans, headers)
    assert list(notes.cut(first, end).each()) == list(notes.each())[first:end]


def test_notes_are_in_the_order_of_the_jobs() -> None:
    notes = Notes([(7, 2, 1), (3, 1, 2)], [None, {"a": 1}, None])
    assert list(notes.each()) == [Note(7, 1, None), Note(8, 1, {"a": 1}), Note(3, 2, None)]


def test_a_task_sees_the_job_that_it_runs() -> None:
    headers = {"k": 1, "penstock-key": "a", "penstock-after": [["work", 0, 500], ["other", 7, 1]]}
    with running(HOME, [Note(42, 2, headers)]):
        job = current_job()
    assert (job.id, job.queue, job.offset, job.attempt) == ("work/42", "work", 42, 2)
    assert (job.headers, job.key, job.parents) == ({"k": 1}, "a", ("work/0-499", "other/7"))


def test_a_job_without_headers_has_no_parents() -> None:
    with running(HOME, [Note(0, 1, None)]):
        assert (current_job().headers, current_job().key, current_job().parents) == ({}, None, ())


def test_a_batch_call_runs_several_jobs() -> None:
    with running(HOME, [Note(1, 1, None), Note(2, 1, None)]):
        assert [job.id for job in current_jobs()] == ["work/1", "work/2"]
        with pytest.raises(InvalidArgument, match="current_jobs"):
            current_job()


def test_where_no_job_runs_there_is_none() -> None:
    assert current_jobs() == []
    with pytest.raises(InvalidArgument, match="no job runs here"):
        current_job()
