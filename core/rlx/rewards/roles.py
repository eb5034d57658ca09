"""What each reward of a run is asked for.

The rules of this part:

* `[[rewards]]` make up the total reward; `[[filter_rewards]]` decide whether a train group is informative.
* A filter that is one of the rewards (same name, args and `group`) is asked once, as the reward that it is.
* Evaluation groups have no filter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from rlx.config.schema import Config
from rlx.config.sections.data import RewardConfig

Kind = Literal["train", "eval"]


@dataclass(frozen=True)
class Use:
    """A reward, and what its value counts for. `index`: its place among all rewards of the run."""

    index: int
    reward: RewardConfig
    in_total: bool
    filter_weight: float | None = None
    """None: it is no filter."""


def uses_of(config: Config) -> dict[Kind, list[Use]]:
    """The rewards of each kind of group, in the config's order, filters last."""
    train = [Use(index, reward, in_total=True) for index, reward in enumerate(config.rewards)]
    evaluation = list(train)
    for filtering in config.filter_rewards:
        same = [place for place, use in enumerate(train) if use.in_total and _same(use.reward, filtering)]
        if same:
            train[same[0]] = replace(train[same[0]], filter_weight=filtering.weight)
        else:
            train.append(Use(len(train), filtering, in_total=False, filter_weight=filtering.weight))
    own = config.eval.rewards if config.eval is not None else None
    if own is not None:
        evaluation = [Use(len(train) + place, reward, in_total=True) for place, reward in enumerate(own)]
    return {"train": train, "eval": evaluation}


def rewards_of(uses: dict[Kind, list[Use]]) -> list[RewardConfig]:
    """Every reward of the run, by its index."""
    found = {use.index: use.reward for kind in uses.values() for use in kind}
    return [found[index] for index in sorted(found)]


def _same(one: RewardConfig, other: RewardConfig) -> bool:
    return (one.name, one.args, one.group) == (other.name, other.args, other.group)
