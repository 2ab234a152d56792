"""Folders with short names: a socket's path has at most 107 bytes. Clusters amid their work, one for all of a file."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.cluster import Cluster, begin, end_alike
from faults.crew import Crew
from faults.namespaces import Namespaces
from faults.roads import RoadWorks

Works = RoadWorks | Namespaces


@contextlib.contextmanager
def a_folder() -> Iterator[Path]:
    """One of its own."""
    folder = Path(tempfile.mkdtemp(prefix="pf"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)  # what a killed process is still closing is a temporary file


@pytest.fixture
def short() -> Iterator[Path]:
    with a_folder() as folder:
        yield folder


@pytest.fixture(scope="module", params=[RoadWorks, Namespaces], ids=["roads", "namespaces"])
def works(request: pytest.FixtureRequest) -> Iterator[Works]:
    """What is between the nodes of `far_crew`."""
    with a_folder() as folder, request.param(folder) as works:
        yield works


@pytest.fixture(scope="module")
def near_crew() -> Iterator[Crew[Cluster]]:
    """Everybody at work on three nodes. Every test leaves all three running; at the end all that happened is judged."""
    with a_folder() as folder, Cluster(folder) as cluster, Crew(cluster) as crew:
        begin(crew)
        yield crew
        end_alike(crew, "near")


@pytest.fixture(scope="module")
def far_crew(works: Works) -> Iterator[Crew[Cluster]]:
    """The same on three nodes that hear each other by way of `works`."""
    with works.cluster() as cluster, Crew(cluster) as crew:
        begin(crew)
        yield crew
        end_alike(crew, "far")
