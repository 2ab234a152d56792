"""Modules of tasks import mpi4py.MPI, which begins MPI: only the ranks may. A process that forks helpers must not, and
one that merely looks at the tasks would be an MPI program of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def leave_mpi_alone() -> None:
    """From now on `from mpi4py import MPI` begins nothing in this process, nor in those that it forks."""
    try:
        import mpi4py
    except ImportError:
        return  # then no task can import it either
    mpi4py.rc.initialize = False


@contextmanager
def mpi_left_alone() -> Iterator[None]:
    """The same for what is imported meanwhile."""
    try:
        import mpi4py
    except ImportError:
        yield
        return
    before = mpi4py.rc.initialize
    mpi4py.rc.initialize = False
    try:
        yield
    finally:
        mpi4py.rc.initialize = before
