"""`[dataset]`, `[packer]`, `[[rewards]]`, `[[filter_rewards]]`: prompts, their tokens, and scores of answers."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field

from rlx.config.sections.base import Component


class DatasetConfig(Component):
    """Where prompts (or SFT rows) come from."""

    kind: ClassVar[str] = "datasets"

    shuffle: bool = True
    """A new order each epoch, from the run's seed."""
    on_bad_row: Literal["drop", "fail"] = "drop"
    """Effect of a row that can't be used (too long for the model, it raises, the packer or the engine refuses it, it
    has nothing to train on): drop and count it, the next row takes its place; or end the run."""


class PackerConfig(Component):
    """How an item becomes tokens."""

    kind: ClassVar[str] = "packers"

    name: str = "decoder_only_llm"
    """An `rlx.packers` plugin, `./file.py:name`, or `package.module:name`. If it is left out and the model plugin
    brings a packer, that one."""

    @property
    def chosen(self) -> bool:
        """Whether the config names it; otherwise it has the default's name."""
        return "name" in self.model_fields_set

    def otherwise(self, name: str) -> Self:
        """Return it with that name if the config names none."""
        return self if self.chosen else self.model_copy(update={"name": name})


class RewardConfig(Component):
    """One reward; an episode's total is the sum of weight * value."""

    kind: ClassVar[str] = "rewards"
    label: str | None = Field(None, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")
    """Its name in metrics, trajectories and TensorBoard. Default: its `name` without file, module or distribution:
    `close` of `./shape.py:close`; `close_2` if another reward has that label."""
    weight: float = Field(1.0, ge=-1e6, le=1e6)
    """Its share of the total reward."""
    group: bool | None = None
    """Whether one call gets the list of a prompt's completions and returns a list. Default: what its author says
    (`@rlx.group_reward`)."""
    timeout_seconds: float = Field(60.0, ge=0.01, le=1e9)
    """A call that takes longer is killed."""
    on_error: Literal["fail", "drop"] = "fail"
    """Effect of a call that raises or times out: end the run, or drop (and count) its group. Never a reward of 0."""


def reward_labels(rewards: Sequence[RewardConfig]) -> list[str]:
    """Return the label of each reward of a list, all of them different."""
    taken = {reward.label for reward in rewards if reward.label is not None}
    labels = []
    for reward in rewards:
        label = reward.label or _free_label(reward.name, taken)
        taken.add(label)
        labels.append(label)
    return labels


def _free_label(name: str, taken: Collection[str | None]) -> str:
    """Return a component's name without its file, module or distribution, numbered if that label is taken."""
    label = name.rpartition(":")[2] or name if ":" in name else name.rpartition("/")[2] or name
    numbered = (label if number == 1 else f"{label}_{number}" for number in itertools.count(1))
    return next(found for found in numbered if found not in taken)
