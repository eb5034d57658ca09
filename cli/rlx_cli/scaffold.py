"""`rlx plugin new KIND NAME`: make a distribution with one working plugin, its tests, README and CI.

Rules:

* The distribution works as it is: it installs, its tests pass, and a config can name it.
* Templates are the files in `templates/`, with placeholders such as `$name`; nothing else is generated.
* Existing files are never overwritten.
"""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from types import MappingProxyType

import rlx
from rlx.errors import UsageError
from rlx.plugins.catalog import SINGULAR, kind_of
from rlx.plugins.resolve import find_module

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[_-][A-Za-z0-9]+)*")
_TRAIN = ', "rlx[train]"'


@dataclass(frozen=True)
class Scaffold:
    """Differences between kinds, besides the templates of the module and its tests."""

    title: str
    group: str
    object: str
    """Name of the class, function or object."""
    toml: str
    test: str = ""
    """Further requirements of its tests. At run time, torch comes with rlx."""


KINDS: Mapping[str, Scaffold] = MappingProxyType(
    {
        "reward": Scaffold("A reward", "rewards", "reward", '[[rewards]]\nname = "{name}"'),
        "dataset": Scaffold("A dataset", "datasets", "Rows", '[dataset]\nname = "{name}"\nargs = {{ high = 10 }}'),
        "packer": Scaffold("A data packer", "packers", "Packer", '[packer]\nname = "{name}"'),
        "model": Scaffold("A model", "models", "plugin", '[model]\nplugin = "{name}"', _TRAIN),
        "algorithm": Scaffold("An algorithm", "algorithms", "Algorithm", '[algorithm]\nname = "{name}"', _TRAIN),
        "hook": Scaffold("Hooks", "hooks", "Hooks", '[plugins]\nenable = ["{name}"]'),
    }
)


def new_command(kind: str, name: str, folder: Path | None) -> None:
    """Make the distribution. Raises UsageError for an unknown kind, an unusable name, or a folder that isn't empty."""
    kind = _kind(kind)
    scaffold, module = KINDS[kind], _module(name)
    target = folder or Path(name)
    values = _values(kind, name, module, scaffold)
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UsageError(f"{target} exists and isn't an empty folder. Choose another one with --dir.")
        for path, text in _rendered(kind, module, values):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_text(text)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"The distribution can't be made in {target}: {reason}. Choose another --dir.") from error
    sys.stdout.write(_next_steps(target, kind, name))


def _kind(word: str) -> str:
    """Return the key of KINDS that a user calls `reward` or `rewards`."""
    kind = kind_of(word).removesuffix("s")
    if kind not in KINDS:
        raise UsageError(f"`rlx plugin new` makes no {SINGULAR[f'{kind}s']}. Kinds: {', '.join(KINDS)}.")
    return kind


def _module(name: str) -> str:
    module = name.replace("-", "_").lower()
    if not _NAME.fullmatch(name) or keyword.iskeyword(module):
        raise UsageError(
            f"{name!r} can't be the name of a distribution and its module. "
            "Use letters and digits, with single - or _ between them, a letter first."
        )
    if module in sys.stdlib_module_names or find_module(module) is not None:
        raise UsageError(f"{name!r}: a module {module!r} exists already. Choose another name.")
    return module


def _values(kind: str, name: str, module: str, scaffold: Scaffold) -> dict[str, str]:
    major, minor, *_ = rlx.__version__.split(".")
    return {
        "kind": kind,
        "name": name,
        "module": module,
        "title": scaffold.title,
        "group": scaffold.group,
        "object": scaffold.object,
        "toml": scaffold.toml.format(name=name),
        "test": scaffold.test,
        "compatible": f">={major}.{minor},<{major}.{int(minor) + 1}",
    }


def _rendered(kind: str, module: str, values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the path (within the distribution) and text of each file."""
    places = {
        "pyproject.toml": "common/pyproject.toml",
        "README.md": "common/README.md",
        ".gitignore": "common/gitignore",
        ".github/workflows/ci.yml": "common/ci.yml",
        f"src/{module}/__init__.py": f"{kind}/module.py",
        f"tests/test_{module}.py": f"{kind}/test.py",
    }
    templates = files("rlx_cli") / "templates"
    for path, template in places.items():
        yield path, Template((templates / f"{template}.tmpl").read_text()).substitute(values)
    yield f"src/{module}/py.typed", ""


def _next_steps(folder: Path, kind: str, name: str) -> str:
    return (
        f"Made {KINDS[kind].title.lower()} with tests, README and CI in {folder}. Next:\n\n"
        f"    cd {folder}\n"
        '    pip install -e ".[test]"\n'
        "    pytest\n"
        f"    rlx plugins check {name}\n"
        f"    rlx plugins show {kind} {name}      # what to write into a config\n"
    )
