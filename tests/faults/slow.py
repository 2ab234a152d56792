"""A daemon whose disk can be made slow while it runs: `python -m faults.slow CONFIG SPEED_FILE`.

The file holds how many milliseconds longer each commit takes; it is read at each commit.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from faults.cluster import Cluster
from faults.crew import TESTS
from penstock.broker import daemon
from penstock.broker.commits import Commits
from penstock.broker.config import load
from penstock.broker.store import Store
from penstock.cli.processes import end_with_parent


class SlowCommits(Commits):
    """Nothing of a transaction can be relied on sooner: it is slow before it writes."""

    speed: Path

    def end(self, txn: Any) -> None:
        super().end(SlowTransaction(txn, int(self.speed.read_text())))


class SlowTransaction:
    """Its end takes `ms` longer."""

    def __init__(self, txn: Any, ms: int) -> None:
        self._txn, self._ms = txn, ms

    def commit(self) -> None:
        time.sleep(self._ms / 1000)
        self._txn.commit()


class SlowStore(Store):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commits = SlowCommits()


class SlowCluster(Cluster):
    """Three such daemons, which are quick at first."""

    def slow(self, node: int, ms: int) -> None:
        """From now on each commit of this node takes `ms` longer."""
        self.note(f"{node} slow by {ms} ms")
        fresh = self._speed(node).with_suffix(".new")
        fresh.write_text(str(ms))
        fresh.replace(self._speed(node))

    def _speed(self, node: int) -> Path:
        return self.folder / str(node) / "speed"

    def _spawn(self, node: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
        self._speed(node).write_text("0")
        path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
        words = [str(self._config(node)), str(self._speed(node)), str(os.getpid())]
        return subprocess.Popen(
            [sys.executable, "-m", "faults.slow", *words],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": path},
        )  # fmt: skip


def main(config: str, speed: str, parent: str) -> None:
    end_with_parent(int(parent))
    SlowCommits.speed = Path(speed)
    daemon.Store = SlowStore  # type: ignore[misc]
    daemon.serve(load(config), config)


if __name__ == "__main__":
    main(*sys.argv[1:])
