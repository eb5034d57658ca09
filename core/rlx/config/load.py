"""Load a TOML file and command-line settings into a validated `Config`.

Later settings win: the file, then `--policy` and `--rollout`, then each `--set` in order. Nothing is guessed: a key
that the schema does not have is an error, wherever it comes from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import tomli
from pydantic import ValidationError

from rlx.config.changes import refusals
from rlx.config.errors import problems, report
from rlx.config.places import Loc, place
from rlx.config.rules import contradictions
from rlx.config.schema import Config
from rlx.config.unknown import FileGuide, OptionsOf
from rlx.errors import ConfigError

LARGEST_FILE = 4 * 2**20
"""Bytes of a config file; one that is larger is something else, as a device file without an end is."""
DEEPEST = 50
"""Levels of tables and lists in each other."""


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A valid config and its source."""

    config: Config
    base_dir: Path
    """Folder that `./file.py:name` is relative to."""
    source: Path
    """The config file."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One change from the command line."""

    path: tuple[str, ...]
    value: object
    origin: str
    """The option as the user typed it."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a `--set`. A value that is not valid TOML is taken as text, so that a command line needs no quotes."""
        key, equals, value = text.partition("=")
        path = tuple(part.strip() for part in key.split("."))
        if not equals or not all(path):
            raise ConfigError(f"--set {text!r}: write key=value, as in --set policy.optimizer.lr=1e-5")
        value = value.strip()
        try:
            parsed = tomli.loads(f"value = {value}")
        except tomli.TOMLDecodeError:
            parsed = {}
        except (ValueError, RecursionError) as error:  # thousands of digits, or of brackets
            raise ConfigError(f"--set {text}: {_unreadable(error)}") from error
        return cls(path, parsed["value"] if set(parsed) == {"value"} else value, f"--set {text}")

    def apply(self, tree: dict[str, object]) -> None:
        """Set the value in a config file's tree, in place. Raises ConfigError if the path leads nowhere."""
        node: dict[str, object] | list[object] = tree
        *sections, last = self.path
        for depth, part in enumerate(sections, 1):
            inner = node[self._index(node, part)] if isinstance(node, list) else node.setdefault(part, {})
            if not isinstance(inner, dict | list):
                raise ConfigError(f"{self.origin}: {'.'.join(self.path[:depth])} is a value, not a section.")
            node = inner
        if isinstance(node, list):
            node[self._index(node, last)] = self.value
        else:
            node[last] = self.value

    def _index(self, entries: list[object], part: str) -> int:
        if not part.isdecimal() or int(part) >= len(entries):
            raise ConfigError(f"{self.origin}: {part!r} is not one of the {len(entries)} entries (counted from 0).")
        return int(part)


def load_config(
    path: Path,
    sets: Sequence[str] = (),
    policy: int | None = None,
    rollout: int | None = None,
    defaults: Mapping[str, object] = MappingProxyType({}),
    options_of: OptionsOf | None = None,
) -> LoadedConfig:
    """Read and check a config file. Raises ConfigError with every problem.

    defaults: tables and keys that the file may leave out because a launch script gives them.
    options_of: for messages about options that are written in the wrong place.
    """
    settings = [*_shortcuts(policy, rollout), *map(Setting.parse, sets)]
    tree = read_toml(path)
    for setting in settings:
        setting.apply(tree)
    _fill(tree, defaults)
    return LoadedConfig(validate(tree, settings, str(path), options_of), path.resolve().parent, path.resolve())


def load_resolved(
    path: Path, base_dir: Path, sets: Sequence[str] = (), policy: int | None = None, rollout: int | None = None
) -> LoadedConfig:
    """Read the `config.json` of a run directory, with changes for a resume.

    Raises ConfigError with every problem, and with every change that a resumed run can't make.
    """
    try:
        tree = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: this is not a run's config: {error}") from error
    earlier = validate(tree, (), str(path))
    settings = [*_shortcuts(policy, rollout), *map(Setting.parse, sets)]
    if not settings:
        return LoadedConfig(earlier, base_dir, path)
    tree = _without_nulls(tree)
    if any(setting.path == ("run", "epochs") for setting in settings):
        tree["run"].pop("steps")  # the steps that the earlier epochs had
    for setting in settings:
        setting.apply(tree)
    config = validate(tree, settings, str(path))
    if refused := refusals(earlier, config):
        advice = "A new run may start from its weights with other settings: `rlx export`, then [model] path."
        raise ConfigError("\n".join(["A resumed run can't change", *(f"  {line}" for line in refused), advice]))
    return LoadedConfig(config, base_dir, path)


