"""`rlx plugin new KIND NAME`: make a distribution with one working plugin, its tests, README and CI.

Rules:

* The distribution works as it is: it installs, its tests pass, and a config can name it.
* Templates are the files in `templates/`, with placeholders such as `$name`; nothing else is generated.
* Existing files are never overwritten.
"""

from __future__ import annotations

import keyword
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from types import MappingProxyType

import rlx
from rlx.errors import UsageError
from rlx.plugins.catalog import SINGULAR, discover, kind_of
from rlx.plugins.resolve import find_module
from rlx_cli.group import own_commands

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
    """How a config names it; of a command, how it is called."""
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
        "logger": Scaffold(
            "A logger", "loggers", "Logger", '[run]\nloggers = ["console", "jsonl", "tensorboard", "{name}"]'
        ),
        "launcher": Scaffold("A launcher", "launchers", "Launcher", '[run]\nlauncher = "{name}"'),
        "command": Scaffold("A command", "commands", "command", "rlx {name} runs/quickstart"),
    }
)


@dataclass(frozen=True)
class RlxSource:
    """Where the generated CI gets rlx from, if not from the package index."""

    url: str = ""
    """A pip requirement's address: `git+https://...`, or a wheel's."""
    wheel: Path | None = None
    """A wheel, which is copied into the distribution."""

    @classmethod
    def of(cls, text: str) -> RlxSource:
        """Return the source that `--rlx` names. Raises UsageError if it is neither a wheel of rlx nor an address."""
        path = Path(text)
        if path.suffix == ".whl" and "://" not in text:
            if not path.is_file() or not path.name.startswith("rlx-"):
                raise UsageError(
                    f"--rlx {text}: a wheel of rlx of that name does not exist. `pip wheel --no-deps PATH` makes one."
                )
            return cls(wheel=path)
        if "://" not in text:
            raise UsageError(
                f"--rlx {text}: name a wheel of rlx, or an address, as in --rlx git+https://host/owner/rlx or "
                "--rlx https://host/rlx-0.1.0-py3-none-any.whl."
            )
        return cls(url=text if text.startswith("git+") or text.endswith(".whl") else f"git+{text}")

    def ci_steps(self) -> list[str]:
        """Return CI's commands that install rlx, and the distribution with the requirements of its tests."""
        first = [f'python -m pip install "rlx @ {self.url}"'] if self.url else []
        links = f"--find-links {WHEELS} " if self.wheel else ""
        return [*first, f'python -m pip install {links}".[test]"']

    def local_steps(self) -> list[str]:
        """Return the commands by which an author installs the distribution, as an editable one."""
        return [step.removeprefix("python -m ").replace('".[test]"', '-e ".[test]"') for step in self.ci_steps()]


WHEELS = "wheels"
"""Folder of the distribution for a wheel of rlx."""


def new_command(kind: str, name: str, folder: Path | None, rlx_source: str | None = None) -> None:
    """Make the distribution. Raises UsageError for an unknown kind, an unusable name, or a folder that isn't empty."""
    kind = kind_of(kind).removesuffix("s")
    scaffold, module = KINDS[kind], _module(name)
    _check_free(scaffold.group, name)
    target = folder or Path(name)
    source = RlxSource.of(rlx_source) if rlx_source else RlxSource()
    values = _values(kind, name, module, scaffold, source)
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UsageError(f"{target} exists and isn't an empty folder. Choose another one with --dir.")
        for path, text in _rendered(kind, module, values):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_text(text)
        if source.wheel:
            (target / WHEELS).mkdir()
            shutil.copy(source.wheel, target / WHEELS)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"The distribution can't be made in {target}: {reason}. Choose another --dir.") from error
    sys.stdout.write(_next_steps(target, kind, name, source))


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


def _check_free(group: str, name: str) -> None:
    """Raise UsageError if rlx itself has a plugin of that kind and name, which a config would mean."""
    own = own_commands() if group == "commands" else [e.name for e in discover((group,)).entries if e.dist == "rlx"]
    if name in own:
        raise UsageError(f"{name!r} is the name of a {SINGULAR[group]} of rlx's own. Choose another.")


def _values(kind: str, name: str, module: str, scaffold: Scaffold, source: RlxSource) -> dict[str, str]:
    major, minor, *_ = rlx.__version__.split(".")
    return {
        "kind": kind,
        "name": name,
        "module": module,
        "title": scaffold.title,
        "group": scaffold.group,
        "object": scaffold.object,
        "use": _use(kind, name, scaffold),
        "test": scaffold.test,
        "install": "\n".join(source.local_steps()),
        "steps": "\n".join(f"      - run: {step}" for step in source.ci_steps()),
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


def _use(kind: str, name: str, scaffold: Scaffold) -> str:
    """Return the README's paragraph on how to use the plugin."""
    text = scaffold.toml.format(name=name)
    if kind == "command":
        return f"Use it:\n\n```\n{text}\n```\n\n`rlx {name} --help` lists its options."
    return f"In a config:\n\n```toml\n{text}\n```\n\n`rlx plugins show {kind} {name}` lists its options."


def _next_steps(folder: Path, kind: str, name: str, source: RlxSource) -> str:
    last = (
        f"rlx {name} --help"
        if kind == "command"
        else f"rlx plugins show {kind} {name}      # what to write into a config"
    )
    commands = [f"cd {folder}", *source.local_steps(), "pytest", f"rlx plugins check {name}", last]
    lines = "".join(f"    {command}\n" for command in commands)
    return f"Made {KINDS[kind].title.lower()} with tests, README and CI in {folder}. Next:\n\n{lines}"
