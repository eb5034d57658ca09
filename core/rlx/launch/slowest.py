"""The rewards and hooks that cost most, for the end of a run: in the manner of pytest's --durations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST = 10
LEAST_SECONDS = 0.5
LEAST_SHARE = 0.01
"""Of the run's time: what costs less is not shown."""


def slowest(summary: Mapping[str, Any]) -> str:
    """A table; empty where nothing cost enough to be told."""
    seconds = summary.get("seconds", 0.0)
    least = max(LEAST_SECONDS, LEAST_SHARE * seconds)
    costs = sorted(summary.get("costs", {}).items(), key=lambda item: -item[1]["seconds"])
    shown = [(name, cost) for name, cost in costs if cost["seconds"] >= least][:MOST]
    if not shown:
        return ""
    head = f"Slowest rewards and hooks (seconds, calls; all processes together, in a run of {seconds:.0f} s):"
    return "\n".join([head, *(f"{cost['seconds']:>10.2f} {cost['calls']:>9}  {name}" for name, cost in shown)])
