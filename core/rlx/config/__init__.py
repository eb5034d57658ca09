"""The TOML schema, one module for each section; strict, frozen, a docstring under each field."""

from __future__ import annotations
