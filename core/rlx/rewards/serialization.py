"""What can be sent to the processes of rewards: text, numbers, lists, mappings, dataclasses, arrays and tensors.

The rule of this part: what can't be sent is named by its place in the row: `item['images'][0]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

UNSENDABLE = (TypeError, OverflowError, RecursionError, UnicodeEncodeError)
"""What msgspec raises for it."""


def to_plain(value: Any) -> Any:
    """Msgspec's hook: arrays, tensors and NumPy scalars become lists and numbers; other mappings become dicts."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "keys") and hasattr(value, "__getitem__"):
        return {key: value[key] for key in value.keys()}  # noqa: SIM118 - a mapping by its methods only
    raise TypeError(
        f"a {type(value).__module__}.{type(value).__qualname__} is no plain data "
        "(text, numbers, lists, mappings, arrays)"
    )


def why_unsendable(parts: Mapping[str, Any]) -> str | None:
    """Of the parts of a row (`reference`, `item`), by name, the first that can't be sent, and why; None without one."""
    for name, value in parts.items():
        if (flaw := _flaw(value)) is not None:
            place, reason = flaw
            return f"{name}{place} can't be sent to the processes of rewards: {reason}"
    return None


def _flaw(value: Any) -> tuple[str, str] | None:
    """Where the innermost part is that can't be sent, and why."""
    try:
        msgspec.msgpack.encode(value, enc_hook=to_plain)
    except RecursionError:
        return "", "it holds itself, or is nested too deep"
    except UNSENDABLE as error:
        for place, part in _parts(value):
            if (flaw := _flaw(part)) is not None:
                return f"{place}{flaw[0]}", flaw[1]
        return "", str(error)
    return None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{place}]", part) for place, part in enumerate(value))
