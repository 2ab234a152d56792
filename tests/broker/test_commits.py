"""How long commits take, and what is said of slow ones."""

import logging

import pytest

from penstock.broker.commits import SAY_S, SLOW_MS, Commits


class Transaction:
    """Counts how often it was committed."""

    done = 0

    def commit(self) -> None:
        self.done += 1


def test_a_commit_is_made_once_and_counted() -> None:
    commits, txn = Commits(), Transaction()
    commits.end(txn)
    assert (txn.done, commits.count, commits.slow) == (1, 1, 0)
    assert 0 < commits.max_ms < SLOW_MS


def test_the_longest_one_is_kept_and_slow_ones_are_counted() -> None:
    commits = Commits()
    for ms in (1.0, SLOW_MS + 50.0, 3.0, SLOW_MS + 10.0):
        commits.took(ms, 0.0)
    assert (commits.count, commits.slow, commits.max_ms) == (4, 2, SLOW_MS + 50.0)


def test_a_slow_disk_is_said_once_a_minute_with_how_often_it_was_slow(caplog: pytest.LogCaptureFixture) -> None:
    commits = Commits()
    with caplog.at_level(logging.WARNING, logger="penstock.store"):
        commits.took(SLOW_MS * 2.0, 0.0)
        commits.took(SLOW_MS * 2.0, SAY_S / 2)
        commits.took(SLOW_MS * 3.0, SAY_S)
    assert [record.getMessage() for record in caplog.records] == [
        "slow disk: a commit took 500 ms, and everybody waited for it; 1 so far took longer than 250 ms",
        "slow disk: a commit took 750 ms, and everybody waited for it; 3 so far took longer than 250 ms",
    ]
