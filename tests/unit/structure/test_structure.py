"""The layout of the source tree: folders that can be browsed, each with a docstring, and prose in plain English."""

from __future__ import annotations

import ast
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CORE = ROOT / "core" / "rlx"
FOLDERS = sorted({path.parent for path in CORE.rglob("*.py")})
SOURCES = sorted(
    path
    for folder in ("core", "cli", "plugins", "examples", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if "tests" not in path.parts
)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
MOST_FILES = 14
PRIVATE_WORDS = re.compile(r"\b(?:told|tells?|teller|lies|so many|is no)\b(?! longer)")
OPENING = r"(?:\A|[.!?:;]\s+|\n\s*\n\s*|\n\s*[*-] |\| )"
FREE_RELATIVE = re.compile(rf"{OPENING}(?:What|Who|Whatever|Whoever|Of which)\b(?![^.\n|]*[?|])")


def prose(path):
    """(line, text) of each docstring, comment and longer string of a Python file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string.lstrip("# ")


def places(paths, pattern):
    return [
        f"{path.relative_to(ROOT)}:{line}: {match.group().strip()!r} in {text[:100]!r}"
        for path in paths
        for line, text in (prose(path) if path.suffix == ".py" else [(0, path.read_text(encoding="utf-8"))])
        for match in pattern.finditer(text)
    ]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(CORE.parent).as_posix())
def test_a_folder_can_be_browsed(folder):
    files = [path.stem for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= MOST_FILES, f"{len(files)} files: make rooms"
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    assert len(docstring.splitlines()) >= 3, "the docstring of __init__.py says what the folder is for"
    if folder not in (CORE, CORE / "api"):  # public: how to use them; docs/architecture.md has the map of the core
        rooms = [path.name for path in folder.iterdir() if (path / "__init__.py").exists()]
        missing = [name for name in [*files, *rooms] if not re.search(rf"\b{name}\b", docstring)]
        assert not missing, "the docstring of __init__.py has a line for each file"


@pytest.mark.parametrize("pattern", [PRIVATE_WORDS, FREE_RELATIVE], ids=["private words", "free relatives"])
@pytest.mark.parametrize("paths", [SOURCES, PAGES], ids=["sources", "pages"])
def test_prose_is_plain_english(paths, pattern):
    assert not places(paths, pattern)