def validate(
    tree: Mapping[str, object], settings: Sequence[Setting], name: str, options_of: OptionsOf | None = None
) -> Config:
    """Check `tree` against the schema, then against the rules between sections. Raises ConfigError.

    name: the source of the tree, to begin the message with.
    """
    if excesses := list(_excesses(tree, ())):
        raise ConfigError(report(name, excesses))
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:

        def origin(loc: Loc) -> str:
            path = tuple(map(str, loc))
            found = (setting for setting in reversed(settings) if path[: len(setting.path)] == setting.path)
            return next((f" (from {setting.origin})" for setting in found), "")

        guide = FileGuide(tree, options_of)
        lines = problems(Config, error.errors(include_url=False), origin, guide.explain)
        raise ConfigError(report(name, lines)) from error
    found = contradictions(config)
    if found:
        raise ConfigError(report(name, found))
    return config


def read_toml(path: Path) -> dict[str, object]:
    """Read a file as it is. Raises ConfigError if it is missing, not text, or not TOML (with the line itself)."""
    text = _read_text(path)
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        lines = error.doc.splitlines() or [""]
        line, column = (error.lineno, error.colno) if error.lineno <= len(lines) else (len(lines), len(lines[-1]) + 1)
        shown = f"  {lines[line - 1]}\n  {' ' * (column - 1)}^"
        raise ConfigError(f"{path}, line {line}, column {column}: {error.msg}\n{shown}") from error
    except (ValueError, RecursionError) as error:  # thousands of digits, or of brackets
        raise ConfigError(f"{path}: {_unreadable(error)}") from error


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(f"The config file {str(path)!r} does not exist.") from error
    except IsADirectoryError as error:
        inside = sorted(found.name for found in path.glob("*.toml"))
        files = f"; it holds {', '.join(inside)}" if inside else ""
        raise ConfigError(f"The config file {str(path)!r} is a folder. Name a file in it{files}.") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"The config file {str(path)!r} can't be read: {reason}.") from error
    if len(data) > LARGEST_FILE:
        raise ConfigError(f"{path}: this can't be a config file: it has more than {LARGEST_FILE:,} bytes.")
    try:
        return data.decode("utf-8-sig")  # some editors begin a file with a byte-order mark
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        kind = "it looks like UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else f"see line {line}"
        raise ConfigError(f"{path}: this is not UTF-8 text, so it is not a TOML file; {kind}.") from error


def _unreadable(error: ValueError | RecursionError) -> str:
    """Return the message about text that the TOML reader gives up on."""
    if isinstance(error, RecursionError):
        return f"tables or lists are nested too deeply; {DEEPEST} levels can be read."
    return "an integer has thousands of digits; TOML's have 64 bits."


def _excesses(node: object, path: Loc) -> Iterator[str]:
    """Yield a message for each value that is nested too deeply to be handled, or larger than the 64 bits of TOML."""
    if len(path) > DEEPEST:
        yield f"{place((), path[:3])}: tables or lists are nested too deeply; {DEEPEST} levels can be read"
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _excesses(value, (*path, str(key)))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _excesses(value, (*path, index))
    elif isinstance(node, int) and not -(2**63) <= node < 2**63:
        yield f"{place(path[:1], path[1:])}: this integer is out of range; TOML's have 64 bits"


def _fill(tree: dict[str, object], defaults: Mapping[str, object]) -> None:
    for key, value in defaults.items():
        inner = tree.get(key)
        if isinstance(value, Mapping) and isinstance(inner, dict):
            _fill(inner, value)
        else:
            tree.setdefault(key, value)


def _without_nulls(value: Any) -> Any:
    """Return a JSON value without its nulls, as TOML would have it: `--set` then makes a table where one was null."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _shortcuts(policy: int | None, rollout: int | None) -> list[Setting]:
    settings = []
    if policy is not None:
        settings.append(Setting(("policy", "parallel", "dp_shard"), policy, f"--policy {policy}"))
        settings.append(Setting(("policy", "parallel", "dp_replicate"), 1, f"--policy {policy}"))
    if rollout is not None:
        settings.append(Setting(("rollout", "replicas"), rollout, f"--rollout {rollout}"))
    return settings
