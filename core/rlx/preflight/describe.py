"""The options of a plugin by its kind, for people (`rlx plugins show`) and for editors (`rlx schema`)."""

from __future__ import annotations

import inspect

from pydantic.json_schema import JsonSchemaValue

from rlx.datasets.open import dataset_options, is_factory
from rlx.plugins.options import Option, Options
from rlx.rewards.bound import reward_options


def options(kind: str, target: object) -> list[Option]:
    """Return every option of `target`, in the signature's order; none for a kind or object without `args`."""
    found = _options_of(kind, target)
    return found.shown() if found is not None else []


def args_schema(kind: str, target: object, ref_template: str = "#/$defs/{model}") -> JsonSchemaValue:
    """Return the JSON Schema of `args`. The caller moves its `$defs`, if any, to the place in `ref_template`."""
    found = _options_of(kind, target)
    return found.json_schema(ref_template) if found is not None else {"type": "object", "additionalProperties": False}


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
