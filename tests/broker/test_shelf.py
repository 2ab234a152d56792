"""The shelf against a plain dict: what waits, in which order it comes, and what of it is written."""

from __future__ import annotations

from random import Random

import pytest

from penstock.broker.dues import LOOKED_MAX, Dues
from penstock.broker.shelf import BLOCKED, HELD, NEVER, READY, STALE_MAX, Shelf, Spot
from penstock.broker.shelf_cells import chunks_of


def dice_spots(dice: Random, count: int) -> list[Spot]:
    """Spots that do not overlap, some of them over the border of a chunk."""
    spots, first = [], 0
    for _ in range(count):
        first += dice.choice([0, 0, 1, 700])
        end = first + dice.choice([1, 1, 3, 900])
        due_ms = dice.choice([READY, READY, HELD, BLOCKED, dice.randrange(1, 5_000)])
        expires_ms = dice.choice([0, 0, dice.randrange(1, 5_000)])
        spots.append(
            Spot(first, end, dice.randrange(3), dice.randrange(3), dice.choice([0, 0, 5, 9]), due_ms, expires_ms)
        )
        first = end
    return spots


def by_offset(spots: list[Spot]) -> dict[int, tuple[int, ...]]:
    return {offset: tuple(spot[2:]) for spot in spots for offset in range(spot.first, spot.end)}


def filled(spots: list[Spot], dice: Random) -> Shelf:
    shelf = Shelf()
    for spot in dice.sample(spots, len(spots)):
        shelf.put(spot)
    return shelf


