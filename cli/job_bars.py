"""Progress bars of jobs that run: told by themselves, drawn while somebody waits for their end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import TYPE_CHECKING

from ..peers.errors import PenstockError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from ..client import Client, Event, Job

PATIENCE_S = 1.0  # with a thread that no daemon answers: it ends with the client
BARS_MAX = 10  # more would push the whole off the screen


class JobBars:
    """A bar for each job that tells how far it is, as long as there is room and it runs."""

    def __init__(self, bar: Progress, jobs: Iterable[Job]) -> None:
        self._bar = bar
        self._wanted = {job.id for job in jobs}
        self._lines: dict[str, TaskID] = {}

    def told(self, event: Event) -> None:
        """A job said how far it is."""
        self.show(f"{event.queue}/{event.first}", event.more.get("progress"), event.more.get("text"))

    def show(self, id: str, fraction: float | None, text: str | None) -> None:
        """Draw it, if it is one of ours that has not ended."""
        if id not in self._wanted or fraction is None:
            return
        completed, description = round(100 * fraction), f"{id} {text or ''}".strip()
        if id in self._lines:
            self._bar.update(self._lines[id], completed=completed, description=description)
        elif len(self._lines) < BARS_MAX:
            self._lines[id] = self._bar.add_task(description, total=100, completed=completed)

    def ended(self, id: str) -> None:
        """It makes room."""
        self._wanted.discard(id)
        if id in self._lines:
            self._bar.remove_task(self._lines.pop(id))


@contextmanager
def job_bars(client: Client, jobs: Iterable[Job], bar: Progress) -> Iterator[JobBars]:
    """Bars that move by themselves while one waits for the ends of the jobs. Where nobody would see them, none are."""
    bars = JobBars(bar, jobs)
    if bar.disable:
        yield bars
        return
    watch = client.watch("job.progress")

    def hear() -> None:
        with suppress(PenstockError):  # for the eye only: whoever waits for the ends is told what is wrong
            for event in watch:
                bars.told(event)

    thread = Thread(target=hear, daemon=True)
    thread.start()
    try:
        yield bars
    finally:
        watch.stop()
        thread.join(PATIENCE_S)
