"""The log of a job as a handler of `logging`."""

from __future__ import annotations

import logging

from .current import current_jobs


class JobLogHandler(logging.Handler):
    """Writes records into the log of the job that runs where they are logged; in a batch task, into that of each job of
    the call. Where no job runs it writes nothing: so a module of tasks may add it when it is imported.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            for job in current_jobs():
                job.log(line)
        except Exception:
            self.handleError(record)  # a record that cannot be formatted must not fail the job: as all handlers do
