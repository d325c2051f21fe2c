"""The tests' own order: what several modules need lies in tests/helpers."""

import re

import pytest

from tests.helpers import places

TESTS = places.REPOSITORY / "tests"
MODULES = sorted(TESTS.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(TESTS)) for path in MODULES])
def test_no_test_module_is_imported(path):
    """Nor in a program that a test starts."""
    lines = re.findall(r"^\s*(?:from|import) tests\b.*", path.read_text(), re.MULTILINE)
    assert not [line for line in lines if re.search(r"\btest_\w", line)], "move what is shared to tests/helpers"
