"""Which disk a node is on: the first one that is heard of counts, for good."""

from penstock.peers.presence import Disks, Presence, Refusal


def test_rule_7_the_first_disk_of_a_node_counts_and_is_to_be_kept() -> None:
    disks = Disks(1, 100, {})
    assert disks.meet(2, 200)
    assert disks.is_fresh
    assert disks.known == {2: 200}
    assert disks.meet(2, 200)
    assert not disks.meet(2, 201)
    assert disks.known == {2: 200}


def test_what_was_known_before_a_restart_is_not_kept_anew() -> None:
    disks = Disks(1, 100, {2: 200})
    assert disks.meet(2, 200)
    assert not disks.is_fresh
    assert not disks.meet(2, 201)


def test_a_node_that_is_known_on_another_disk_is_told_so() -> None:
    disks = Disks(1, 100, {})
    disks.hear(Presence(2, 0, True))
    assert (disks.witnesses, disks.refusal) == (set(), None)
    disks.hear(Presence(2, 100, False))
    assert (disks.witnesses, disks.refusal) == ({2}, None)
    disks.hear(Presence(3, 99, False))
    assert (disks.witnesses, disks.refusal) == ({2}, Refusal(3, 99))


def test_what_the_log_says_of_disks_wins() -> None:
    disks = Disks(1, 100, {2: 201})
    disks.declare({1: 100, 2: 200})
    assert disks.is_fresh
    assert disks.meet(2, 200)
    assert not disks.meet(2, 201)


def test_who_has_left_is_forgotten() -> None:
    disks = Disks(1, 100, {1: 100, 2: 200, 3: 300})
    disks.retain({2, 3})
    assert not disks.is_fresh
    disks.retain({2})
    assert disks.is_fresh
    assert disks.known == {1: 100, 2: 200}


def test_a_founder_that_all_know_stays_admitted() -> None:
    disks = Disks(1, 100, {2: 200})
    assert not disks.is_admitted
    disks.admit()
    assert disks.is_fresh
    assert Disks(1, 100, disks.known).is_admitted
    assert not Disks(1, 101, disks.known).is_admitted
