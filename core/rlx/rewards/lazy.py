"""A proxy for an object that is expensive to make and that a reward may never use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Lazy(Generic[T_co]):
    """Proxy for an object that is made when an attribute is first read, or when it is first called."""

    def __init__(self, make: Callable[[], T_co]) -> None:
        self._make = make
        self._made: list[T_co] = []

    def get(self) -> T_co:
        """Return the object itself; makes it at the first call."""
        if not self._made:
            self._made.append(self._make())
        return self._made[0]

    def __getattr__(self, name: str) -> object:
        return getattr(self.get(), name)

    def __call__(self, *args: object, **kwargs: object) -> object:
        call: Any = self.get()
        return call(*args, **kwargs)
