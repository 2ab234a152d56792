"""How jobs ended: waited for with a progress bar, and told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..peers.errors import JobCancelled, JobFailed
from . import output
from .exits import FAILED, OK
from .options import Options

if TYPE_CHECKING:
    from ..client import Job

COLUMNS = ("id", "status", "error")


def follow(ending: Iterable[Job], total: int) -> None:
    """A progress bar on stderr while these end."""
    with output.progress() as bar:
        line = bar.add_task("jobs", total=total)
        for _ in ending:
            bar.advance(line)


def tell_ends(jobs: Sequence[Job], ending: Iterable[Job], options: Options, results: bool) -> int:
    """Follow the `ending` jobs, then print all, in order. FAILED if one did not end well."""
    follow(ending, len(jobs))
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
