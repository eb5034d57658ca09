"""The options of a plugin by its kind, for people (`rlx plugins show`) and for editors (`rlx schema`)."""

from __future__ import annotations

import inspect
from pathlib import Path

from pydantic.json_schema import JsonSchemaValue

from rlx.config.unknown import ComponentOptions
from rlx.datasets.open import dataset_options, is_factory
from rlx.errors import RlxError
from rlx.plugins.catalog import SINGULAR, discover
from rlx.plugins.load import load
from rlx.plugins.options import Option, Options
from rlx.plugins.resolve import resolve
from rlx.rewards.bound import reward_options


def options(kind: str, target: object) -> list[Option]:
    """Return every option of `target`, in the signature's order; none for a kind or object without `args`."""
    found = _options_of(kind, target)
    return found.shown() if found is not None else []


def args_schema(kind: str, target: object, ref_template: str = "#/$defs/{model}") -> JsonSchemaValue:
    """Return the JSON Schema of `args`. The caller moves its `$defs`, if any, to the place in `ref_template`."""
    found = _options_of(kind, target)
    return found.json_schema(ref_template) if found is not None else {"type": "object", "additionalProperties": False}


def component_options(kind: str, name: str, base_dir: Path) -> ComponentOptions | None:
    """Return the options of the component that a config calls `name`; None if it can't be found or imported.

    base_dir: the folder of the config file.
    """
    try:
        found = _options_of(kind, load(resolve(kind, name, discover((kind,)), base_dir)))
    except (RlxError, TypeError, ValueError):  # the latter: a signature that Python can't show
        return None
    owner = f"{SINGULAR[kind]} {name!r}"
    return ComponentOptions(owner, found.names, found.open_ended) if found is not None else ComponentOptions(owner, ())


def _options_of(kind: str, target: object) -> Options | None:
    if not callable(target):
        return None
    if kind == "datasets":
        return dataset_options(target) if is_factory(target) else None
    if kind == "rewards":
        return reward_options(target)
    if kind == "hooks":
        return Options(target) if inspect.isclass(target) else None
    return Options(target) if kind in ("packers", "algorithms") else None
