"""Resolve a name in the config to a plugin record, without importing the plugin.

A name has one of four forms: an entry-point name, `dist/name` (if two distributions offer one name), `./file.py:name`
(relative to the config's folder) and `package.module:name`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Mapping
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import MappingProxyType

from packaging.requirements import InvalidRequirement, Requirement

from rlx.boot import PluginRecord
from rlx.config.guesses import dataset_meant
from rlx.errors import PluginError, did_you_mean
from rlx.names import VERSION
from rlx.plugins.catalog import OWN, SINGULAR, Catalog, Entry
from rlx.plugins.records import is_file, owner_text, split_target

MODELS: Mapping[str, str] = MappingProxyType({"deepseek_v3": "rlx-plugin-deepseek"})
"""`model_type` -> the distribution outside of rlx that supports it; for messages only."""

_SUFFIXES = (".py", *EXTENSION_SUFFIXES)


def resolve(kind: str, word: str, catalog: Catalog, base_dir: Path) -> PluginRecord:
    """Return the plugin that the config calls `word`.

    Raises PluginError if it is unknown, ambiguous, made for another version of rlx, or a file that doesn't exist.
    """
    place, attribute = split_target(word)
    if is_file(place):
        return _file_record(kind, word.rstrip(":"), place, attribute, base_dir)
    if "://" in word:
        raise PluginError(unknown_message(kind, word, catalog.names(kind)))
    if attribute:
        return _module_record(kind, word, "", "", word)
    found = catalog.named(kind, word)
    if not found:
        raise PluginError(unknown_message(kind, word, catalog.names(kind)))
    entry = catalog.chosen(kind, word)
    if entry is None:
        offers = "\n".join(f"  {one.qualified}  ({one.dist} {one.version}, {one.target})" for one in found)
        raise PluginError(
            f"{SINGULAR[kind]} {word!r} is offered by {len(found)} distributions:\n{offers}\n"
            f"Write the one that you mean, as in {found[0].qualified!r}."
        )
    check_compatible(entry)
    return _module_record(kind, word, entry.dist, entry.version, entry.target)


def hidden_note(record: PluginRecord, catalog: Catalog) -> str:
    """Return a note that other distributions offer the name of this built-in plugin; "" if none does."""
    hidden = catalog.hidden(record.kind, record.name, record.dist) if record.dist == OWN else []
    if not hidden:
        return ""
    others = " and ".join(f"{entry.dist} {entry.version}" for entry in hidden)
    names = " or ".join(repr(entry.qualified) for entry in hidden)
    return (
        f"{SINGULAR[record.kind]} {record.name!r} is the one that comes with rlx. {others} offers that name, too: "
        f"write {names} for it."
    )


def _file_record(kind: str, word: str, place: str, attribute: str, base_dir: Path) -> PluginRecord:
    path = (base_dir / Path(place).expanduser()).resolve()
    try:
        exists, digest = path.is_file(), sha256(path) if path.is_file() else ""
    except (OSError, ValueError) as error:  # too long for a path, not readable, or with a NUL in it
        raise PluginError(f"{SINGULAR[kind]} {word!r}: the file can't be read: {error}") from error
    if not exists:
        raise PluginError(
            f"{SINGULAR[kind]} {word!r}: the file {path} does not exist.\nThe path is relative to the config's folder."
        )
    if not attribute:
        names = _public_names(path)
        listed = f" It has: {', '.join(names)}." if len(names) > 1 else ""
        example = names[0] if names else "name"
        raise PluginError(
            f"{SINGULAR[kind]} {word!r}: say which object of the file to use, as in '{word}:{example}'.{listed}"
        )
    return PluginRecord(kind, word, "", "", f"{path}:{attribute}", digest)


def _public_names(path: Path) -> list[str]:
    """Return the functions and classes that a file defines, read without running it."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError, RecursionError):
        return []
    defined = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    return [name for name in defined if not name.startswith("_")]


def _module_record(kind: str, word: str, dist: str, version: str, target: str) -> PluginRecord:
    module, _ = split_target(target)
    source = find_module(module)
    if source is None:
        hint = "Is its package installed in this environment? For a file beside the config write './file.py:name'."
        if dist:
            hint = f"{dist} {version} names it, but its installation is incomplete: reinstall it."
        raise PluginError(f"{SINGULAR[kind]} {word!r}: the module {module!r} was not found. {hint}")
    return PluginRecord(kind, word, dist, version, target, sha256(source))


def unknown_message(kind: str, word: str, known: list[str]) -> str:
    """Return the message about a name that no distribution offers."""
    names = ", ".join(known) if known else "none"
    return (
        f"Unknown {SINGULAR[kind]} {word!r}.{_meant(kind, word) or did_you_mean(word, known)}\nInstalled: {names}.\n"
        f"Install a distribution that offers it (entry-point group 'rlx.{kind}'), or write './file.py:name' "
        "(beside the config) or 'package.module:name'. `rlx plugins` lists what is installed."
    )


def _meant(kind: str, word: str) -> str:
    """Return a sentence about a word that is a first guess at the name of a component; "" for any other word."""
    if kind == "datasets" and (written := dataset_meant(word)):
        return f" For a file, a folder or a name on the Hub write:\n  {written}"
    if kind == "rewards" and word.startswith(("http://", "https://")):
        return f' For a service write:\n  name = "http", args = {{ url = {json.dumps(word)} }}'
    if kind == "models" and ("/" in word or dataset_meant(word)):
        return " This names the code of a model; the model itself is [model] path."
    module, dot, name = word.rpartition(".")
    if dot and name.isidentifier() and "/" not in word and find_module(module) is not None:
        return f" Did you mean '{module}:{name}'?"
    return ""


def model_hint(model_type: str) -> str | None:
    """Return what to install for a model; None if no distribution is known for it."""
    return f"`pip install {MODELS[model_type]}` brings a plugin for {model_type}." if model_type in MODELS else None


def check_compatible(entry: Entry) -> None:
    """Raise PluginError if the distribution's `Requires-Dist: rlx...` excludes the running version."""
    owner = owner_text(entry.kind, entry.name, entry.dist, entry.version, entry.target)
    for line in entry.requires_rlx:
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            raise PluginError(
                f"{owner} requires {line!r}, which can't be read: {error}\n"
                f"Report it to the authors of {entry.dist}, or try another version."
            ) from error
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and not requirement.specifier.contains(VERSION, prereleases=True):
            raise PluginError(
                f"{owner} wants rlx{requirement.specifier}, but this is rlx {VERSION}.\n"
                f"Install a version of {entry.dist} made for this rlx, or the rlx that it wants."
            )


def find_module(module: str) -> Path | None:
    """Return the file that `import module` would run, or None. Runs no code of the module or its packages.

    `importlib.util.find_spec("a.b")` imports `a`. So only the top package goes through the import system; the rest is a
    walk over its folders.
    """
    top, *inner = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # ValueError: a module without a spec, such as __main__
        return None
    if spec is None:
        return None
    if not inner:
        return Path(spec.origin) if spec.has_location and spec.origin else None
    *parents, last = inner
    for folder in map(Path, spec.submodule_search_locations or ()):
        place = folder.joinpath(*parents)
        for candidate in (place / last / "__init__.py", *(place / f"{last}{suffix}" for suffix in _SUFFIXES)):
            if candidate.is_file():
                return candidate
    return None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
