"""Every rule that must hold has a test that names it: `test_rule_7_...` is a test of rule 7."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
RULES = 31


def test_each_rule_is_named_by_a_test() -> None:
    text = "".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    named = {int(number) for number in re.findall(r"^def test_rule_(\d+)_", text, re.MULTILINE)}
    assert sorted({*range(1, RULES + 1)} - named) == []
