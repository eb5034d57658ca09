"""Which data can be sent to reward processes: text, numbers, lists, mappings, dataclasses, arrays and tensors.

Rule: data that can't be sent is named by its place in the row: `item['images'][0]`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

UNSENDABLE = (TypeError, OverflowError, RecursionError, UnicodeEncodeError)
"""Raised by msgspec for data that can't be sent."""


def to_plain(value: object) -> object:
    """Convert arrays, tensors and NumPy scalars to lists and numbers, other mappings to dicts (an `enc_hook`)."""
    if hasattr(value, "tolist"):
        plain: object = value.tolist()
        return plain
    if hasattr(value, "keys") and hasattr(value, "__getitem__"):
        return {key: value[key] for key in value.keys()}  # noqa: SIM118 - a mapping by its methods only
    raise TypeError(
        f"a {type(value).__module__}.{type(value).__qualname__} is not plain data "
        "(text, numbers, lists, mappings, arrays)"
    )


def why_unsendable(parts: Mapping[str, object]) -> str | None:
    """Return the reason why a row can't be sent, with the place of the first part that can't; None if it can.

    parts: the parts of the row by name: `reference`, `item`.
    """
    for name, value in parts.items():
        if (flaw := _flaw(value)) is not None:
            place, reason = flaw
            return f"{name}{place} can't be sent to the processes of rewards: {reason}"
    return None


def _flaw(value: object) -> tuple[str, str] | None:
    """Return the place of the innermost part that can't be sent, and the reason."""
    try:
        msgspec.msgpack.encode(value, enc_hook=to_plain)
    except RecursionError:
        return "", "it contains itself, or is nested too deep"
    except UNSENDABLE as error:
        sequence = enumerate(value) if isinstance(value, list | tuple) else ()
        for place, part in value.items() if isinstance(value, Mapping) else sequence:
            if (flaw := _flaw(part)) is not None:
                return f"[{place!r}]{flaw[0]}", flaw[1]
        return "", str(error)
    return None
