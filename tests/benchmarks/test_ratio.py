"""make ratio: the figures, and what it says when it cannot measure."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from ratio.__main__ import main
from ratio.cases import CASES, DEFAULT, Wrong, chosen
from ratio.figures import Pair, ratio_of
from ratio.revision import Revision, checked_out


def test_a_steady_drift_of_the_machine_cancels() -> None:
    speeds = [100.0 * 0.9**place for place in range(4)]  # before, now, now, before, each slower than the one before it
    assert Pair((speeds[0], speeds[3]), (speeds[1], speeds[2])).ratio == pytest.approx(1.0)


def test_twice_as_fast_is_two() -> None:
    assert Pair((10.0, 10.0), (20.0, 20.0)).ratio == pytest.approx(2.0)


def test_the_ratio_of_all_rounds_is_their_median() -> None:
    assert ratio_of([1.0, 9.0, 0.9, 1.1, 1.02]).median == 1.02


def test_six_rounds_are_sure_from_the_lowest_to_the_highest() -> None:
    ratio = ratio_of([0.9, 1.3, 1.0, 1.1, 1.2, 0.8])
    assert (ratio.low, ratio.high) == (0.8, 1.3)
    assert ratio.sure == pytest.approx(1 - 2 / 2**6)


def test_five_rounds_say_that_they_are_not_sure_enough() -> None:
    assert ratio_of([0.9, 1.0, 1.1, 1.2, 1.3]).sure == pytest.approx(1 - 2 / 2**5)


def test_with_nine_rounds_one_outlier_on_each_side_does_not_count() -> None:
    ratio = ratio_of([0.1, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 50.0])
    assert (ratio.low, ratio.high) == (0.91, 0.97)
    assert ratio.sure == pytest.approx(1 - 2 * (1 + 9) / 2**9)


def test_one_round_is_sure_of_nothing() -> None:
    assert ratio_of([1.5]) == (1.5, 1.5, 1.5, 0.0)


def test_no_rounds_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="no rounds"):
        ratio_of([])


def test_of_a_time_less_is_faster() -> None:
    assert CASES["latency"].speed({"p50_ms": 0.5}) == 2.0
    assert CASES["publish"].speed({"rate": 400_000}) == 400_000


def test_cases_come_in_the_order_they_are_named_in_and_once() -> None:
    assert chosen(" senders, publish,senders") == ["senders", "publish"]
    assert chosen("") == list(DEFAULT)


def test_an_unknown_case_is_told_with_those_there_are() -> None:
    with pytest.raises(Wrong, match="no case 'speed'; cases are publish, "):
        chosen("publish,speed")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits of one file."""
    where = tmp_path / "repository"
    where.mkdir()
    _git(where, "init", "--quiet", "--initial-branch=main")
    for text in ("old", "new"):
        (where / "file").write_text(text)
        _git(where, "add", "file")
        _git(where, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", f"It is {text}")
    return where


def _git(where: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=where, check=True)


def test_a_revision_is_taken_out_beside_the_files_as_they_are(repository: Path, tmp_path: Path) -> None:
    name, code = checked_out(repository, "HEAD~1", tmp_path / "before")
    assert name.endswith(" It is old")
    assert (code / "file").read_text() == "old"
    assert (repository / "file").read_text() == "new"


def test_a_missing_revision_is_told_with_what_may_bring_it(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(Wrong, match=r"no revision 'v9'; try: git fetch --all"):
        checked_out(repository, "v9", tmp_path / "before")


def test_an_option_of_git_is_no_revision(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(Wrong, match="no revision '--all'"):
        checked_out(repository, "--all", tmp_path / "before")


def test_a_shallow_clone_is_told_to_get_its_history(repository: Path, tmp_path: Path) -> None:
    _git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repository}", "shallow")
    with pytest.raises(Wrong, match="try: git fetch --unshallow"):
        checked_out(tmp_path / "shallow", "HEAD~1", tmp_path / "before")


def test_a_copy_without_history_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    with pytest.raises(Wrong, match="is no git repository"):
        checked_out(tmp_path / "copy", "HEAD", tmp_path / "before")


def test_what_cannot_be_imported_is_told_before_anything_is_measured(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(Wrong, match=r"It is old cannot be run: ModuleNotFoundError.*install what it needs"):
        Revision(*checked_out(repository, "HEAD~1", tmp_path / "before"), tmp_path / "before")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["HEAD", "--cases", "speed"], "there is no case 'speed'"),
        (["no-such-revision"], "no revision 'no-such-revision'"),
        (["HEAD", "--rounds", "0"], "0 is not in the range x>=1"),
        ([], "Missing argument 'AGAINST'"),
    ],
)
def test_wrong_arguments_are_usage_errors_and_leave_nothing(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert told in result.output
    assert list(tmp_path.iterdir()) == []
