"""The list of faults names every fault, and the tests that show that it is survived."""

import ast
import re
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parents[1] / "docs" / "reference" / "faults.md"
FAULTS = range(1, 33)


def marked() -> dict[int, set[str]]:
    """The modules with a test marked `fault(number)`, by the number."""
    found = defaultdict(set)
    for path in TESTS.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "fault":
                found[ast.literal_eval(node.args[0])].add(path.name)
    return found


def test_every_fault_has_a_test():
    assert sorted(marked()) == list(FAULTS)


def test_the_page_names_the_tests():
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {int(number): sorted(re.findall(r"`(\w+\.py)`", names)) for number, names in rows} == {
        number: sorted(names) for number, names in marked().items()
    }
