"""Tasks for the tests of this room."""

from typing import Any

import penstock
from penstock import task


@task(queue="work")
def square(n: int) -> int:
    return n * n


@task(queue="work", name="fails", max_failures=3, retry_delay="10s", retry_backoff="exponential", retry_jitter=0)
def fails(times: int) -> str:
    job = penstock.current_job()
    if job.attempt <= times:
        raise OSError(f"try {job.attempt} of {job.id}")
    return f"{job.id} at try {job.attempt}"


@task(queue="together", batch=True)
def together(jobs: list[dict[str, Any]]) -> list[Any]:
    return [ValueError("odd") if job["n"] % 2 else (job["n"], len(jobs)) for job in jobs]


@task(queue="heat", ranks="all")
def heat(comm: Any, n: int) -> list[int]:
    return [comm.rank, comm.size, comm.allreduce(n), *comm.gather(n)]


@task(queue="work", name="total")
def total() -> int:
    return sum(penstock.current_job().parent_results())


@task(queue="interrupted")
def interrupted() -> None:
    raise KeyboardInterrupt
