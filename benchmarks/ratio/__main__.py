"""`make ratio AGAINST=REVISION`: is this revision as fast as that one? Both are measured in one run.

Runs of both alternate, so that what else the machine does befalls both: each round is before, now, now, before, and
counts as one ratio. A ratio is of speeds: above 1 is faster, also where a time is measured.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import click

from .cases import CASES, Wrong, chosen
from .figures import Pair, ratio_of
from .revision import Revision, checked_out

REPOSITORY = Path(__file__).resolve().parents[2]
LINE = "{case:<16} {before:>14} {now:>14} {ratio:>6}  {span:<14} {sure:>5}  {verdict}"


@click.command(help=__doc__)
@click.argument("against")
@click.option("--of", help="The revision that is looked at.  [default: the files as they are]")
@click.option(
    "--cases", default="", help=f"Which of {', '.join(CASES)}, separated by commas.  [default: without delivery]"
)
@click.option("--rounds", default=6, show_default=True, type=click.IntRange(1), help="Each runs both sides twice.")
@click.option("--floor", default=0.95, show_default=True, type=click.FloatRange(0), help="A lower ratio is a failure.")
@click.option("--json", "as_json", is_flag=True, help="An object a line, with the ratio of every round.")
def main(against: str, of: str | None, cases: str, rounds: int, floor: float, as_json: bool) -> None:
    signal.signal(signal.SIGTERM, _unwind)
    try:
        names = chosen(cases)
        with tempfile.TemporaryDirectory(prefix="penstock-ratio-") as folder:
            before = _prepared(against, Path(folder) / "before")
            now = _prepared(of, Path(folder) / "now")
            click.echo(f"before: {before.name}\nnow:    {now.name}", err=True)
            slower = False
            if not as_json:
                heads = {"before": "before", "now": "now", "ratio": "ratio", "span": "between", "sure": "sure"}
                click.echo(LINE.format(case="case", **heads, verdict=f"at least {floor:g}"))
            for row in _measure(names, before, now, rounds, floor):
                slower = slower or not row["ok"]
                click.echo(json.dumps(row) if as_json else _line(row))
    except Wrong as fault:
        raise click.UsageError(str(fault)) from fault
    sys.exit(int(slower))


def _prepared(revision: str | None, folder: Path) -> Revision:
    if revision is None:
        return Revision("the files as they are", REPOSITORY, folder)
    name, code = checked_out(REPOSITORY, revision, folder)
    return Revision(name, code, folder)


def _measure(names: list[str], before: Revision, now: Revision, rounds: int, floor: float) -> Iterator[dict[str, Any]]:
    for name in names:
        case = CASES[name]
        pairs = []
        figures: dict[Revision, list[float]] = {before: [], now: []}
        for number in range(rounds):
            click.echo(f"{name}: round {number + 1} of {rounds}", err=True)
            speeds = []
            for side in (before, now, now, before):
                row = side.bench(name, case.arguments)
                speeds.append(case.speed(row))
                figures[side].append(float(row[case.figure]))
            pairs.append(Pair((speeds[0], speeds[3]), (speeds[1], speeds[2])))
        ratio = ratio_of([pair.ratio for pair in pairs])
        yield {
            "case": name, "figure": case.figure, "before": _middle(figures[before]), "now": _middle(figures[now]),
            "ratio": round(ratio.median, 4), "low": round(ratio.low, 4), "high": round(ratio.high, 4),
            "sure": round(ratio.sure, 4), "ok": ratio.median >= floor, "ratios": [round(p.ratio, 4) for p in pairs],
        }  # fmt: skip


def _middle(figures: list[float]) -> float:
    return sorted(figures)[len(figures) // 2]


def _line(row: dict[str, Any]) -> str:
    unit = " ms" if row["figure"].endswith("_ms") else "/s"
    shown = {key: f"{row[key]:,.3f}{unit}" if unit == " ms" else f"{row[key]:,.0f}{unit}" for key in ("before", "now")}
    span = f"{row['low']:.3f}-{row['high']:.3f}"
    numbers = {"ratio": f"{row['ratio']:.3f}", "span": span, "sure": f"{row['sure']:.0%}"}
    return LINE.format(case=row["case"], **shown, **numbers, verdict="yes" if row["ok"] else "NO")


def _unwind(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
