"""The floors of the house: cli over compute and broker, which never meet, over client, over peers."""

import subprocess
import sys
from pathlib import Path


def test_no_room_imports_from_a_floor_above_it() -> None:
    # A process of its own: import-linter sets up logging for its process, and thereby turns off every logger that is
    # there already, to the surprise of whichever test next listens to one of ours.
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))",
        ],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
