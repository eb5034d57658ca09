"""From a name in the config to a plugin record, without importing the plugin.

Four forms: an entry-point name, `dist/name` (where two distributions offer one name), `./file.py:name` (relative to the
config's folder) and `package.module:name`.

Model plugins that exist outside of rlx, so that a user who needs one is told its name.

Data, read where a message is written; nothing else depends on it.

Whether a plugin wants this version of rlx: read from its metadata, before it is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from packaging.requirements import InvalidRequirement, Requirement

from rlx.boot import PluginRecord
from rlx.errors import PluginError, did_you_mean
from rlx.names import VERSION
from rlx.plugins.catalog import Catalog, Entry
from rlx.plugins.kinds import SINGULAR
from rlx.plugins.records import is_file, split_target
from rlx.plugins.source import find_module, sha256


def resolve(kind: str, word: str, catalog: Catalog, base_dir: Path) -> PluginRecord:
    """The plugin that the config calls `word`. Raises PluginError: unknown, ambiguous, incompatible, no such file."""
    place, attribute = split_target(word)
    if is_file(word):
        raise PluginError(_no_attribute(kind, word))
    if is_file(place):
        return _from_file(kind, word, base_dir / Path(place).expanduser(), attribute)
    if attribute:
        return _record(kind, word, "", "", word)
    return _from_entry(kind, word, catalog)


def _from_file(kind: str, word: str, path: Path, attribute: str) -> PluginRecord:
    path = path.resolve()
    if not path.is_file():
        raise PluginError(
            f"{SINGULAR[kind]} {word!r}: there is no file {path}.\n"
            "A file is looked for relative to the config's folder."
        )
    if not attribute:
        raise PluginError(_no_attribute(kind, word.rstrip(":")))
    return PluginRecord(kind, word, "", "", f"{path}:{attribute}", sha256(path))


def _no_attribute(kind: str, word: str) -> str:
    return f"{SINGULAR[kind]} {word!r}: say which object of the file to use, as in '{word}:name'."


def _from_entry(kind: str, word: str, catalog: Catalog) -> PluginRecord:
    found = catalog.named(kind, word)
    if not found:
        raise PluginError(unknown(kind, word, catalog.names(kind)))
    if len(found) > 1:
        raise PluginError(_ambiguous(kind, word, found))
    entry = found[0]
    check_compatible(entry)
    return _record(kind, word, entry.dist, entry.version, entry.target)


def unknown(kind: str, word: str, known: list[str]) -> str:
    """What is said of a name that nobody offers."""
    names = ", ".join(known) if known else "none"
    return (
        f"There is no {SINGULAR[kind]} {word!r}.{did_you_mean(word, known)}\nInstalled: {names}.\n"
        f"Install a distribution that offers it (entry-point group 'rlx.{kind}'), or write './file.py:name' "
        "(beside the config) or 'package.module:name'. `rlx plugins` lists what is installed."
    )


def _ambiguous(kind: str, word: str, found: list[Entry]) -> str:
    offers = "\n".join(f"  {entry.qualified}  ({entry.dist} {entry.version}, {entry.target})" for entry in found)
    return (
        f"{SINGULAR[kind]} {word!r} is offered by {len(found)} distributions:\n{offers}\n"
        f"Write the one that you mean, as in {found[0].qualified!r}."
    )


def _record(kind: str, word: str, dist: str, version: str, target: str) -> PluginRecord:
    module, _ = split_target(target)
    source = find_module(module)
    if source is None:
        provider = f"{dist} {version} names it, but its installation is incomplete: reinstall it." if dist else _HOW
        raise PluginError(f"{SINGULAR[kind]} {word!r}: there is no module {module!r}. {provider}")
    return PluginRecord(kind, word, dist, version, target, sha256(source))


_HOW = "Is its package installed in this environment? For a file beside the config write './file.py:name'."


MODELS: Mapping[str, str] = MappingProxyType({"deepseek_v3": "rlx-plugin-deepseek"})
"""`model_type` -> the distribution that is made for it."""


def model_hint(model_type: str) -> str | None:
    """What to install for a model; None where nothing is known."""
    return f"`pip install {MODELS[model_type]}` brings a plugin for {model_type}." if model_type in MODELS else None


def check_compatible(entry: Entry) -> None:
    """Raises PluginError where the distribution's `Requires-Dist: rlx...` leaves out the running version."""
    for line in entry.requires_rlx:
        requirement = _requirement(entry, line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if not requirement.specifier.contains(VERSION, prereleases=True):
            raise PluginError(
                f"{_owner(entry)} wants rlx{requirement.specifier}, but this is rlx {VERSION}.\n"
                f"Install a version of {entry.dist} made for this rlx, or the rlx that it wants."
            )


def _requirement(entry: Entry, line: str) -> Requirement:
    try:
        return Requirement(line)
    except InvalidRequirement as error:
        raise PluginError(
            f"{_owner(entry)} requires {line!r}, which can't be read: {error}\n"
            f"Report it to the authors of {entry.dist}, or try another version."
        ) from error


def _owner(entry: Entry) -> str:
    return f"{SINGULAR[entry.kind]} {entry.name!r} ({entry.dist} {entry.version}, {entry.target})"
