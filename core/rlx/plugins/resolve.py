"""From a name in the config to a plugin record, without importing the plugin.

Four forms: an entry-point name, `dist/name` (where two distributions offer one name), `./file.py:name` (relative to the
config's folder) and `package.module:name`.
"""

from __future__ import annotations

from pathlib import Path

from rlx.errors import PluginError, did_you_mean
from rlx.launch.boot import PluginRecord
from rlx.plugins.catalog import Catalog, Entry
from rlx.plugins.compat import check_compatible
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
