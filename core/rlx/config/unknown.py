"""Explain keys that the schema does not have: options that belong into `args`, and names of other frameworks.

Rule: one key or table is suggested, or two. A longer list would help nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_origin

from pydantic import BaseModel

from rlx.config.errors import inline
from rlx.config.guesses import SAME_TABLE, dataset_meant, key_meant
from rlx.config.places import Place, branches, is_table, keys, table_of, tables
from rlx.config.schema import Config
from rlx.config.sections.base import Component
from rlx.config.sections.data import DatasetConfig
from rlx.errors import did_you_mean

_LONGEST_ARGS = 120
_MOST_TABLES = 2


@dataclass(frozen=True, slots=True)
class ComponentOptions:
    """The options of a component that a table names."""

    owner: str
    """`dataset 'arithmetic'`."""
    names: Sequence[str]
    open_ended: bool = False
    """Whether it takes options of any name."""


OptionsOf = Callable[[str, str], ComponentOptions | None]
"""Returns the options of a component by its kind and name; None if it can't be found or imported."""


class FileGuide:
    """Explains the unknown and missing keys of a config file."""

    def __init__(self, tree: Mapping[str, object], options_of: OptionsOf | None = None) -> None:
        """tree: the file, with the settings of the command line."""
        self._tree = tree
        self._options_of = options_of

    def explain(self, at: Place, name: str | None, value: object) -> str:
        """Return a sentence about an unknown key of the table `at`, or about the missing key `at`; "" without one."""
        if name is None:
            return self._missing(at)
        table = next(filter(is_table, branches(at.annotation)), None)
        if table is None:
            return ""
        component = self._component(table, at) if issubclass(table, Component) else None
        if component is not None and name in component.names:
            options = [option for option in component.names if option not in keys(table)]
            return f" It is an option of {component.owner}: write {self._args(at, name, value, options)}."
        if component is None and table is DatasetConfig and isinstance(value, str) and (reads := dataset_meant(value)):
            return f" Write {reads}."
        path = ".".join(part for part in at.path if isinstance(part, str))
        here = _called(path, name) if (path, name) in SAME_TABLE else ""
        hint = here or elsewhere(name, value) or _called(path, name) or did_you_mean(name, keys(table))
        if hint or not issubclass(table, Component):
            return hint
        return self._option_hint(table, at, name, value, component)

    def _option_hint(
        self, table: type[Component], at: Place, name: str, value: object, component: ComponentOptions | None
    ) -> str:
        """Return a sentence about a key that may be an option of the table's component."""
        args, known = self._args(at, name, value, ()), f" Keys: {', '.join(keys(table))}."
        if component is None or component.open_ended:
            return f"{known} Options of the component go into args: {args}."
        if near := did_you_mean(name, component.names):
            return f"{near} It is an option of {component.owner}, and options go into args."
        listed = ", ".join(component.names) or "none"
        return f"{known} Options of {component.owner}, which go into args: {listed}."

    def _missing(self, at: Place) -> str:
        if at.key != ("name",) or not at.section or at.section[-1] != "dataset":
            return ""
        table = self._table(at.section)
        found = (dataset_meant(word) for word in table.values() if isinstance(word, str))
        reads = next(filter(None, found), "")
        return f". For this file, folder or Hub name write {reads}" if reads else ". `rlx plugins` lists them"

    def _component(self, table: type[Component], at: Place) -> ComponentOptions | None:
        name = self._table(at.path).get("name", table.model_fields["name"].default)
        if self._options_of is None or not isinstance(name, str) or not name:
            return None
        return self._options_of(table.kind, name)

    def _args(self, at: Place, name: str, value: object, options: Sequence[str]) -> str:
        """Return `args = { ... }` with the args that are there, this key, and other options written beside `name`."""
        written = self._table(at.path)
        args = written.get("args")
        args = {**(args if isinstance(args, dict) else {}), **{key: written[key] for key in written if key in options}}
        text = f"args = {inline({**args, name: value})}"
        return text if len(text) <= _LONGEST_ARGS else f"args = {inline({name: value})}"

    def _table(self, path: Sequence[int | str]) -> Mapping[str, object]:
        node: object = self._tree
        for part in path:
            if isinstance(node, list) and isinstance(part, int) and part < len(node):
                node = node[part]
            else:
                node = node.get(str(part)) if isinstance(node, Mapping) else None
        return node if isinstance(node, Mapping) else {}


def explain_option(where: str, model: type[BaseModel], name: str, listed: str) -> str:
    """Return a sentence about a name that isn't an option of a component.

    where: the place of its `args`: `[[rewards]] number 2, args`. model: its options. listed: these, with their types.
    """
    head, closing, _ = where.partition("]")
    brackets, table = f"{head}{closing * head.count('[')}", head.strip("[")  # `[[rewards]]`, `rewards`
    section = dict(tables(Config)).get(table)
    if section is not None and issubclass(section, Component) and name in keys(section):
        return f" It is a key of {brackets}, beside args and not in it: write it one table up."
    meant = key_meant(f"{table}.args", name) or ""
    inside, _, option = meant.rpartition("] ")
    if inside.strip("[]") == f"{table}.args":
        return f" It is called {option!r} here." if option in keys(model) else f" Options: {listed}."
    near = did_you_mean(name, keys(model)) or elsewhere(name, None, model)
    return near or (f" Write {meant}." if meant else elsewhere(name, None)) or f" Options: {listed}."


def elsewhere(name: str, value: object, model: type[BaseModel] = Config) -> str:
    """Return the table below `model` that has a key of that name; "" if none has, or more than two have."""
    found = [(path, keys(table)[name]) for path, table in tables(model) if path and name in keys(table)]
    if not found or len(found) > _MOST_TABLES:
        return ""
    if isinstance(value, dict) and all(table_of(kind) or get_origin(kind) is dict for _, kind in found):
        return f" Write {' or '.join(f'[{path}.{name}]' for path, _ in found)}."
    return f" It is a key of {' and of '.join(f'[{path}]' for path, _ in found)}."


def _called(path: str, name: str) -> str:
    meant = key_meant(path, name)
    return f" It is called {meant} here." if meant is not None else ""
