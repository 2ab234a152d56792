"""Why a job did not end well, as whoever waited for it sees it."""

from __future__ import annotations

import pickle
import traceback

from penstock.client.failures import job_failed, pack_error, reason_of
from penstock.client.outcomes import JobOutcome
from penstock.peers.errors import JobFailed


def test_who_does_not_catch_a_failed_job_sees_where_it_failed() -> None:
    error = job_failed("work/7", pack_error({"type": "KeyError", "message": "'x'", "traceback": "in line 9 of it"}), "")
    shown = "".join(traceback.format_exception(error))
    assert "job work/7 failed: KeyError: 'x'\n    in line 9 of it" in shown
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.__notes__) == (JobFailed, ["    in line 9 of it"])
    assert str(error) == "job work/7 failed: KeyError: 'x'"


def test_a_name_that_is_no_text_can_be_told() -> None:
    fault = FileNotFoundError("no file '/a/\udcff'")
    assert "no file '/a/\\udcff'" in str(job_failed("work/7", pack_error(fault), ""))
    assert reason_of(fault) == "FileNotFoundError: no file '/a/\\udcff'"


def test_a_job_that_was_cancelled_says_so_once_and_why_if_that_says_more() -> None:
    said = [
        JobOutcome("work", 7, "cancelled", b"", why).error for why in ("it was cancelled", "its parent failed", None)
    ]
    assert [str(error) for error in said] == [
        "job work/7 was cancelled",
        "job work/7 was cancelled (its parent failed)",
        "job work/7 was cancelled",
    ]
