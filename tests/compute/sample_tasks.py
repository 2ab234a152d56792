"""Tasks that the tests of the pool run."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from penstock import connect
from penstock.compute.current import current_job, current_jobs
from penstock.compute.task import task

QUEUE = "work"


@task(queue=QUEUE, name="square")
def square(n: int) -> int:
    return n * n


@task(queue=QUEUE, name="where")
def where(seconds: float = 0.0) -> dict[str, int]:
    time.sleep(seconds)
    return {"pid": os.getpid()}


@task(queue=QUEUE, name="who")
def who() -> dict[str, Any]:
    job = current_job()
    return {"id": job.id, "attempt": job.attempt, "key": job.key, "headers": job.headers, "parents": list(job.parents)}


@task(queue=QUEUE, name="who_together", batch=True)
def who_together(jobs: list[dict[str, Any]]) -> list[Any]:
    return [job.id for job in current_jobs()]


@task(queue=QUEUE, name="who_everywhere", ranks="all")
def who_everywhere(comm: Any) -> list[str]:
    return list(comm.allgather(current_job().id))


@task(queue=QUEUE, name="total")
def total() -> int:
    return sum(current_job().parent_results())


@task(queue=QUEUE, name="fail")
def fail(message: str) -> None:
    raise ValueError(message)


@task(queue=QUEUE, name="leave")
def leave(status: int) -> None:
    sys.exit(status)


@task(queue=QUEUE, name="die")
def die(how: str) -> None:
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


@task(queue=QUEUE, name="sleep", time_limit=0.3)
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@task(queue=QUEUE, name="nap")
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@task(queue=QUEUE, name="halve", batch=True)
def halve(jobs: list[dict[str, Any]]) -> list[Any]:
    for job in jobs:
        if job.get("die"):
            os._exit(4)
    return [ValueError(f"{job['n']} is odd") if job["n"] % 2 else job["n"] // 2 for job in jobs]


@task(queue=QUEUE, name="raises", batch=True)
def raises(jobs: list[dict[str, Any]]) -> list[Any]:
    if any(job["n"] < 0 for job in jobs):
        raise ValueError("a negative number")
    return [job["n"] for job in jobs]


@task(queue=QUEUE, name="together", ranks="all")
def together(comm: Any, n: int) -> list[int]:
    return list(comm.allgather(comm.Get_rank() * n))


@task(queue=QUEUE, name="one_raises", ranks="all")
def one_raises(comm: Any, rank: int, stuck: bool) -> int:
    if comm.Get_rank() == rank:
        raise ValueError(f"rank {rank} does not like this")
    if stuck:
        comm.barrier()
    return 1


@task(queue=QUEUE, name="one_dies", ranks="all")
def one_dies(comm: Any, rank: int, once: str = "") -> str:
    """Rank `rank` kills itself; with `once`, a file, only the first time."""
    if comm.Get_rank() == rank and not (once and Path(once).exists()):
        if once:
            Path(once).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    comm.barrier()
    return "survived"


@task(queue=QUEUE, name="hang", ranks="all", time_limit=0.5)
def hang(comm: Any) -> None:
    if comm.Get_rank() == 0:
        time.sleep(60)


@task(queue=QUEUE, name="pair", ranks=2)
def pair(comm: Any) -> int:
    return int(comm.allreduce(1))


@task(queue=QUEUE, name="long")
def long(size: int) -> bytes:
    return bytes(size)


@task(queue=QUEUE, name="long_ones", batch=True)
def long_ones(jobs: list[dict[str, Any]]) -> list[bytes]:
    return [bytes(job["size"]) for job in jobs]


@task(queue=QUEUE, name="long_together", ranks="all")
def long_together(comm: Any, size: int) -> bytes:
    return bytes(size)


@task(queue=QUEUE, name="shout")
def shout(size: int) -> None:
    raise ValueError("a" * size + "end")


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("lost for words")


@task(queue=QUEUE, name="mute")
def mute() -> None:
    raise Mute


@task(queue=QUEUE, name="lost_file")
def lost_file() -> None:
    raise FileNotFoundError("no file '/no/such/\udcff'")


@task(queue=QUEUE, name="submits")
def submits(n: int) -> str:
    with connect() as client:
        return square.submit(client, n=n).id


@task(queue=QUEUE, name="prints")
def prints(count: int, rest: str = "") -> None:
    for number in range(count):
        print(f"{os.getpid()} prints line {number}", end=".\n")  # noqa: T201
        print(f"{os.getpid()} complains of line {number}", file=sys.stderr, end=".\n")  # noqa: T201
    sys.stdout.write(rest)
