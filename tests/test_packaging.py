"""pyproject.toml lists every folder that is a package: one that is missing would be missing in a wheel only."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("broker", "cli", "client", "compute", "peers", "testing")


def test_every_folder_with_code_is_listed_and_every_listed_one_exists() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("__init__.py")}
    expected = {"penstock": "."} | {f"penstock.{'.'.join(folder.parts)}": str(folder) for folder in folders}
    assert tool["package-dir"] == expected
    assert set(tool["packages"]) == set(expected)


def test_no_folder_with_code_lacks_an_init() -> None:
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), path


def test_the_root_holds_only_the_face() -> None:
    assert [path.name for path in ROOT.glob("*.py")] == ["__init__.py"]
