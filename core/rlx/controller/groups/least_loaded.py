"""Finds the replica for the next lease: the one with the fewest leases. Ties go to the one that reached this
count first.

Replicas are kept in one bucket for each count, so a choice costs the same with ten replicas and with a thousand.
"""

from __future__ import annotations

from collections.abc import Iterable


class LeastLoaded:
    """Replicas by the number of leases that they hold."""

    def __init__(self, names: Iterable[str]) -> None:
        self._count = dict.fromkeys(names, 0)
        self._buckets: dict[int, dict[str, None]] = {0: dict.fromkeys(self._count)}
        self._lowest = 0

    def take(self) -> str | None:
        """Return the least loaded replica, and count one more lease for it. Returns None without replicas."""
        if not self._count:
            return None
        while not self._buckets.get(self._lowest):
            self._lowest += 1
        name = next(iter(self._buckets[self._lowest]))
        self._move(name, +1)
        return name

    def give_back(self, name: str) -> None:
        """Count one lease less for a replica."""
        self._move(name, -1)
        self._lowest = min(self._lowest, self._count[name])

    def remove(self, name: str) -> None:
        """Remove a replica and its count."""
        count = self._count.pop(name)
        self._leave(name, count)

    def add(self, name: str) -> None:
        """Add a replica that holds no leases."""
        self._count[name] = self._lowest = 0
        self._buckets.setdefault(0, {})[name] = None

    def out(self, name: str) -> int:
        """Return the number of leases that a replica holds."""
        return self._count[name]

    def _move(self, name: str, by: int) -> None:
        before = self._count[name]
        self._count[name] = before + by
        self._leave(name, before)
        self._buckets.setdefault(before + by, {})[name] = None

    def _leave(self, name: str, count: int) -> None:
        bucket = self._buckets[count]
        del bucket[name]
        if not bucket:
            del self._buckets[count]
