"""`[dataset]`, `[packer]`, `[[rewards]]`, `[[filter_rewards]]`: what is asked, how it is tokenised, what an answer is
worth.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rlx.config.base import Component


class DatasetConfig(Component):
    """Where prompts (or SFT rows) come from."""

    shuffle: bool = True
    """A new order each epoch, from the run's seed."""


class PackerConfig(Component):
    """How an item becomes tokens."""

    name: str = "decoder_only_llm"
    """An `rlx.packers` plugin, `./file.py:name`, or `package.module:name`."""


class RewardConfig(Component):
    """One reward; an episode's total is the sum of weight * value."""

    weight: float = 1.0
    """Its share of the total reward."""
    group: bool | None = None
    """Whether one call gets the list of a prompt's completions and returns a list. Default: what its author says
    (`@rlx.group_reward`)."""
    timeout_seconds: float = Field(60.0, gt=0)
    """A call that takes longer is killed."""
    on_error: Literal["fail", "drop"] = "fail"
    """What a call that raises or times out does: end the run, or drop (and count) its group. Never a reward of 0."""
