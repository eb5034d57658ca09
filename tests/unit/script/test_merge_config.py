"""A config and a launch script are merged into one config, with names that every process can resolve."""

from __future__ import annotations

import pytest

from rlx.config.schema import Config
from rlx.errors import ConfigError
from rlx.script.components import script_components
from rlx.script.merge_config import with_script

HEAD = """
import rlx
def judge(to_be_evaluated, reference=None, *args, **kwargs): return 1.0
def strict(to_be_evaluated, reference=None, *args, **kwargs): return 0.0
def other(text): ...
other.__name__ = "judge"
def log(data, step): ...
class Hook:
    @rlx.hookimpl
    def rlx_step_end(self, step): ...
class Packer(rlx.DecoderOnlyLLMDataPacker): ...
def rows(config): return [config.dataset.name]
"""


def script_text(arguments):
    return f"{HEAD}\nrlx.launch_worker({arguments})\n"


def components_of(loaded):
    return {(offer.kind, offer.name): offer for offer in script_components(loaded.script.parts, loaded.config)}


def test_a_dataset_without_a_section_is_named_after_the_script(load):
    loaded = load(script_text("dataset=rows"))
    assert loaded.config.dataset.name == "entry"
    assert components_of(loaded)["datasets", "entry"].component(config=loaded.config) == ["entry"]


def test_the_dataset_section_stays_readable_for_the_dataset(load):
    config = '[model]\npath = "m"\n[dataset]\nname = "org/rows"\nargs = { subset = "main", split = "train" }\n'
    loaded = load(script_text("dataset=rows"), config)
    seen = loaded.config.train.train_policy.dataset
    assert (seen.name, seen.subset, seen.split) == ("org/rows", "main", "train")
    assert ("datasets", "org/rows") in components_of(loaded)


@pytest.mark.parametrize(
    "given",
    ["rows", "lambda anything: rows(anything)", "['org/rows']", "lambda: ['org/rows']", "lambda cfg: rows(cfg)"],
)
def test_every_accepted_form_of_a_dataset(load, given):
    config = '[model]\npath = "m"\n[dataset]\nname = "org/rows"\nargs = { subset = "main" }\n'
    loaded = load(script_text(f"dataset={given}"), config)
    make = components_of(loaded)["datasets", "org/rows"].component
    assert make(config=loaded.config, **loaded.config.dataset.args) == ["org/rows"]


def test_rewards_get_names_weights_and_settings_from_the_config(load):
    config = '[model]\npath = "m"\n[[rewards]]\nname = "strict"\ntimeout_seconds = 3\nweight = 5\n'
    loaded = load(script_text("dataset=rows, reward_fns=[(judge, 0.5), strict, 'exact_match', lambda t, r: 1]"), config)
    rewards = [(reward.name, reward.weight, reward.timeout_seconds) for reward in loaded.config.rewards]
    assert rewards == [("judge", 0.5, 60), ("strict", 5, 3), ("exact_match", 1, 60), ("function", 1, 60)]
    assert {name for kind, name in components_of(loaded) if kind == "rewards"} == {"judge", "strict", "function"}


def test_filters_may_be_functions_names_or_reward_indices(load):
    config = '[model]\npath = "m"\n[[rewards]]\nname = "judge"\ntimeout_seconds = 3\n'
    loaded = load(
        script_text("dataset=rows, reward_fns=[(judge, 2)], filter_reward_fns=[(0, 4), strict, 'format']"), config
    )
    filters = [(reward.name, reward.weight, reward.timeout_seconds) for reward in loaded.config.filter_rewards]
    assert filters == [("judge", 4, 3), ("strict", 1, 60), ("format", 1, 60)]
    assert {name for kind, name in components_of(loaded) if kind == "rewards"} == {"judge", "strict"}


def test_validation_has_its_own_dataset_packer_and_rewards(load):
    loaded = load(script_text(
        "dataset=rows, data_packer=Packer(), val_dataset=['x'], val_data_packer=lambda config: Packer(), "
        "val_reward_fns=[strict]"
    ))  # fmt: skip
    config = loaded.config
    assert (config.packer.name, config.eval.packer.name) == ("Packer", "function-validation")
    assert (config.eval.dataset.name, [reward.name for reward in config.eval.rewards]) == (
        "entry-validation",
        ["strict"],
    )
    found = components_of(loaded)
    assert type(found["packers", "Packer"].component()).__name__ == "Packer"
    assert type(found["packers", "function-validation"].component()).__name__ == "Packer"


def test_loggers_and_hooks_are_appended_to_those_of_the_config(load):
    loaded = load(script_text("dataset=rows, custom_logger_fns=[log, log], hooks=[Hook, Hook()]"))
    assert loaded.config.run.loggers == ["console", "jsonl", "tensorboard", "log", "log-2"]
    assert loaded.config.plugins.enable == ["Hook", "Hook-2"]


def test_the_config_sets_options_of_the_scripts_hooks(load):
    enable = 'model = { path = "m" }\n[plugins]\nenable = ["other", { name = "Hook", args = { rate = 1 } }]\n'
    loaded = load(script_text("dataset=rows, hooks=[Hook, Hook()]"), enable)
    assert loaded.config.plugins.names == ["other", "Hook", "Hook-2"]
    assert loaded.config.plugins.hooks[1].args == {"rate": 1}


def test_merging_twice_changes_nothing(load):
    loaded = load(script_text(
        "dataset=rows, reward_fns=[(judge, 2)], val_dataset=['x'], data_packer=Packer, hooks=[Hook], "
        "filter_reward_fns=[0, strict], "
        "custom_logger_fns=[log]"
    ))  # fmt: skip
    again = Config.model_validate(loaded.config.model_dump(by_alias=True, mode="json"), strict=False)
    assert with_script(again, loaded.script.parts) == loaded.config


@pytest.mark.parametrize(
    ("arguments", "config", "message"),
    [
        ("reward_fns=[judge]", '[dataset]\nname = "d"\n[[rewards]]\nname = "other"', r"names 'other', and the launch"),
        ("dataset=rows, data_packer=Packer", '[packer]\nname = "./p.py:P"', r"\[packer\] names './p.py:P'"),
        ("dataset=rows, val_reward_fns=[judge]", "", "nothing is evaluated: give val_dataset"),
        ("dataset=rows", '[dataset]\nname = "d"\n[eval.dataset]\nname = "d"', "Give held-out rows as val_dataset"),
        ("dataset=rows, val_dataset=rows", '[dataset]\nname = "d"\n[eval.dataset]\nname = "d"', "different names"),
        ("dataset=rows, reward_fns=[3]", "", "launch_worker's reward_fns: 3 isn't a reward"),
        ("dataset=rows, reward_fns=[(judge, 'x')]", "", "isn't a reward"),
        ("dataset=rows, reward_fns=[judge], filter_reward_fns=[1]", "", "numbers of reward_fns, or pairs"),
        ("reward_fns=[judge]", "", r"\[dataset\]: this section is missing"),
        ("dataset=rows, reward_fns=[judge], val_dataset=rows, val_reward_fns=[other]", "", "another function than the"),
    ],
)
def test_contradictions_between_script_and_config_are_errors(load, arguments, config, message):
    with pytest.raises(ConfigError, match=message):
        load(script_text(arguments), f'[model]\npath = "m"\n{config}\n')
