"""summary.json: what a run came to. Figures are over the whole run (this attempt of it, where it was resumed),
training only.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlx.controller.records.metrics import SyncMetrics, Trained, rate
from rlx.names import CHECKPOINTS, EXPORT, LOGS, METRICS_FILE, TRAJECTORIES
from rlx.plugins.timings import Timing


@dataclass
class Totals:
    """What the summary is made of, collected on the way."""

    step_seconds: list[float] = field(default_factory=list)
    sync_seconds: list[float] = field(default_factory=list)
    logprob_diff_max: float = 0.0
    generate_busy_seconds: float = 0.0
    train_seconds: float = 0.0
    generated_tokens: int = 0
    trained_tokens: float = 0.0
    evaluations: list[dict[str, float]] = field(default_factory=list)
    """Each has `step` and its metrics."""

    def synced(self, figures: SyncMetrics) -> None:
        self.sync_seconds.append(figures.seconds)
        self.logprob_diff_max = max(self.logprob_diff_max, figures.logprob_diff)

    def stepped(self, seconds: float, generate_seconds: float, trained: Trained) -> None:
        self.step_seconds.append(seconds)
        self.generate_busy_seconds += generate_seconds
        self.train_seconds += trained.train_seconds
        self.generated_tokens += trained.generated_tokens
        self.trained_tokens += trained.trained_tokens

    def evaluated(self, version: int) -> bool:
        return any(found["step"] == version for found in self.evaluations)


def summarise(
    totals: Totals,
    *,
    status: str,
    reason: str,
    steps: int,
    seconds: float,
    trained: int,
    dropped: int,
    uninformative: int,
    restarts: int,
    lost: int | None,
    best: Mapping[str, Any] | None,
    run_dir: Path,
    costs: Mapping[str, Timing],
) -> dict[str, Any]:
    """A figure that the run has no value for is None."""
    wall = sum(totals.step_seconds)
    return {
        "status": status,
        "reason": reason,
        "steps": steps,
        "seconds": seconds,
        **_evaluations(totals),
        "best": best,
        "sync/logprob_diff_max": totals.logprob_diff_max if totals.sync_seconds else None,
        "sync/seconds_median": _median(totals.sync_seconds),
        "groups/trained": trained,
        "groups/dropped": dropped,
        "groups/uninformative": uninformative,
        "groups/lost": lost,
        "rollout/restarts": restarts,
        "time/step_median": _median(totals.step_seconds),
        "time/generate_busy": rate(totals.generate_busy_seconds, wall),
        "time/train_busy": rate(totals.train_seconds, wall),
        "tokens/generated_per_s": rate(totals.generated_tokens, totals.generate_busy_seconds),
        "tokens/trained_per_s": rate(totals.trained_tokens, totals.train_seconds),
        "costs": cost_table(costs),
        "paths": paths(run_dir),
    }


def cost_table(costs: Mapping[str, Timing]) -> dict[str, dict[str, float]]:
    """The costliest first."""
    by_seconds = sorted(costs.items(), key=lambda item: -item[1][0])
    return {name: {"seconds": seconds, "calls": calls} for name, (seconds, calls) in by_seconds}


def paths(run_dir: Path) -> dict[str, str]:
    """Where everything lies, relative to nothing: people copy these."""
    return {
        "run_dir": str(run_dir),
        "metrics": str(run_dir / METRICS_FILE),
        "tensorboard": str(run_dir / "tensorboard"),
        "trajectories": str(run_dir / TRAJECTORIES),
        "checkpoints": str(run_dir / CHECKPOINTS),
        "export": str(run_dir / EXPORT),
        "logs": str(run_dir / LOGS),
    }


def _evaluations(totals: Totals) -> dict[str, Any]:
    found = totals.evaluations
    first, last = (found[0], found[-1]) if found else ({}, {})
    names = sorted({name for figures in found for name in figures if name.startswith("eval/")})
    ends = {f"{name}_{end}": figures.get(name) for name in names for end, figures in (("first", first), ("last", last))}
    return {"eval/accuracy_first": None, "eval/accuracy_last": None} | ends | {"evaluations": found}


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None
