"""The content of summary.json.

Its metrics cover training over the whole run; after a resume, over this attempt of it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import structs

from rlx.controller.records.metrics import SyncMetrics, TrainedStep, dropped_rows, ratio
from rlx.names import CHECKPOINTS, EXPORT, LOGS, METRICS_FILE, TRAJECTORIES
from rlx.plugins.timings import Timing
from rlx.transport.messages import BadRow


@dataclass
class Totals:
    """Sums and lists that grow while the run trains."""

    step_seconds: list[float] = field(default_factory=list)
    sync_seconds: list[float] = field(default_factory=list)
    logprob_diff_max: float = 0.0
    generate_busy_seconds: float = 0.0
    train_seconds: float = 0.0
    generated_tokens: int = 0
    trained_tokens: float = 0.0
    checkpoint_blocked_seconds: float = 0.0
    """Time that training stopped for checkpoints."""
    checkpoint_write_seconds: float = 0.0
    """Time that the files of checkpoints took, beside training."""
    evaluations: list[dict[str, float]] = field(default_factory=list)
    """Metrics of each evaluation, and its version as `step`."""
    evaluations_skipped: int = 0
    """Evaluations that fell due and were not made, since another one was out."""

    def add_sync(self, metrics: SyncMetrics) -> None:
        self.sync_seconds.append(metrics.seconds)
        self.logprob_diff_max = max(self.logprob_diff_max, metrics.logprob_diff)

    def add_step(self, seconds: float, generate_seconds: float, trained: TrainedStep) -> None:
        self.step_seconds.append(seconds)
        self.generate_busy_seconds += generate_seconds
        self.train_seconds += trained.train_seconds
        self.generated_tokens += trained.generated_tokens
        self.trained_tokens += trained.trained_tokens

    def has_evaluated(self, version: int) -> bool:
        return any(evaluation["step"] == version for evaluation in self.evaluations)


@dataclass(frozen=True)
class GroupCounts:
    """Groups and replicas over the whole run; the defaults are those of a run without replicas."""

    untrained: list[int] = field(default_factory=list)
    """Ids below the frontier that are neither trained nor dropped, sorted."""
    next_group_id: int = 0
    """The frontier: the first id that was never leased; in SFT, the next position in the order of rows."""
    dropped: int = 0
    """Groups dropped because they failed."""
    uninformative: int = 0
    """Groups dropped because their rewards do not differ."""
    bad_rows: Mapping[str, int] = field(default_factory=dict)
    """Reason -> training rows dropped because they can't be used."""
    named_rows: Sequence[BadRow] = ()
    """The first rows of each dataset that were dropped."""
    restarts: int = 0
    """Restarts of replicas that died."""


@dataclass(frozen=True)
class RunResult:
    """The values of summary.json that are not in `Totals`."""

    status: str
    run_dir: Path
    reason: str = ""
    steps: int = 0
    seconds: float = 0.0
    trained: int = 0
    """Groups trained."""
    counts: GroupCounts = field(default_factory=GroupCounts)
    lost: int | None = 0
    """Groups that the ledger does not account for; None if it could not be read."""
    best: Mapping[str, object] | None = None
    """The entry `best`: see `Best.entry`."""
    timings: Mapping[str, Timing] = field(default_factory=dict)
    hooks_failed: Mapping[str, int] = field(default_factory=dict)
    """Plugin -> number of failed hook calls, for plugins in `[plugins] best_effort`."""
    policy_restarts: int = 0
    """Restarts of a policy that died."""


def summarise(result: RunResult, totals: Totals) -> dict[str, object]:
    """Return the content of summary.json. A value that the run does not have is None."""
    wall = sum(totals.step_seconds)
    return {
        "status": result.status,
        "reason": result.reason,
        "steps": result.steps,
        "seconds": result.seconds,
        **_evaluations(totals),
        "eval/skipped": totals.evaluations_skipped,
        "best": result.best,
        "sync/logprob_diff_max": totals.logprob_diff_max if totals.sync_seconds else None,
        "sync/seconds_median": _median(totals.sync_seconds),
        "groups/trained": result.trained,
        "groups/dropped": result.counts.dropped,
        "groups/uninformative": result.counts.uninformative,
        "groups/lost": result.lost,
        **dropped_rows(result.counts.bad_rows),
        "bad_rows": [structs.asdict(bad) for bad in result.counts.named_rows],
        "rollout/restarts": result.counts.restarts,
        "policy/restarts": result.policy_restarts,
        "time/step_median": _median(totals.step_seconds),
        "time/generate_busy": ratio(totals.generate_busy_seconds, wall),
        "time/train_busy": ratio(totals.train_seconds, wall),
        "time/checkpoint_blocked": totals.checkpoint_blocked_seconds,
        "time/checkpoint_write": totals.checkpoint_write_seconds,
        "tokens/generated_per_s": ratio(totals.generated_tokens, totals.generate_busy_seconds),
        "tokens/trained_per_s": ratio(totals.trained_tokens, totals.train_seconds),
        "costs": timing_table(result.timings),
        "hooks_failed": dict(result.hooks_failed),
        "paths": paths(result.run_dir),
    }


def timing_table(timings: Mapping[str, Timing]) -> dict[str, dict[str, float]]:
    """Return seconds and calls by name, most seconds first."""
    by_seconds = sorted(timings.items(), key=lambda item: -item[1][0])
    return {name: {"seconds": seconds, "calls": calls} for name, (seconds, calls) in by_seconds}


def paths(run_dir: Path) -> dict[str, str]:
    """Return the paths of the run's files. They are absolute if `run_dir` is, since people copy them."""
    return {
        "run_dir": str(run_dir),
        "metrics": str(run_dir / METRICS_FILE),
        "tensorboard": str(run_dir / "tensorboard"),
        "trajectories": str(run_dir / TRAJECTORIES),
        "checkpoints": str(run_dir / CHECKPOINTS),
        "export": str(run_dir / EXPORT),
        "logs": str(run_dir / LOGS),
    }


def _evaluations(totals: Totals) -> dict[str, object]:
    found = totals.evaluations
    first, last = (found[0], found[-1]) if found else ({}, {})
    names = sorted({name for metrics in found for name in metrics if name.startswith("eval/")})
    values: dict[str, object] = {"eval/accuracy_first": None, "eval/accuracy_last": None}
    for name in names:
        values |= {f"{name}_first": first.get(name), f"{name}_last": last.get(name)}
    return values | {"evaluations": found}


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None
