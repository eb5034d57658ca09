"""The base of every config section: frozen, strict, unknown keys refused, a docstring under each field."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

MANY_STEPS = 1_000_000_000
"""Upper bound of counts of steps."""

Seconds = Annotated[float, Field(ge=1, le=1e9)]
"""A time limit. A second is what a busy machine may pause for; 1e9 is 31 years, and the C library takes no longer waits
than ten times that."""

MAX_TOKENS = 100_000_000
"""Upper bound of counts of tokens: ten times the longest context of any model."""

Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class Section(BaseModel):
    """One table of the config file."""

    REASONS: ClassVar[Mapping[tuple[str, str], str]] = MappingProxyType({})
    """Key and bound ("ge", "le") -> why it has that bound, for the message of a value beyond it."""

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

    kind: ClassVar[str]
    """Kind of plugin that the name is looked up among."""

    name: str = Field(min_length=1)
    """Entry-point name, `dist/name` if two distributions offer it, `./file.py:name` (beside the config), or
    `package.module:name`."""
    args: dict[str, Any] = {}
    """The component's own options, checked against its signature."""
