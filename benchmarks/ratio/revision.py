"""A revision of this repository, ready to run beside another one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .cases import Wrong

STOP_S = 30.0  # a benchmark that is told to end takes its daemon and its workers along
RUN_S = 300.0
LINK = "penstock.pth"


class Revision:
    """Its code, and an environment in which `import penstock` means that code. `name`: as people know it."""

    def __init__(self, name: str, code: Path, folder: Path) -> None:
        """`folder` is made, and holds all that is made here: remove it, and nothing is left."""
        self.name = name
        self._folder = folder
        # The root of the repository is the package: a link under its name is all it takes to install it. The libraries
        # are those of the environment that measures, for both sides; a folder of packages that comes by way of a .pth
        # has its own .pth files ignored, so no other penstock that is installed there gets in.
        links = folder / "links"
        links.mkdir(parents=True)
        (links / "penstock").symlink_to(code.absolute(), target_is_directory=True)
        venv.EnvBuilder(symlinks=True).create(folder / "venv")
        packages = [place for place in sys.path if Path(place).name in ("site-packages", "dist-packages")]
        (own,) = (folder / "venv" / "lib").glob("python*/site-packages")
        (own / LINK).write_text("".join(f"{place}\n" for place in [str(links), *packages]), encoding="utf-8")
        self._python = str(folder / "venv" / "bin" / "python")
        self._check()

    def _check(self) -> None:
        code = "import penstock.cli.main; print(penstock.__file__)"
        tried = subprocess.run(
            [self._python, "-c", code], cwd=self._folder, capture_output=True, text=True, check=False
        )
        if tried.returncode:
            why = tried.stderr.strip().splitlines()[-1:] or ["no reason was given"]
            raise Wrong(f"{self.name} cannot be run: {why[0]}; install what it needs into this environment, too")
        if not Path(tried.stdout.strip()).is_relative_to(self._folder / "links"):
            raise Wrong(f"{self.name} would run the code in {tried.stdout.strip()}: unset PYTHONPATH")

    def bench(self, case: str, arguments: Sequence[str]) -> dict[str, Any]:
        """The row that its `penstock bench` prints for this case. Raises Wrong if it prints none."""
        command = [self._python, "-m", "penstock.cli", "--json", "bench", "--cases", case, *arguments]
        quiet = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "PYTHONPATH"))}
        with subprocess.Popen(
            command, cwd=self._folder, env=quiet, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                out, told = process.communicate(timeout=RUN_S)
            except BaseException:
                _end(process)
                raise
        if process.returncode or not out.strip():
            raise Wrong(f"{self.name} could not measure {case!r}: {told.strip() or 'it printed nothing'}")
        row: dict[str, Any] = json.loads(out.splitlines()[-1])
        return row


def _end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def checked_out(repository: Path, revision: str, folder: Path) -> tuple[str, Path]:
    """Put the files of `revision` into `folder`: its name, and where they are. The repository stays as it is.

    Raises Wrong if there is no such revision, or no history to take it from.
    """
    if shutil.which("git") is None:
        raise Wrong("git is not installed: without it there is no other revision to compare with")
    if _git(repository, "rev-parse", "--git-dir") is None:
        raise Wrong(f"{repository} is no git repository: clone it, a copy of the files has no history")
    commit = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit is None:
        shallow = _git(repository, "rev-parse", "--is-shallow-repository") == "true"
        hint = "git fetch --unshallow" if shallow else "git fetch --all --tags, or look at git log --oneline"
        raise Wrong(f"this clone has no revision {revision!r}; try: {hint}")
    code = folder / "code"
    code.mkdir(parents=True)
    packed = folder / "code.tar"
    with packed.open("wb") as file:
        subprocess.run(["git", "archive", "--format=tar", commit], cwd=repository, stdout=file, check=True)
    with tarfile.open(packed) as archive:
        if hasattr(tarfile, "data_filter"):  # not in the first releases of Python 3.11
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(code)
    packed.unlink()
    title = _git(repository, "log", "-1", "--format=%h %s", commit)
    return f"{title}", code


def _git(repository: Path, *arguments: str) -> str | None:
    """What git says, or None where it says no."""
    told = subprocess.run(["git", *arguments], cwd=repository, capture_output=True, text=True, check=False)
    return None if told.returncode else told.stdout.strip()
