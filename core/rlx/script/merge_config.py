"""Merge a launch script's components into the config.

Rules:

* A component that the script gives takes the place of the one that the config would name. If both name one, that is an
  error, not a choice.
* Merging twice changes nothing, so a resumed run starts from its own config.json.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlx.config.schema import Config
from rlx.config.sections.data import PackerConfig, RewardConfig
from rlx.config.sections.eval import EvalConfig
from rlx.errors import ConfigError
from rlx.script.components import EVAL_SUFFIX, script_components, script_packer_name, weighted_rewards
from rlx.script.launch_worker import ScriptParts


def script_defaults(parts: ScriptParts, name: str) -> dict[str, object]:
    """Return the sections that the config file may leave out, since the script (called `name`) gives them."""
    defaults: dict[str, object] = {}
    if parts.dataset is not None:
        defaults["dataset"] = {"name": name}
    if parts.val_dataset is not None:
        defaults["eval"] = {"dataset": {"name": f"{name}{EVAL_SUFFIX}"}}
    return defaults


def with_script(config: Config, parts: ScriptParts) -> Config:
    """Return `config` with the script's components named in it. Raises ConfigError if the two contradict each other."""
    _check_eval(config, parts)
    changes: dict[str, object] = {}
    if parts.reward_fns is not None:
        changes["rewards"] = rewards = _rewards(config.rewards, parts, "reward_fns", "[[rewards]]")
    else:
        rewards = config.rewards
    if parts.filter_reward_fns is not None:
        filters = _rewards(config.filter_rewards, parts, "filter_reward_fns", "[[filter_rewards]]")
        # A filter has the settings of the reward with its name, so that one call serves both.
        settings = {reward.name: reward for reward in rewards}
        changes["filter_rewards"] = [_weighted(settings.get(each.name, each), each.weight) for each in filters]
    if parts.data_packer is not None:
        changes["packer"] = _packer(config.packer, parts.data_packer, "data_packer", "[packer]")
    if config.eval is not None:
        changes["eval"] = _eval(config.eval, parts)
    components = list(script_components(parts, config))
    loggers, hooks = ([each.name for each in components if each.kind == kind] for kind in ("loggers", "hooks"))
    changes["run"] = config.run.model_copy(update={"loggers": list(dict.fromkeys([*config.run.loggers, *loggers]))})
    own = [name for name in hooks if name not in config.plugins.names]
    changes["plugins"] = config.plugins.model_copy(update={"enable": [*config.plugins.enable, *own]})
    return config.model_copy(update=changes)


def _eval(section: EvalConfig, parts: ScriptParts) -> EvalConfig:
    changes: dict[str, object] = {}
    if parts.val_reward_fns is not None:
        changes["rewards"] = _rewards(section.rewards or [], parts, "val_reward_fns", "[[eval.rewards]]")
    if parts.val_data_packer is not None:
        given = section.packer or PackerConfig()
        changes["packer"] = _packer(given, parts.val_data_packer, "val_data_packer", "[eval.packer]")
    return section.model_copy(update=changes)


def _rewards(listed: Sequence[RewardConfig], parts: ScriptParts, part: str, table: str) -> list[RewardConfig]:
    given = weighted_rewards(parts, part)
    settings = {reward.name: reward for reward in listed}
    others = [name for name in settings if name not in {reward.name for reward in given}]
    if others:
        raise ConfigError(
            f"{table} names {', '.join(map(repr, others))}, and the launch script gives its own {part} "
            f"({', '.join(reward.name for reward in given)}). Leave one of the two out, or give both by the script."
        )
    return [_weighted(settings.get(reward.name) or RewardConfig(name=reward.name), reward.weight) for reward in given]


def _weighted(reward: RewardConfig, weight: float | None) -> RewardConfig:
    return reward if weight is None else reward.model_copy(update={"weight": weight})


def _packer(setting: PackerConfig, given: object, part: str, table: str) -> PackerConfig:
    name = script_packer_name(given, part)
    if setting != PackerConfig() and setting.name != name:
        raise ConfigError(
            f"{table} names {setting.name!r}, and the launch script gives its own {part}. Leave one of the two out."
        )
    return setting.model_copy(update={"name": name})


def _check_eval(config: Config, parts: ScriptParts) -> None:
    unused = [part for part in parts.given if part.startswith("val_")]
    if config.eval is None and unused:
        raise ConfigError(
            f"The launch script gives {', '.join(unused)}, but nothing is evaluated: give val_dataset, or an [eval] "
            "section."
        )
    if config.eval is None or parts.dataset is None or config.eval.dataset.name != config.dataset.name:
        return
    if parts.val_dataset is None:
        raise ConfigError(
            f"[eval.dataset] name = {config.eval.dataset.name!r} is the launch script's training dataset. "
            "Give held-out rows as val_dataset."
        )
    raise ConfigError(
        f"[dataset] and [eval.dataset] are both called {config.dataset.name!r}, and the launch script gives one "
        "for each: give them different names."
    )
