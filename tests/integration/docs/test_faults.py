"""docs/faults.md: every row names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def rows():
    """Return the rows of the tables, each as (fault, last cell)."""
    lines = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]
    return [(row[0], row[-1]) for row in cells if row[0] != "fault"]


def test_the_page_has_faults():
    assert len(rows()) > 30


@pytest.mark.parametrize(("fault", "test"), rows())
def test_every_fault_has_a_test(fault, test):
    found = re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)`( \|)?", test)
    assert found is not None, f"{fault}: {test}"
    source = (ROOT / found[1]).read_text(encoding="utf-8")
    assert re.search(rf"^(async )?def {found[2]}\(", source, re.MULTILINE), test
