"""Checks of the hand-written pages: links, paths, names of `rlx`, and the map of the core.

Each check returns one line for each problem. `python docs/build.py --check` runs them all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import rlx

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "core" / "rlx"
ARCHITECTURE = ROOT / "docs" / "architecture.md"

_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_FENCE = re.compile(r"^(`{3,}).*?^\1$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_FOLDERS = ("benchmarks/", "cli/", "core/", "docs/", "examples/", "plugins/", "requirements/", "tests/")
_DOTTED = re.compile(r"\brlx\.(\w+)((?:\.\w+)*)")
_GROUPS = ("algorithms", "commands", "datasets", "hooks", "launchers", "loggers", "models", "packers", "rewards")
_NOT_MODULES = ("api", "schema", "toml", "md", "__all__")
"""`rlx.api` is the deprecated path, `rlx.schema.json` a file name."""
_MADE_UP = ("core/rlx/schedulers", "docs/schedulers.md", "rlx.schedulers", "tests/test_brevity.py")
"""Examples of things to come: of a new kind of component, and of a distribution that `rlx plugin new` makes."""


def markdown_pages() -> list[Path]:
    patterns = ("*.md", "docs/**/*.md", "examples/**/*.md", "plugins/models/*/README.md")
    return sorted(page for pattern in patterns for page in ROOT.glob(pattern))


def dead_links(page: Path) -> Iterator[str]:
    """Relative links whose file, or whose heading in it, does not exist."""
    for target, anchor in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        file = page.parent / target if target else page
        if not file.exists():
            yield f"{target} does not exist"
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
            yield f"{target}#{anchor}: no such heading"


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to a page's headings (without those of repeated headings)."""
    return {
        re.sub(r"[^\w\- ]", "", heading.replace("`", "").strip().lower()).replace(" ", "-")
        for heading in _HEADING.findall(_FENCE.sub("", text))
    }


def missing_paths(page: Path) -> Iterator[str]:
    """Paths of the repository that a page names in `code`, and that do not exist."""
    for code in _CODE.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        path = code.partition("::")[0]
        if path.startswith(_FOLDERS) and " " not in path and "<" not in path and not any(ROOT.glob(path.rstrip("/"))):
            yield f"{code} does not exist"


def unknown_names(page: Path) -> Iterator[str]:
    """`rlx.name` and `rlx.module.name` where neither a public name nor a module of that name exists."""
    for first, rest in _DOTTED.findall(page.read_text(encoding="utf-8")):
        if first in rlx.__all__ or (first in _GROUPS and not rest) or first in _NOT_MODULES:
            continue
        if not _is_module(first) or (rest and not _has_name(f"{first}{rest}".split("."))):
            yield f"rlx.{first}{rest} does not exist"


def _is_module(dotted: str) -> bool:
    path = CORE.joinpath(*dotted.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def _has_name(parts: list[str]) -> bool:
    """Whether `parts` is a module, or a module and a word that its source contains."""
    for count in range(len(parts), 0, -1):
        if _is_module(".".join(parts[:count])):
            path = CORE.joinpath(*parts[:count])
            source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            return count == len(parts) or parts[count] in source.read_text(encoding="utf-8")
    return False


def unmapped_packages(text: str) -> Iterator[str]:
    """Packages of core/rlx that the folder map in docs/architecture.md leaves out, and rows for packages that are gone."""
    packages = {
        path.parent.relative_to(CORE).as_posix() + "/" for path in CORE.glob("**/__init__.py") if path.parent != CORE
    }
    mapped = set(re.findall(r"^\| `([\w/]+/)`", text, re.MULTILINE))
    yield from (f"the folder map has no row for {name}" for name in sorted(packages - mapped))
    yield from (f"the folder map has a row for {name}, which does not exist" for name in sorted(mapped - packages))


def unmapped_modules(text: str) -> Iterator[str]:
    """Modules directly in core/rlx that docs/architecture.md does not name."""
    names = (path.name for path in sorted(CORE.glob("*.py")) if path.stem != "__init__")
    yield from (f"it does not name `{name}` of core/rlx" for name in names if f"`{name}`" not in text)


def problems(pages: Iterable[Path]) -> list[str]:
    """Every problem of every page, with the page's name."""
    found = [
        f"{page.relative_to(ROOT)}: {problem}"
        for page in pages
        for check in (dead_links, missing_paths, unknown_names)
        for problem in check(page)
        if not problem.startswith(_MADE_UP)
    ]
    name, text = ARCHITECTURE.relative_to(ROOT), ARCHITECTURE.read_text(encoding="utf-8")
    return [
        *found,
        *(f"{name}: {problem}" for check in (unmapped_packages, unmapped_modules) for problem in check(text)),
    ]
