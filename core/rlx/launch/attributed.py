"""The boundary to a plugin's code before a run: what it raises is the plugin's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from rlx.errors import PluginError, RlxError

T = TypeVar("T")


def attributed(owner: str, what: str, call: Callable[[], T]) -> T:
    """What `call` returns. Raises PluginError with the owner's name for what is no error of rlx's own."""
    try:
        return call()
    except RlxError:
        raise
    except Exception as error:  # the boundary: whatever a plugin raises is the plugin's
        raise PluginError(f"{owner}: {what} raised {type(error).__name__}: {error}") from error
