"""Goal: a program may end while threads of a client still wait. Method: a program of its own, which looks when all
else has been cleared away."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import atexit

bells = []
atexit.register(lambda: (bells[0].ring(), bells[0].wait(0), print("heard")))  # the first one registered comes last

from penstock.client.bell import Bell

bells.append(Bell())
"""


def test_a_bell_can_be_heard_until_the_program_has_ended() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == ("heard\n", "")
