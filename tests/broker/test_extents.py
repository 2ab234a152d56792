"""Where the messages of a queue lie: looked up on disk once, then known for a while."""

from penstock.broker.extents import KNOWN_MAX, Extent, Known


class Rows:
    """Batches of ten, of any queue; counts how often it is asked."""

    def __init__(self, keys: tuple[str | None, ...] | None = None) -> None:
        self.asked = 0
        self._keys = keys

    def extent(self, queue_id: int, offset: int) -> Extent | None:
        self.asked += 1
        return Extent(offset // 10 * 10, 10, queue_id, 0, 10, 100, 0, True, None, None, self._keys)


def test_an_extent_is_looked_up_once_for_all_of_its_messages_in_any_order() -> None:
    rows = Rows()
    known = Known(rows)
    for offset in (25, 3, 29, 20, 9, 14, 0):
        found = known.extent(1, offset)
        assert found is not None
        assert found.first == offset // 10 * 10
    assert rows.asked == 3


def test_queues_are_told_apart() -> None:
    known = Known(Rows())
    assert [found.home for queue_id in (1, 2, 1) if (found := known.extent(queue_id, 5))] == [1, 2, 1]


def test_what_is_known_is_forgotten_before_it_grows_large() -> None:
    rows = Rows()
    known = Known(rows)
    for number in range(KNOWN_MAX):
        known.extent(1, 10 * number)
    known.extent(1, 0)
    assert rows.asked == KNOWN_MAX
    known.extent(1, 10 * KNOWN_MAX)
    known.extent(1, 0)
    assert rows.asked == KNOWN_MAX + 2


def test_the_keys_of_messages_count_too() -> None:
    rows = Rows(("a",) * 10)
    known = Known(rows)
    for number in range(KNOWN_MAX // 11 + 2):
        known.extent(1, 10 * number)
    before = rows.asked
    known.extent(1, 0)
    assert rows.asked == before + 1


def test_where_there_is_no_row_nothing_is_known() -> None:
    class Nothing:
        def extent(self, queue_id: int, offset: int) -> Extent | None:
            return Extent(0, 10, 1, 0, 10, 100, 0, True) if offset >= 0 and queue_id == 1 else None

    known = Known(Nothing())
    assert known.extent(2, 5) is None
    found = known.extent(1, 15)  # the last row below it ends before it
    assert found is not None
    assert known.extent(1, 15) == found
