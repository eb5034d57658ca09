"""A config and a launch script become one config.

The rule of this part: what a script hands over takes the place of what the config would name; where both name
something, that is an error and no choice. Doing it twice changes nothing, so a resumed run starts from its own
config.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from rlx.config.schema import Config
from rlx.config.sections.base import Section
from rlx.config.sections.data import PackerConfig, RewardConfig
from rlx.errors import ConfigError
from rlx.script.components import EVAL_SUFFIX, Weighted, packer_name, script_offers, weighted
from rlx.script.launch_worker import ScriptParts

Table = TypeVar("Table", bound=Section)


def script_defaults(parts: ScriptParts, name: str) -> dict[str, Any]:
    """What the file may leave out, since the script gives it."""
    defaults: dict[str, Any] = {}
    if parts.dataset is not None:
        defaults["dataset"] = {"name": name}
    if parts.val_dataset is not None:
        defaults["eval"] = {"dataset": {"name": f"{name}{EVAL_SUFFIX}"}}
    return defaults


def with_script(config: Config, parts: ScriptParts) -> Config:
    """`config` with the script's components named in it. Raises ConfigError where the two contradict each other."""
    _check_eval(config, parts)
    config = _with_train(config, parts)
    config = _with_eval(config, parts)
    return _with_lists(config, parts)


def _with_train(config: Config, parts: ScriptParts) -> Config:
    changes: dict[str, Any] = {}
    if parts.reward_fns is not None:
        changes["rewards"] = _rewards(config.rewards, parts, "reward_fns", "[[rewards]]")
    if parts.filter_reward_fns is not None:
        filters = _rewards(config.filter_rewards, parts, "filter_reward_fns", "[[filter_rewards]]")
        rewards = {reward.name: reward for reward in changes.get("rewards", config.rewards)}
        changes["filter_rewards"] = [_as_the_reward(filter_reward, rewards) for filter_reward in filters]
    if parts.data_packer is not None:
        changes["packer"] = _packer(config.packer, parts.data_packer, "data_packer", "[packer]")
    return _changed(config, **changes)


def _with_eval(config: Config, parts: ScriptParts) -> Config:
    if config.eval is None:
        return config
    changes: dict[str, Any] = {}
    if parts.val_reward_fns is not None:
        listed = config.eval.rewards or []
        changes["rewards"] = _rewards(listed, parts, "val_reward_fns", "[[eval.rewards]]")
    if parts.val_data_packer is not None:
        given = config.eval.packer or PackerConfig()
        changes["packer"] = _packer(given, parts.val_data_packer, "val_data_packer", "[eval.packer]")
    return _changed(config, eval=_changed(config.eval, **changes))


def _with_lists(config: Config, parts: ScriptParts) -> Config:
    offered = list(script_offers(parts, config))
    loggers = [offer.name for offer in offered if offer.kind == "loggers"]
    hooks = [offer.name for offer in offered if offer.kind == "hooks"]
    run = _changed(config.run, loggers=_joined(config.run.loggers, loggers))
    own = [name for name in hooks if name not in config.plugins.names]
    plugins = _changed(config.plugins, enable=[*config.plugins.enable, *own])
    return _changed(config, run=run, plugins=plugins)


def _rewards(listed: Sequence[RewardConfig], parts: ScriptParts, part: str, table: str) -> list[RewardConfig]:
    given = weighted(parts, part)
    settings = {reward.name: reward for reward in listed}
    others = [name for name in settings if name not in {reward.name for reward in given}]
    if others:
        raise ConfigError(
            f"{table} names {', '.join(map(repr, others))}, and the launch script gives its own {part} "
            f"({', '.join(reward.name for reward in given)}). Leave one of the two out, or give both by the script."
        )
    return [_reward(settings.get(reward.name), reward) for reward in given]


def _reward(setting: RewardConfig | None, given: Weighted) -> RewardConfig:
    reward = setting or RewardConfig(name=given.name)
    return reward if given.weight is None else _changed(reward, weight=given.weight)


def _as_the_reward(given: RewardConfig, rewards: Mapping[str, RewardConfig]) -> RewardConfig:
    """With the settings of the reward of that name, so that the two are one call."""
    reward = rewards.get(given.name)
    return given if reward is None else _changed(reward, weight=given.weight)


def _packer(setting: PackerConfig, given: Any, part: str, table: str) -> PackerConfig:
    name = packer_name(given, part)
    if setting != PackerConfig() and setting.name != name:
        raise ConfigError(
            f"{table} names {setting.name!r}, and the launch script gives its own {part}. Leave one of the two out."
        )
    return _changed(setting, name=name)


def _check_eval(config: Config, parts: ScriptParts) -> None:
    unused = [part for part in parts.given if part.startswith("val_")]
    if config.eval is None and unused:
        raise ConfigError(
            f"The launch script gives {', '.join(unused)}, but nothing is evaluated: give val_dataset, or an [eval] "
            "section."
        )
    if config.eval is None or parts.dataset is None:
        return
    if config.eval.dataset.name == config.dataset.name and parts.val_dataset is None:
        raise ConfigError(
            f"[eval.dataset] name = {config.eval.dataset.name!r} is the launch script's training dataset. "
            "Give held-out rows as val_dataset."
        )
    if config.eval.dataset.name == config.dataset.name:
        raise ConfigError(
            f"[dataset] and [eval.dataset] are both called {config.dataset.name!r}, and the launch script gives one "
            "for each: give them different names."
        )


def _joined(listed: Sequence[str], more: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*listed, *more]))


def _changed(table: Table, **changes: Any) -> Table:
    return table.model_copy(update=changes)
