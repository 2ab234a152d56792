"""A thread that hears at once which jobs of a queue are cancelled: the renewal of their leases tells it later."""

from __future__ import annotations

import logging
import threading
from typing import Any

from ..client import Client, Consumer
from ..peers.errors import PenstockError

log = logging.getLogger("penstock")

RETRY_S = 1.0


class CancelWatch:
    """Tells a consumer what was cancelled in its queue, until it is stopped or the client is closed."""

    def __init__(self, client: Client, consumer: Consumer) -> None:
        self._client = client
        self._consumer = consumer
        self._stopping = threading.Event()
        self._watch: Any = None
        threading.Thread(target=self._run, name="penstock-cancels", daemon=True).start()

    def stop(self) -> None:
        """Returns at once: without a daemon the thread ends with its client."""
        self._stopping.set()
        if self._watch is not None:
            self._watch.stop()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._hear()
            except PenstockError as error:
                if self._stopping.is_set():
                    return
                log.warning("cancelled jobs are heard of late: %s: %s", error.code, error)
                if not error.retryable:
                    return
                self._stopping.wait(RETRY_S)

    def _hear(self) -> None:
        watch = self._watch = self._client.watch("job.cancelled")
        if self._stopping.is_set():  # looked at after `_watch` was set: whoever stops does it the other way round
            return
        for event in watch:
            if event.queue == self._consumer.queue and event.count:
                self._consumer.note_cancelled(event.first, event.count)
