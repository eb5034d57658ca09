"""Metrics of a step, a weight sync and an evaluation: pure functions from messages to named numbers.

A reward of None was not scored: it is left out of means, never counted as 0.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rlx.episodes import named_means
from rlx.plugins.timings import Timing
from rlx.transport.messages import GroupDone


@dataclass(frozen=True)
class TrainedStep:
    """The result of one optimizer step."""

    metrics: dict[str, float]
    wait_seconds: float
    """Time that the policy waited for the step's groups."""
    train_seconds: float
    generated_tokens: int
    """Tokens sampled since the last step."""
    trained_tokens: float
    """Tokens trained in this step."""


@dataclass(frozen=True)
class SyncMetrics:
    """Measurements of one weight sync."""

    version: int
    seconds: float
    """From the start until the policy had sent the weights and the last engine had resumed with them."""
    verify_seconds: float
    """From there until the weights were verified in all engines."""
    paused_seconds: float
    """Pause of the engine that paused longest."""
    bytes: int
    logprob_diff: float
    """Largest mean |difference| of a replica's log-probabilities from the policy's."""
    covered: float
    """Share of the loaded elements that were compared bit for bit, in the engine worker with the smallest."""

    @property
    def metrics(self) -> dict[str, float]:
        return {
            "sync/seconds": self.seconds,
            "sync/verify_seconds": self.verify_seconds,
            "sync/paused_seconds": self.paused_seconds,
            "sync/bytes": float(self.bytes),
            "sync/logprob_diff": self.logprob_diff,
            "sync/covered": self.covered,
        }


def mean(values: Iterable[float]) -> float:
    """Return the mean, or NaN if there are no values."""
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else float("nan")


def group_metrics(groups: Sequence[GroupDone], step: int, *, uninformative: int) -> dict[str, float]:
    """Return the metrics of the groups that `step` trains.

    The staleness of a group is `step` minus the version of its oldest token. `uninformative` is the number of groups
    dropped as uninformative since the last step.
    """
    rewards = [reward for group in groups for reward in group.rewards if reward is not None]
    ages = [step - group.oldest_version for group in groups]
    return {
        "reward/mean": mean(rewards),
        "reward/std": statistics.pstdev(rewards) if rewards else float("nan"),
        **named_means((f"reward/{name}", value) for group in groups for name, value in group.reward_means.items()),
        **_completion_metrics(groups),
        "groups/zero_std": mean(float(not differ(group.rewards)) for group in groups),
        "groups/informative": ratio(sum(map(is_informative, groups)), len(groups) + uninformative),
        "staleness/mean": mean(ages),
        "staleness/max": float(max(ages)),
        "time/score": mean(group.score_seconds for group in groups),
        **named_means(metric for group in groups for metric in group.metrics.items()),
    }


def eval_metrics(groups: Sequence[GroupDone], *, dropped: int, seconds: float) -> dict[str, float]:
    """Return the metrics of an evaluation.

    `eval/accuracy` is the share of the scored completions whose first reward is at least 1. `eval/rows` is the number
    of rows that the metrics are over, and `eval/dropped` that of the rows that are not among them.
    """
    correct = [float(value >= 1) for group in groups for value in group.accuracies if value is not None]
    metrics = {
        "eval/accuracy": mean(correct),
        "eval/reward": mean(reward for group in groups for reward in group.rewards if reward is not None),
        "eval/completions": float(sum(len(group.lengths) for group in groups)),
        "eval/rows": float(len(groups)),
        "eval/dropped": float(dropped),
        "eval/seconds": seconds,
    }
    return metrics | {f"eval/{name}": value for name, value in _completion_metrics(groups).items()}


def dropped_rows(counts: Mapping[str, int]) -> dict[str, int]:
    """Return `rows/dropped`, the number of training rows that were dropped, and `rows/dropped/<reason>`."""
    by_reason = {f"rows/dropped/{reason}": count for reason, count in sorted(counts.items())}
    return {"rows/dropped": sum(counts.values()), **by_reason}


def timing_metrics(timings: Mapping[str, Timing]) -> dict[str, float]:
    """Return `time/reward/<name>`, `calls/reward/<name>` and `time/hook/<plugin>/<hook>`."""
    seconds = {f"time/{name}": seconds for name, (seconds, _) in timings.items()}
    calls = {f"calls/{name}": float(calls) for name, (_, calls) in timings.items() if name.startswith("reward/")}
    return seconds | calls


def hook_failure_metrics(failures: Mapping[str, int]) -> dict[str, float]:
    """Return `hooks/failed/<plugin>`: how often hooks of a plugin in `[plugins] best_effort` raised."""
    return {f"hooks/failed/{plugin}": float(count) for plugin, count in failures.items()}


def is_informative(group: GroupDone) -> bool:
    """Whether the filter totals of the group's completions differ; without filters, whether their rewards do."""
    return differ(group.filters or group.rewards)


def differ(totals: Iterable[float | None]) -> bool:
    """Whether the scored totals differ. Compared exactly: all advantages are zero only if all totals are equal."""
    return len({total for total in totals if total is not None}) > 1


def ratio(numerator: float, denominator: float) -> float:
    """Return `numerator / denominator`, or 0.0 if the denominator is 0."""
    return numerator / denominator if denominator > 0 else 0.0


def _completion_metrics(groups: Sequence[GroupDone]) -> dict[str, float]:
    lengths = [length for group in groups for length in group.lengths]
    return {
        "completion/length_mean": mean(lengths),
        "completion/truncated": ratio(sum(group.truncated for group in groups), len(lengths)),
    }
