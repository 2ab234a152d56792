"""Folders with short names: a socket's path has at most 107 bytes. A cluster amid its work, shared by a file's tests."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.cluster import Cluster, begin, end_alike
from faults.crew import Crew
from faults.roads import RoadWorks


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pf"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)  # what a killed process is still closing is a temporary file


@pytest.fixture
def short() -> Iterator[Path]:
    with _folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def works() -> Iterator[RoadWorks]:
    """The roads of `far_crew`."""
    with _folder() as folder, RoadWorks(folder) as works:
        yield works


@pytest.fixture(scope="module")
def near_crew() -> Iterator[Crew[Cluster]]:
    """Everybody at work on three nodes. Every test leaves all three running; at the end all that happened is judged."""
    with _folder() as folder, Cluster(folder) as cluster, Crew(cluster) as crew:
        begin(crew)
        yield crew
        end_alike(crew, "near")


@pytest.fixture(scope="module")
def far_crew(works: RoadWorks) -> Iterator[Crew[Cluster]]:
    """The same on three nodes that hear each other by way of `works`."""
    with Cluster(works.folder, roads=works.roads) as cluster, Crew(cluster) as crew:
        begin(crew)
        yield crew
        end_alike(crew, "far")
