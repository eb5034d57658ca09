"""The roles of a run's rewards: which groups each one scores, and what its value counts for.

Rules:

* `[[rewards]]` make up the total reward; `[[filter_rewards]]` decide whether a train group is informative.
* A filter that is also one of the rewards (same name, args and `group`) is called once.
* Evaluation groups have no filter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rlx.config.schema import Config
from rlx.config.sections.data import RewardConfig, reward_labels

GroupKind = Literal["train", "eval"]


@dataclass(frozen=True)
class RewardRole:
    """A reward, and whether its value counts for the total reward, as a filter, or both."""

    index: int
    """Its index among all rewards of the run."""
    reward: RewardConfig
    in_total: bool
    label: str
    """Its name in metrics and trajectories."""
    filter_weight: float | None = None
    """None: it isn't a filter."""


def reward_roles(config: Config) -> dict[GroupKind, list[RewardRole]]:
    """Return the rewards of each kind of group, in the config's order, filters last."""
    train = _in_total(config.rewards)
    evaluation = list(train)
    for filtering, label in zip(config.filter_rewards, reward_labels(config.filter_rewards), strict=True):
        same = [index for index, role in enumerate(train) if role.in_total and _key(role.reward) == _key(filtering)]
        if same:
            train[same[0]] = replace(train[same[0]], filter_weight=filtering.weight)
        else:
            train.append(RewardRole(len(train), filtering, False, label, filtering.weight))
    own = config.eval.rewards if config.eval is not None else None
    if own is not None:
        evaluation = _in_total(own, first=len(train))
    return {"train": train, "eval": evaluation}


def _in_total(rewards: Sequence[RewardConfig], first: int = 0) -> list[RewardRole]:
    labelled = zip(rewards, reward_labels(rewards), strict=True)
    return [RewardRole(first + index, reward, True, label) for index, (reward, label) in enumerate(labelled)]


def rewards_of(roles: dict[GroupKind, list[RewardRole]]) -> list[RewardConfig]:
    """Return every reward of the run, by its index."""
    found = {role.index: role.reward for kind in roles.values() for role in kind}
    return [found[index] for index in sorted(found)]


def _key(reward: RewardConfig) -> tuple[object, ...]:
    return (reward.name, reward.args, reward.group)
