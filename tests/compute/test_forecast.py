"""Forecasts: the same as numpy.polyfit, for made-up and for real series, and clear words about bad input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock.compute.forecast as package
from penstock.compute.forecast import forecast
from penstock.compute.forecast.demo import largest_error, plot, random_jobs
from penstock.compute.forecast.line import Lines
from penstock.compute.forecast.store import VARIABLE, made_up, read_csv
from penstock.compute.forecast.tasks import forecast_all
from penstock.compute.task import load_tasks
from penstock.peers.errors import InvalidArgument, NotFound

MACRO = Path(package.__file__).parent / "us_macro.csv"


def by_polyfit(values: np.ndarray[Any, Any], window: int, horizon: int) -> float:
    slope, start = np.polyfit(np.arange(window), values[-window:], 1)
    return float(start + slope * (window - 1 + horizon))


@given(st.data())
def test_a_line_is_that_of_polyfit(data: st.DataObject) -> None:
    scale = data.draw(st.sampled_from([1.0, 1e4, 1e-6]))
    level = data.draw(st.floats(-10, 10)) * scale
    steps = data.draw(st.integers(2, 60))
    values = level + scale * np.array(data.draw(st.lists(st.floats(-1, 1), min_size=steps, max_size=steps)))
    window, horizon = data.draw(st.integers(2, steps)), data.draw(st.integers(1, 10))
    (read,) = Lines(values[None, :]).read(np.array([0]), np.array([window]), np.array([horizon]))
    assert read == pytest.approx(by_polyfit(values, window, horizon), rel=1e-9, abs=1e-9 * scale)


@pytest.mark.parametrize("known", [made_up(), read_csv(MACRO)], ids=["made up", "real"])
def test_a_batch_agrees_with_polyfit(known: Any) -> None:
    jobs = random_jobs(known, 2000)
    assert largest_error(known, jobs, forecast_all(jobs, known)) <= 1e-9


def test_the_comparison_with_polyfit_sees_a_wrong_value() -> None:
    known = made_up()
    jobs = random_jobs(known, 50)
    results = forecast_all(jobs, known)
    results[20][3] += 1e-6
    assert largest_error(known, jobs, results) == pytest.approx(1e-6)


def test_made_up_series_are_the_same_every_time_and_in_range() -> None:
    first, second = made_up(), made_up()
    assert first.values.shape == (100, 300)
    assert (first.values == second.values).all()
    assert first.values.min() >= 0
    assert first.values.max() <= 1


def test_the_task_is_found_by_its_module() -> None:
    assert load_tasks("penstock.compute.forecast") == {"forecast": forecast}
    assert (forecast.queue, forecast.batch) == ("forecast", True)


def test_window_and_horizon_have_defaults() -> None:
    plain, spelled = forecast([{"assets": [3]}, {"assets": [3], "window": 10, "horizon": 1}])
    assert plain == spelled == [pytest.approx(by_polyfit(made_up().values[3], 10, 1), abs=1e-9)]


def test_assets_may_be_named() -> None:
    named, counted = forecast([{"assets": ["asset7", 1]}, {"assets": [7, 1]}])
    assert named == counted


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ({"assets": []}, "assets is empty"),
        ({"assets": [100]}, "assets are 0 to 99"),
        ({"assets": [-1]}, "no asset -1"),
        ({"assets": ["gold"]}, "no asset is called 'gold'"),
        ({"assets": [1.5]}, "give list[int | str]"),
        ({"assets": [True]}, "give list[int | str]"),
        ({"assets": 3}, "give list[int | str]"),
        ({"assets": [1], "window": 1}, "give 2 to 300 steps"),
        ({"assets": [1], "window": 301}, "give 2 to 300 steps"),
        ({"assets": [1], "window": "10"}, "give int"),
        ({"assets": [1], "horizon": 0}, "give 1 to"),
        ({"assets": [1], "steps": 3}, "no argument 'steps'"),
        ({}, "needs the argument 'assets'"),
    ],
)
def test_a_wrong_job_is_refused_at_submit_and_fails_alone_when_run(job: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        forecast.check(job)
    assert said in str(refusal.value)
    good, bad, also_good = forecast([{"assets": [1]}, job, {"assets": [2, 3]}])
    assert isinstance(bad, InvalidArgument)
    assert said in str(bad)
    assert (len(good), len(also_good)) == (1, 2)


def test_no_jobs_are_no_results() -> None:
    assert forecast([]) == []


def test_columns_of_a_csv_are_assets() -> None:
    known = read_csv(MACRO)
    assert known.names[2:5] == ["realgdp", "realcons", "realinv"]
    assert known.values.shape == (14, 203)
    assert known.values[2, 0] == 2710.349


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no header"),
        ("a,b\n", "line 2: the file ends after 0 lines"),
        ("a,b\n1,2\n", "line 3: the file ends after 1 lines"),
        ("a,b\n1,2\n3,x\n", "line 3, column 'b': the value is 'x'"),
        ("a,b\n1,2\n,4\n", "line 3, column 'a': the value is empty"),
        ("a,b\n1,2\nnan,4\n", "line 3, column 'a': the value is 'nan'"),
        ("a,b\n1,2\n1,inf\n", "line 3, column 'b': the value is 'inf'"),
        ("a,b\n1,2\n1\n", "line 3: 1 values"),
        ("a,a\n1,2\n3,4\n", "two columns are called 'a'"),
        ("a,\n1,2\n3,4\n", "column 2 has no name"),
    ],
)
def test_a_bad_csv_is_refused_with_line_and_column(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InvalidArgument) as refusal:
        read_csv(path)
    assert said in str(refusal.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(b"a,b\n\xff\xfe,1\n")
    with pytest.raises(InvalidArgument, match="is no CSV file"):
        read_csv(path)


def test_a_missing_csv_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_csv(tmp_path / "nowhere.csv")


def test_the_series_of_a_process_are_those_its_environment_names(tmp_path: Path) -> None:
    path = tmp_path / "two.csv"
    path.write_text("up,down\n1,9\n2,8\n3,7\n")
    code = "from penstock.compute.forecast import forecast; print(forecast([{'assets': ['up', 1], 'window': 3}]))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={VARIABLE: str(path)},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    (values,) = eval(done.stdout)
    assert values == pytest.approx([4.0, 6.0])


def test_a_picture_needs_matplotlib_and_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InvalidArgument, match=r"penstock\[plot\]"):
        plot(None, tmp_path / "x.png")  # type: ignore[arg-type]
