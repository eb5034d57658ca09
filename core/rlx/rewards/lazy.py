"""A stand-in for something costly that a reward may never touch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Lazy:
    """Made when an attribute is first read, or when it is first called."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: list[Any] = []

    def get(self) -> Any:
        """The thing itself."""
        if not self._made:
            self._made.append(self._make())
        return self._made[0]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.get(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.get()(*args, **kwargs)
