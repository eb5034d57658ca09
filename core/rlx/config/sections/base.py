"""The base of every config section: frozen, strict, unknown keys refused, a docstring under each field."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """One table of the config file."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        populate_by_name=True,
        protected_namespaces=(),
    )


class Component(Section):
    """A plugin named by the config: `name` is an entry point, `./file.py:name`, or `package.module:name`."""

    name: str = Field(min_length=1)
    """Entry-point name, `dist/name` if two distributions offer it, `./file.py:name` (beside the config), or
    `package.module:name`."""
    args: dict[str, Any] = {}
    """The component's own options, checked against its signature."""
