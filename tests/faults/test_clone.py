"""A new node is cloned by a cluster that holds a lot, while load goes on. PENSTOCK_FULL=1: a gigabyte; else less."""

import os

from faults.clone import run

SIZE = 1 << 30 if os.environ.get("PENSTOCK_FULL") else 50 << 20


def test_rule_21_a_new_node_clones_everything_and_votes_while_the_primary_stays_and_nothing_is_lost() -> None:
    figures = run(SIZE)
    print(figures)  # noqa: T201 (pytest -s)
    assert figures.backlog_bytes >= SIZE
    assert figures.primary_stayed, "it missed an election time-out"
    assert (figures.lost, figures.duplicates) == (0, 0)
    assert figures.acknowledged
