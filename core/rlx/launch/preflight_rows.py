"""Whether rows reach the rewards, which are in processes of their own: tried before anything is started."""

from __future__ import annotations

from collections.abc import Sequence

from rlx.api.dataset import DatasetView
from rlx.api.reward import wanted
from rlx.config.data import RewardConfig
from rlx.errors import DatasetError
from rlx.plugins.session import Plugins
from rlx.rollout.rewards.plain import why_unsendable


def check_sendable(view: DatasetView, rewards: Sequence[RewardConfig], plugins: Plugins) -> None:
    """Raises DatasetError where a reference answer, or an item that a reward takes as `example`, can't be sent."""
    takers = [reward.name for reward in rewards if "example" in wanted(plugins.load("rewards", reward.name))]
    for index in view.sample():
        parts = {"reference": view.reference(index), **({"item": view.item(index)} if takers else {})}
        if found := why_unsendable(parts):
            raise DatasetError(f"{view.where(index)}: {found}.")
