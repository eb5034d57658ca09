"""Paths of rlx 0.1 (`from rlx.api.packer import DataPacker`). They work for one more release, with a warning.

Each module of `_MOVED` exists as soon as this package is imported. Reading a name from one emits a DeprecationWarning
that gives the name's new path.
"""

from __future__ import annotations

from rlx.moved import moved_modules

_MOVED = {
    "algorithm": "rlx.algorithms.base",
    "base_model": "rlx.models.base_model",
    "dataset": "rlx.datasets.open",
    "fingerprint": "rlx.fingerprint",
    "hookspecs": "rlx.plugins.hookspecs",
    "launcher": "rlx.launchers.base",
    "logger": "rlx.loggers.base",
    "model": "rlx.models.plugin",
    "model_registry": "rlx.models.registry",
    "packer": "rlx.packers.base",
    "packer_calls": "rlx.packers.batches",
    "policy_input": "rlx.packers.loss_mask",
    "prompt": "rlx.packers.prompt",
    "reward": "rlx.rewards.result",
    "rows": "rlx.datasets.view",
    "sft": "rlx.packers.sft_rows",
    "signature": "rlx.plugins.signature",
    "tensor_parallel": "rlx.models.tensor_parallel",
    "turns": "rlx.packers.chat_turns",
    "types": "rlx.episodes",
}
"""Old module -> the module that most of its names moved to."""

_RENAMED = {
    "dataset.DatasetView": "rlx.datasets.view.DatasetView",
    "dataset.offered": "rlx.datasets.open.run_objects",
    "dataset.open_dataset": "rlx.datasets.open.make_dataset",
    "fingerprint.not_the_same": "rlx.fingerprint.mismatch_message",
    "model.packer_word": "rlx.plugins.registry.model_packer_name",
    "packer.prompt_token_ids": "rlx.packers.prompt.prompt_token_ids",
    "packer.sft_trajectories": "rlx.packers.sft_rows.sft_trajectories",
    "packer_calls.attributed": "rlx.packers.batches.attribute_to",
    "policy_input.COLUMNS": "rlx.packers.loss_mask.POLICY_COLUMNS",
    "policy_input.RETOKENIZED": "rlx.packers.loss_mask.RETOKENIZED_METRIC",
    "policy_input.rehearse_policy_input": "rlx.packers.loss_mask.dry_run_policy_input",
    "reward.AnyReward": "rlx.rewards.base.AnyReward",
    "reward.BoundReward": "rlx.rewards.bound.BoundReward",
    "reward.OFFERED": "rlx.rewards.base.OFFERED",
    "reward.SHOWN_CHARACTERS": "rlx.rewards.result.EXCERPT_CHARACTERS",
    "reward.about": "rlx.rewards.result.quote_first",
    "reward.check_reward_args": "rlx.rewards.bound.check_reward_args",
    "reward.group_reward": "rlx.rewards.base.group_reward",
    "reward.shown": "rlx.rewards.result.excerpt",
    "reward.wanted": "rlx.rewards.bound.accepted_offers",
    "rows.check_shape": "rlx.datasets.view.checked",
    "sft.COLUMNS": "rlx.packers.sft_rows.SFT_COLUMNS",
    "tensor_parallel.share_slots": "rlx.models.tensor_parallel.share_positions",
}
"""Old name -> its new path, for names that were renamed or moved to another module than `_MOVED` says."""

_REMOVED = {
    "logger.LoggerClass": "annotate it as `type[rlx.Logger]`",
    "types.to_json": "use `msgspec.to_builtins(episode)`",
}
"""Old name -> the advice to give, for names that were removed."""


globals().update(moved_modules(__name__, _MOVED, _RENAMED, _REMOVED))
