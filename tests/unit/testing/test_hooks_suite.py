from __future__ import annotations

import itertools
from types import ModuleType, SimpleNamespace

import pytest

import rlx
from rlx.errors import ConfigError
from rlx.plugins.hooks import HOOKS
from rlx.testing import ContractError, check_hooks
from rlx.testing.suites.hook_calls import ORDER
from rlx.testing.suites.hooks import RULES


def plugin(**functions):
    return SimpleNamespace(**{name: rlx.hookimpl(function) for name, function in functions.items()})


class Everything:
    """Implements every hook with all its arguments, and does what each hook may do."""

    def __init__(self):
        self.called = []

    @rlx.hookimpl
    def rlx_register(self, registry):
        registry.add("rewards", "family/easy", len)

    @rlx.hookimpl
    def rlx_configure(self, config):
        raise ConfigError("[meta] owner is missing")

    @rlx.hookimpl
    def rlx_worker_start(self, process, config):
        assert process
        assert config.model.path

    @rlx.hookimpl
    def rlx_model_built(self, model):
        for parameter in model.parameters():
            parameter.requires_grad_(False)

    @rlx.hookimpl
    def rlx_run_start(self, config, run_dir):
        (run_dir / "notes.txt").write_text("started")

    @rlx.hookimpl
    def rlx_group_scored(self, group):
        for episode in group:
            episode.metrics["length"] = float(episode.sampled_tokens)
            for segment in episode.sampled_segments():
                segment.trainable = False

    @rlx.hookimpl
    def rlx_rollout_failed(self, error):
        return "drop" if "judge" in error else None

    @rlx.hookimpl
    def rlx_weights_synced(self, version, metrics):
        metrics["twice"] = 2 * metrics["sync/seconds"]

    @rlx.hookimpl
    def rlx_step_end(self, step, metrics):
        metrics["best"] = metrics["reward/mean"]

    @rlx.hookimpl
    def rlx_should_stop(self, step, metrics):
        return "enough" if step else None

    @rlx.hookimpl
    def rlx_evaluated(self, step, metrics):
        metrics["eval/better"] = True

    @rlx.hookimpl
    def rlx_checkpoint_state(self):
        return {"called": self.called}

    @rlx.hookimpl
    def rlx_restore_state(self, state):
        self.called = state["called"]

    @rlx.hookimpl
    def rlx_checkpoint_saved(self, path, step):
        assert (path / "policy").is_dir()

    @rlx.hookimpl
    def rlx_run_end(self, summary):
        summary["notes"] = [summary["status"]]


def test_a_plugin_with_every_hook_keeps_the_contract():
    assert {name for name in vars(Everything) if name.startswith("rlx_")} == set(HOOKS)
    check_hooks(Everything)
    check_hooks(Everything, call=True)


def test_every_hook_is_called_once_with_the_arguments_of_its_spec():
    assert sorted(ORDER) == sorted(HOOKS)
    called = []
    names = [name for name in HOOKS if name != "rlx_register"]
    check_hooks(plugin(**{name: lambda name=name: called.append(name) for name in names}), call=True)
    assert sorted(called) == sorted(names)


def test_no_hook_is_called_by_default():
    check_hooks(plugin(rlx_step_end=lambda step, metrics: 1 / 0))


def test_a_plugin_may_be_a_module():
    module = ModuleType("notes")
    module.rlx_step_end = rlx.hookimpl(lambda metrics: metrics.update(mine=1.0))
    check_hooks(module, call=True)


def test_a_class_is_made_with_its_options():
    class Rated:
        def __init__(self, rate: float) -> None:
            self.rate = rate

        @rlx.hookimpl
        def rlx_step_end(self, metrics):
            metrics["rate"] = self.rate

    check_hooks(Rated, args={"rate": 0.5}, call=True)


def spoil(group):
    group[0].trajectories[0].segments[1].tokens.append(3)


def reward(group):
    group[0].rewards[0].value = 1.5


NUMBERS = itertools.count()
BROKEN = [
    ("hooks", plugin(rlx_step_edn=lambda step: None), "unknown hook 'rlx_step_edn'. Did you mean 'rlx_step_end'"),
    ("hooks", plugin(rlx_step_end=lambda stpe: None), "stpe"),
    ("hooks", SimpleNamespace(rlx_step_end=lambda step: None), "lacks the marker"),
    ("hooks", SimpleNamespace(), "implements no hook"),
    (
        "hooks",
        type("Needs", (), {"__init__": lambda self, path: None}),
        r"args of hooks plugin .*Needs\): path: this is missing",
    ),
    (
        "marked",
        SimpleNamespace(rlx_step_edn=len, rlx_evaluated=rlx.hookimpl(lambda step: None)),
        "rlx_step_edn has no marker, and its name is not that of a hook. Did you mean 'rlx_step_end'",
    ),
    ("call", plugin(rlx_step_end=lambda metrics: metrics["lsos"]), "its hook rlx_step_end raised KeyError: 'lsos'"),
    ("call", plugin(rlx_register=lambda registry: registry.add("rewrads", "x", 1)), "Did you mean 'rewards'"),
    ("answer", plugin(rlx_should_stop=lambda step: 3), "rlx_should_stop returned 3"),
    ("answer", plugin(rlx_rollout_failed=lambda error: "skip"), "returned 'skip'\n.*'drop', 'fail', None"),
    (
        "state",
        plugin(rlx_checkpoint_state=lambda: {"n": next(NUMBERS)}, rlx_restore_state=lambda state: None),
        r"\{'n': 0\} was restored, and then rlx_checkpoint_state returned \{'n': 1\}",
    ),
    (
        "call",
        plugin(rlx_checkpoint_state=lambda: {"when": {1, 2}}, rlx_restore_state=lambda state: None),
        r"returned \{'when': \{1, 2\}\}, which JSON does not give back as it is \(TypeError",
    ),
    (
        "hooks",
        plugin(rlx_checkpoint_state=lambda: {"a": 1}),
        "implements rlx_checkpoint_state without rlx_r",
    ),
    ("metrics", plugin(rlx_step_end=lambda metrics: metrics.update(why="late")), "rlx_step_end added 'why': 'late'"),
    (
        "summary",
        plugin(rlx_run_end=lambda summary: summary.update(x=object())),
        "after rlx_run_end, the summary can't be written as JSON: Object of type object",
    ),
    ("history", plugin(rlx_group_scored=spoil), "rlx_group_scored changed"),
    ("history", plugin(rlx_group_scored=reward), "rlx_group_scored changed"),
    (
        "history",
        plugin(rlx_checkpoint_saved=lambda path: (path / "controller.json").unlink()),
        "rlx_checkpoint_saved changed",
    ),
]


@pytest.mark.parametrize(("rule", "broken", "text"), BROKEN)
def test_a_broken_rule_is_reported_with_what_was_observed(rule, broken, text):
    with pytest.raises(ContractError, match=text) as caught:
        check_hooks(broken, call=True)
    assert caught.value.rules == [rule]
    assert f"\n{rule}: {RULES[rule]}\n" in str(caught.value)


def test_every_rule_has_a_plugin_that_breaks_it():
    assert {rule for rule, *_ in BROKEN} == set(RULES)
