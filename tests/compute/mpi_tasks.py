"""Tasks as people who know MPI write them: with the import at the top."""

from __future__ import annotations

import subprocess
from typing import Any

from mpi4py import MPI

from penstock.compute.task import task

QUEUE = "work"


@task(queue=QUEUE, name="largest", ranks="all")
def largest(comm: Any, n: int) -> int:
    return int(comm.allreduce(n * comm.rank, op=MPI.MAX))


@task(queue=QUEUE, name="began")
def began() -> bool:
    return bool(MPI.Is_initialized())


@task(queue=QUEUE, name="starts")
def starts(die: bool) -> int:
    """Leaves a process behind, and with `die` its own process is killed."""
    process = subprocess.Popen(["sleep", "600"])
    if die:
        subprocess.run(["sh", "-c", "kill -9 $PPID"], check=False)
    return process.pid
