"""What a step was like, from its groups; plain functions from messages to named figures.

A reward of None means "not scored": it is left out of means, never counted as 0.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rlx.plugins.timings import Timing
from rlx.transport.messages import GroupDone


@dataclass(frozen=True)
class Trained:
    """One optimizer step. Tokens: sampled since the last step, and trained in this one."""

    metrics: dict[str, float]
    wait_seconds: float
    train_seconds: float
    generated_tokens: int
    trained_tokens: float


@dataclass(frozen=True)
class SyncMetrics:
    """What one sync was like. `seconds`: until the policy had sent the weights and the last engine went on with them;
    `verify_seconds`: from there to the proof; `paused_seconds`: of the slowest engine.
    """

    version: int
    seconds: float
    verify_seconds: float
    paused_seconds: float
    bytes: int
    logprob_diff: float

    @property
    def metrics(self) -> dict[str, float]:
        return {
            "sync/seconds": self.seconds,
            "sync/verify_seconds": self.verify_seconds,
            "sync/paused_seconds": self.paused_seconds,
            "sync/bytes": float(self.bytes),
            "sync/logprob_diff": self.logprob_diff,
        }


def mean(values: Iterable[float]) -> float:
    """NaN where there is nothing to average."""
    found = list(values)
    return sum(found) / len(found) if found else float("nan")


def group_metrics(groups: Sequence[GroupDone], step: int, *, uninformative: int) -> dict[str, float]:
    """Of the groups that `step` trains. Staleness of a group: `step` less the version of its oldest token.

    `uninformative`: how many were dropped as such since the last step.
    """
    rewards = [reward for group in groups for reward in group.rewards if reward is not None]
    ages = [step - group.oldest_version for group in groups]
    return {
        "reward/mean": mean(rewards),
        "reward/std": statistics.pstdev(rewards) if rewards else float("nan"),
        **_named_means([{f"reward/{name}": value for name, value in group.reward_means.items()} for group in groups]),
        **_completion_metrics(groups),
        "groups/zero_std": mean(float(not differ(group.rewards)) for group in groups),
        "groups/informative": rate(sum(map(is_informative, groups)), len(groups) + uninformative),
        "staleness/mean": mean(ages),
        "staleness/max": float(max(ages)),
        "time/score": mean(group.score_seconds for group in groups),
        **_named_means([group.metrics for group in groups]),
    }


def eval_metrics(groups: Sequence[GroupDone], *, dropped: int, seconds: float) -> dict[str, float]:
    """`eval/accuracy`: share of the scored completions whose first reward is at least 1."""
    right = [float(value >= 1) for group in groups for value in group.accuracies if value is not None]
    figures = {
        "eval/accuracy": mean(right),
        "eval/reward": mean(reward for group in groups for reward in group.rewards if reward is not None),
        "eval/completions": float(sum(len(group.lengths) for group in groups)),
        "eval/dropped": float(dropped),
        "eval/seconds": seconds,
    }
    return figures | {f"eval/{name}": value for name, value in _completion_metrics(groups).items()}


def cost_metrics(costs: Mapping[str, Timing]) -> dict[str, float]:
    """`time/reward/<name>`, `calls/reward/<name>` and `time/hook/<plugin>/<hook>`."""
    seconds = {f"time/{name}": seconds for name, (seconds, _) in costs.items()}
    return seconds | {f"calls/{name}": float(calls) for name, (_, calls) in costs.items() if name.startswith("reward/")}


def is_informative(group: GroupDone) -> bool:
    return differ(group.filters or group.rewards)


def differ(totals: Iterable[float | None]) -> bool:
    """Whether not all that were scored are equal: exactly, and where they are, advantages are zero."""
    return len({total for total in totals if total is not None}) > 1


def rate(amount: float, seconds: float) -> float:
    """0.0 where no time passed."""
    return amount / seconds if seconds > 0 else 0.0


def _completion_metrics(groups: Sequence[GroupDone]) -> dict[str, float]:
    lengths = [length for group in groups for length in group.lengths]
    return {
        "completion/length_mean": mean(lengths),
        "completion/truncated": rate(sum(group.truncated for group in groups), len(lengths)),
    }


def _named_means(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """Each name's mean over those that have it."""
    values: dict[str, list[float]] = {}
    for found in figures:
        for name, value in found.items():
            values.setdefault(name, []).append(value)
    return {name: mean(found) for name, found in values.items()}
