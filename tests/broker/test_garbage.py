"""Full collections of garbage: in quiet moments, seldom, and sooner or later."""

import gc

from penstock.broker.garbage import FORCED_MS, OWED_MS, QUIET_MS, Garbage


class Collections:
    """Counts them."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> None:
        self.made += 1


def test_as_long_as_clients_are_heard_nothing_is_collected_before_the_long_while_is_over() -> None:
    made = Collections()
    garbage = Garbage(0, made)
    for now_ms in range(0, FORCED_MS, QUIET_MS // 2):
        garbage.look(now_ms, heard=True)
    assert made.made == 0
    garbage.look(FORCED_MS, heard=True)
    assert made.made == 1


def test_a_quiet_moment_is_used_once_it_is_owed() -> None:
    made = Collections()
    garbage = Garbage(0, made)
    garbage.look(OWED_MS - 1, heard=False)
    assert made.made == 0
    garbage.look(OWED_MS, heard=False)
    garbage.look(OWED_MS + QUIET_MS, heard=False)
    assert made.made == 1


def test_a_moment_is_not_quiet_while_somebody_was_just_heard() -> None:
    made = Collections()
    garbage = Garbage(0, made)
    garbage.look(OWED_MS, heard=True)
    garbage.look(OWED_MS + QUIET_MS - 1, heard=False)
    assert (made.made, garbage.wait_ms(OWED_MS + QUIET_MS - 1)) == (0, 1)
    garbage.look(OWED_MS + QUIET_MS, heard=False)
    assert (made.made, garbage.wait_ms(OWED_MS + QUIET_MS)) == (1, OWED_MS)


def test_it_waits_no_longer_than_until_it_has_something_to_do() -> None:
    garbage = Garbage(0, Collections())
    assert garbage.wait_ms(0) == OWED_MS
    assert garbage.wait_ms(OWED_MS + 5) == 0


def test_the_process_has_its_settings_back_at_the_end() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with Garbage(0, Collections()):
        assert gc.get_threshold()[:2] == before[:2]
        assert gc.get_threshold()[2] > 1_000_000
        assert gc.get_freeze_count() > frozen
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)
