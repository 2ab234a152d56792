"""The floors of the house: cli over compute and broker, which never meet, over client, over peers."""

from importlinter.cli import lint_imports


def test_no_room_imports_from_a_floor_above_it() -> None:
    assert lint_imports(no_cache=True) == 0
