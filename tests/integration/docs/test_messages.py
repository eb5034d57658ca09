"""Messages that the docs quote are in the code.

A message is compared by pairs of neighbouring words: a string literal of the code must contain the pair, or one of its
words beside a placeholder.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = ("core", "cli", "plugins")
PLACEHOLDER = "\0"
NOT_OURS = {"Expected ']' at the end of a table declaration", "operator torchvision::nms does not exist"}
"""Messages of tomli and torch."""
_ROW = re.compile(r"^\| (`+)(.+?)\1(?:,.*?)? \| ", re.MULTILINE)
_CELL = re.compile(r"^\| [^|`]+ \| (`+)(.+?)\1", re.MULTILINE)
_VALUE = re.compile(r"'[^']*'|\"[^\"]*\"|\([^()]*\)|\S*[/.=\d]\S*|rlx_\w+|\w+Error")
_WORD = re.compile(r"\0|[A-Za-z][\w-]*(?:'\w+)?")


def messages() -> list[str]:
    """Return the messages that the docs quote."""
    troubleshooting = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    before_results = troubleshooting.partition("## A run with poor results")[0]
    plugins = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8").partition("\n## Errors\n")[2]
    return [text for _, text in [*_ROW.findall(before_results), *_CELL.findall(plugins)]]


def words(text: str) -> list[str]:
    return _WORD.findall(text)


def texts_of_code() -> Iterator[str]:
    """Yield every string literal of the code, with a placeholder for each value in it."""
    files = [file for folder in SOURCES for file in (ROOT / folder).glob("**/*.py") if "tests" not in file.parts]
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else PLACEHOLDER for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.fixture(scope="module")
def pairs() -> set[tuple[str, str]]:
    """The pairs of neighbouring words in the string literals of the code."""
    found: set[tuple[str, str]] = set()
    for text in texts_of_code():
        row = [PLACEHOLDER, *words(text), PLACEHOLDER]
        found.update(pairwise(row))
    return found


@pytest.mark.parametrize("message", messages())
def test_a_quoted_message_is_in_the_code(message, pairs):
    fixed = message
    for foreign in NOT_OURS:
        fixed = fixed.replace(foreign, PLACEHOLDER)
    row = words(_VALUE.sub(PLACEHOLDER, fixed.replace("...", PLACEHOLDER)))
    neighbours = [pair for pair in pairwise(row) if PLACEHOLDER not in pair]
    loose = [(a, b) for a, b in neighbours if (a, b) not in pairs]
    missing = [(a, b) for a, b in loose if (a, PLACEHOLDER) not in pairs and (PLACEHOLDER, b) not in pairs]
    assert not missing, f"{message!r}: not in the code: {missing}"
    assert len(loose) <= max(2, len(neighbours) / 2), f"{message!r}: only in part in the code: {loose}"


def test_messages_are_found():
    assert len(messages()) > 50
