"""How jobs ended: waited for with a progress bar, and told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..peers.errors import JobCancelled, JobFailed
from . import output
from .exits import FAILED, OK
from .job_bars import job_bars
from .options import Options

if TYPE_CHECKING:
    from ..client import Client, Job

COLUMNS = ("id", "status", "error")


def follow(client: Client, jobs: Sequence[Job], timeout_s: float | None) -> None:
    """Progress bars on stderr until the jobs have ended: one for all of them, and one for each that runs and tells how
    far it is. Raises Timeout."""
    with output.progress() as bar, job_bars(client, jobs, bar) as bars:
        line = bar.add_task("jobs", total=len(jobs))
        for job in client.as_completed(jobs, timeout=timeout_s):
            bars.ended(job.id)
            bar.advance(line)


def tell_ends(client: Client, jobs: Sequence[Job], options: Options, results: bool) -> int:
    """Follow the jobs until they have ended, then print all, in order. FAILED if one did not end well."""
    follow(client, jobs, options.timeout)
    code = OK
    for item in jobs:
        row, good = ended(item, results)
        code = code if good else FAILED
        if options.json or not results:
            output.rows([row], COLUMNS, options.json)
        elif good:
            output.say_json(row["result"])
        else:
            output.note(f"{item.id}: {row['error']}")
    return code


def ended(job: Job, results: bool) -> tuple[dict[str, Any], bool]:
    """How an ended job ended, and if that is well."""
    row: dict[str, Any] = {"id": job.id, "status": "done"}
    try:
        value = job.result(timeout=0)
    except (JobFailed, JobCancelled) as error:
        status = job.wait(timeout=0)
        return row | {"status": status, "error": error.message}, False
    return (row | {"result": value} if results else row), True