def written(shelf: Shelf, disk: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The disk, told what changed."""
    for key, value in shelf.take_cells().items():
        if value is None:
            disk.pop(key, None)
        else:
            disk[key] = value
    return disk


def restored(disk: dict[bytes, bytes]) -> Shelf:
    shelf = Shelf()
    for chunk in chunks_of(sorted(disk.items())):
        shelf.restore(*chunk)
    return shelf


def counts(shelf: Shelf, now_ms: int) -> tuple[int, ...]:
    return shelf.total, shelf.ready, shelf.held, shelf.blocked, shelf.delayed, shelf.ripe(now_ms)


@pytest.mark.parametrize("seed", range(30))
def test_what_was_put_is_found_counted_and_restored(seed: int) -> None:
    dice = Random(seed)
    spots = dice_spots(dice, 40)
    shelf, plain = filled(spots, dice), by_offset(spots)
    for offset in dice.sample(sorted(plain), len(plain) // 3):
        taken = shelf.take(offset)
        assert taken is not None
        assert taken[2:] == plain.pop(offset)
        assert shelf.take(offset) is None
    assert by_offset(list(shelf.spots())) == plain
    now_ms = dice.randrange(5_000)
    dues = [fields[3] for fields in plain.values()]
    delayed = [due_ms for due_ms in dues if due_ms > 0]
    ripe = sum(due_ms <= now_ms for due_ms in delayed)
    expected = (len(dues), dues.count(READY), dues.count(HELD), dues.count(BLOCKED), len(delayed), ripe)
    assert counts(shelf, now_ms) == expected
    other = restored(written(shelf, {}))
    assert other.pack() == shelf.pack()
    assert counts(other, now_ms) == expected
    assert shelf.take_cells() == {}, "what was written is not written again"


@pytest.mark.parametrize("seed", range(30))
def test_what_is_written_in_many_steps_is_what_is_there_however_it_came_and_went(seed: int) -> None:
    dice = Random(seed)
    shelf, disk = Shelf(), dict[bytes, bytes]()
    for spot in dice_spots(dice, 400):
        shelf.put(spot)
    for _ in range(40):
        spots = list(shelf.spots())
        for spot in dice.sample(spots, min(len(spots), dice.choice([1, 5, 40]))):
            match dice.randrange(6):
                case 0 if spot.end - spot.first > 1:
                    shelf.take(dice.randrange(spot.first, spot.end))
                case 1:
                    shelf.remove(spot)
                    shelf.put(spot._replace(attempt=spot.attempt + 1))
                case _:
                    shelf.remove(spot)
        if dice.randrange(15) == 0:
            shelf.clear()
            for spot in dice_spots(dice, 100):
                shelf.put(spot)
        written(shelf, disk)
        other = restored(disk)
        assert other.pack() == shelf.pack()
        if dice.randrange(4) == 0:  # a restart: it goes on from what it has read
            shelf = other
    assert shelf.take_cells() == {}


def test_what_is_gone_here_and_there_is_told_by_a_bit_and_a_chunk_of_which_little_is_left_is_written_anew() -> None:
    shelf, disk = Shelf(), dict[bytes, bytes]()
    for first in range(4096):
        shelf.put(Spot(first, first + 1, 0, 0, 0, 1_000 + first, 0))
    assert sum(map(len, written(shelf, disk).values())) == 4096 * 56
    shelf.take(5)
    shelf.take(1_030)
    changed = shelf.take_cells()
    assert [len(value or b"") for value in changed.values()] == [128, 128]
    disk.update({key: value for key, value in changed.items() if value is not None})
    for first in range(10, 1_020):
        shelf.take(first)
    changed = shelf.take_cells()
    assert [None if value is None else len(value) for value in changed.values()] == [13 * 56, None]
    for first in range(1_024, 2_048):
        shelf.take(first)
    assert list(shelf.take_cells().values()) == [None, None]


@pytest.mark.parametrize("seed", range(30))
def test_the_most_urgent_comes_first_then_what_waits_longest(seed: int) -> None:
    dice = Random(seed)
    spots = [spot._replace(end=spot.first + 1) for spot in dice_spots(dice, 60)]
    shelf = filled(spots, dice)
    now_ms = dice.randrange(5_000)
    ready = [spot for spot in spots if spot.due_ms == READY or 0 < spot.due_ms <= now_ms]
    ready.sort(key=lambda spot: (-spot.priority, spot.due_ms, spot.first))
    assert shelf.has_ready(now_ms) == bool(ready)
    given = []
    for priority in shelf.priorities():
        while (spot := shelf.next_ready(priority, now_ms)) is not None:
            shelf.remove(spot)
            given.append(spot)
    assert given == ready
    assert not shelf.has_ready(now_ms)


@pytest.mark.parametrize("seed", range(10))
def test_what_outlived_its_time_is_found_in_the_order_of_its_end(seed: int) -> None:
    dice = Random(seed)
    spots = [spot._replace(end=spot.first + 1) for spot in dice_spots(dice, 60)]
    shelf = filled(spots, dice)
    found = []
    while (spot := shelf.next_expired(3_000)) is not None:
        shelf.remove(spot)
        found.append((spot.expires_ms, spot.first))
    assert found == sorted((spot.expires_ms, spot.first) for spot in spots if 0 < spot.expires_ms <= 3_000)


def test_only_what_changed_is_written() -> None:
    shelf = Shelf()
    for first in (0, 5_000, 9_000):
        shelf.put(Spot(first, first + 1, 0, 0, 0, READY, 0))
    shelf.take_cells()
    shelf.take(5_000)
    shelf.put(Spot(9_001, 9_002, 0, 0, 0, READY, 0))
    changed = shelf.take_cells()
    assert [packed is None for packed in changed.values()] == [True, True, False]


def test_a_cleared_shelf_says_that_all_of_it_is_gone() -> None:
    shelf = Shelf()
    shelf.put(Spot(0, 1, 0, 0, 0, READY, 0))
    shelf.put(Spot(3_000, 3_001, 0, 0, 0, 77, 0))
    shelf.take_cells()
    shelf.clear()
    assert list(shelf.take_cells().values()) == [None, None]
    assert shelf.total == 0
    assert shelf.next_due_ms(100) is None


def test_what_is_far_away_is_packed_and_comes_in_order() -> None:
    dice = Random(1)
    pairs = [(dice.randrange(10**7), offset) for offset in range(2_000)]
    dues = Dues()
    for pair in pairs[:1_000]:
        dues.add(*pair)
    given, now_ms = [], 0
    while len(given) < len(pairs):
        assert dues.next_ms(now_ms) == min(pairs[: 1_000 if now_ms < 5 * 10**6 else 2_000])[0] or given
        now_ms += 100_000
        while (pair := dues.first(now_ms)) is not None:
            given.append(dues.pop())
            assert pair == given[-1]
        if now_ms == 5 * 10**6:  # some of these are due long since
            for pair in pairs[1_000:]:
                dues.add(*pair)
    assert sorted(given) == sorted(pairs)
    assert given[-500:] == sorted(given[-500:])
    assert dues.next_ms(0) is None


@pytest.mark.parametrize("seed", range(10))
def test_what_no_longer_holds_is_thinned_out_and_the_rest_comes_in_order(seed: int) -> None:
    dice = Random(seed)
    pairs = [(dice.randrange(2_000, 100_000), offset) for offset in range(500)]
    stale = set(dice.sample(pairs, 400))
    dues = Dues()
    for pair in pairs:
        dues.add(*pair)
    for _ in range(100):
        dues.thin(lambda due_ms, offset: (due_ms, offset) not in stale)
    for pair in (more := [(dice.randrange(1, 100_000), offset) for offset in range(500, 600)]):
        dues.add(*pair)
    left = sorted({*pairs} - stale | {*more})
    assert dues.count == len(left)
    now_ms, given = 0, []
    while (next_ms := dues.next_ms(now_ms)) is not None:
        assert next_ms > now_ms
        assert next_ms <= left[len(given)][0], "nobody is woken late"
        now_ms = next_ms
        while dues.first(now_ms) is not None:
            given.append(dues.pop())
    assert given == left
    assert dues.count == 0


@pytest.mark.parametrize(("ripe", "late_ms"), [(1, 0), (10 * LOOKED_MAX, 1_024)])
def test_the_next_one_is_known_although_something_ripe_is_not_taken(ripe: int, late_ms: int) -> None:
    """Behind very many of them it is known to the bucket."""
    shelf = Shelf()
    for first, due_ms in enumerate([1_100] * ripe + [1_500, 9_000]):
        shelf.put(Spot(first, first + 1, 0, 0, 0, due_ms, NEVER))
    woken, now_ms = [], 1_100
    while (next_ms := shelf.next_due_ms(now_ms)) is not None:
        assert next_ms > now_ms
        woken.append(next_ms)
        now_ms = next_ms
    assert any(1_500 <= at_ms <= 1_500 + late_ms for at_ms in woken)
    assert 9_000 in woken
    assert len(woken) <= 3


@pytest.mark.parametrize("field", ["due_ms", "expires_ms"])
def test_times_of_what_was_taken_long_before_them_do_not_pile_up(field: str) -> None:
    shelf = Shelf()
    kept = Spot(10**6, 10**6 + 1, 0, 0, 0, READY, NEVER)._replace(**{field: 10**9})
    shelf.put(kept)
    for offset in range(5 * STALE_MAX):
        spot = Spot(offset, offset + 1, 0, 0, 0, READY, NEVER)._replace(**{field: 10**8 + offset})
        shelf.put(spot)
        shelf.remove(spot)
    dues = shelf.expiries if field == "expires_ms" else shelf._dues[0]
    assert dues.count <= STALE_MAX + 4
    next_ms = shelf.next_due_ms(10**9) if field == "due_ms" else shelf.next_expiry_ms(10**9)
    assert next_ms is None or next_ms > 10**9
    assert (shelf.next_expired(10**9) if field == "expires_ms" else shelf.next_due(0, 10**9)) == kept


@pytest.mark.parametrize("seed", range(30))
def test_what_comes_first_is_found_without_looking_at_everything(seed: int) -> None:
    dice = Random(seed)
    spots = dice_spots(dice, 60)
    shelf, now_ms = filled(spots, dice), dice.randrange(5_000)
    for spot in dice.sample(list(shelf.spots()), 20):  # what comes back is listed twice
        shelf.remove(spot)
        shelf.put(spot)
    there = [spot for spot in shelf.spots() if not 0 < spot.expires_ms <= now_ms]
    ready = [spot for spot in there if READY <= spot.due_ms <= now_ms]
    assert list(shelf.ready_spots(now_ms)) == ready
    assert list(shelf.ready_spots(now_ms, blocked=True)) == [
        spot for spot in there if READY <= spot.due_ms <= now_ms or spot.due_ms == BLOCKED
    ]
    for count in (1, 3, 1000):
        expected = []
        for priority in sorted({spot.priority for spot in ready}, reverse=True):
            own = [spot for spot in ready if spot.priority == priority]
            expected += [spot for spot in own if spot.due_ms == READY][:count]
            expected += sorted((it for it in own if it.due_ms > 0), key=lambda it: (it.due_ms, it.first))[:count]
        assert list(shelf.first_ready(now_ms, count)) == expected
    assert by_offset(list(shelf.spots())) == by_offset(spots), "nothing has changed"
