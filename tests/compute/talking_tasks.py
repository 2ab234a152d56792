"""Tasks that tell how far they are, and that are cancelled."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from penstock.compute.current import current_job, current_jobs
from penstock.compute.job_log import JobLogHandler
from penstock.compute.task import task
from penstock.peers.errors import JobCancelled

QUEUE = "talk"
log = logging.getLogger("talking")
log.setLevel(logging.INFO)
log.propagate = False
log.addHandler(JobLogHandler())


@task(queue=QUEUE, name="count")
def count(steps: int, pause: float = 0.0) -> int:
    job = current_job()
    for step in range(1, steps + 1):
        job.progress(step / steps, f"step {step}")
        job.log(f"line {step}")
        time.sleep(pause)
    return steps


@task(queue=QUEUE, name="tell_and_hold")
def tell_and_hold(release: str) -> str:
    """Tells something, soon something later, and then nothing more until the file `release` is there."""
    job = current_job()
    job.progress(0.1, "early")
    job.progress(0.4, "late")
    log.info("from %s", "logging")
    while not Path(release).exists():
        time.sleep(0.01)
    return "done"


@task(queue=QUEUE, name="count_together", batch=True)
def count_together(jobs: list[dict[str, Any]]) -> list[int]:
    for job, arguments in zip(current_jobs(), jobs, strict=True):
        job.progress(arguments["n"] / 10)
    return [arguments["n"] for arguments in jobs]


@task(queue=QUEUE, name="speak", ranks="all")
def speak(comm: Any) -> int:
    job = current_job()
    job.progress(0.5, f"rank {comm.Get_rank()}")
    job.log(f"rank {comm.Get_rank()}")
    return int(comm.allreduce(1))


@task(queue="pair", ranks=2)
def speak_in_pair(comm: Any, steps: int) -> int:
    for step in range(1, steps + 1):
        current_job().progress(step / steps, f"rank {comm.Get_rank()}")
    return int(comm.allreduce(1))


@task(queue=QUEUE, name="obey")
def obey(began: str, stopped: str) -> None:
    """Goes on until it is cancelled."""
    Path(began).touch()
    try:
        while True:
            current_job().check()
            time.sleep(0.01)
    except JobCancelled:
        Path(stopped).touch()
        raise


@task(queue=QUEUE, name="ignore")
def ignore(began: str, seconds: float = 60) -> float:
    Path(began).touch()
    time.sleep(seconds)
    return seconds


@task(queue=QUEUE, name="ignore_together", batch=True)
def ignore_together(jobs: list[dict[str, Any]]) -> list[int]:
    """Each call adds a line to the file `calls`; it waits for the file `release`."""
    with Path(jobs[0]["calls"]).open("a") as file:
        file.write(f"{len(jobs)}\n")
    while not Path(jobs[0]["release"]).exists():
        time.sleep(0.01)
    return [job["n"] for job in jobs]


@task(queue=QUEUE, name="obey_together", ranks="all")
def obey_together(comm: Any, began: str) -> str:
    Path(began).touch()
    while not comm.bcast(current_job().cancelled):
        time.sleep(0.01)
    return "stopped"


@task(queue=QUEUE, name="one_obeys", ranks="all")
def one_obeys(comm: Any, began: str) -> None:
    if comm.Get_rank() == 0:
        Path(began).touch()
        while True:
            current_job().check()
            time.sleep(0.01)
    comm.barrier()


@task(queue=QUEUE, name="ignore_everywhere", ranks="all")
def ignore_everywhere(comm: Any, began: str) -> None:
    Path(began).touch()
    time.sleep(60)


@task(queue=QUEUE, name="square")
def square(n: int) -> int:
    return n * n
