from __future__ import annotations

import inspect
import math
from types import SimpleNamespace

import pytest

import rlx
from rlx.boot import PluginRecord
from rlx.config.sections.plugins import PluginsConfig
from rlx.errors import ConfigError, HookError, PluginError
from rlx.plugins import hookspecs
from rlx.plugins.hooks import HOOKS, Hooks


def record(name):
    return PluginRecord("hooks", name, f"{name}-dist", "1.0", f"{name}_mod:plugin", "")


def plugin(**functions):
    return SimpleNamespace(**{name: rlx.hookimpl(function) for name, function in functions.items()})


def test_every_hook_is_specified_and_documented():
    assert set(HOOKS) == {
        "rlx_register", "rlx_configure", "rlx_run_start", "rlx_run_end", "rlx_worker_start", "rlx_model_built",
        "rlx_group_scored", "rlx_step_end", "rlx_weights_synced", "rlx_checkpoint_saved", "rlx_evaluated",
        "rlx_should_stop", "rlx_rollout_failed", "rlx_checkpoint_state", "rlx_restore_state",
    }  # fmt: skip
    for name in HOOKS:
        text = inspect.getdoc(getattr(hookspecs, name))
        assert "Process:" in text
        assert "Frequency:" in text


def test_hooks_are_called_in_the_order_of_the_config():
    called = []
    make = lambda name: plugin(rlx_step_end=lambda step: called.append((name, step)))  # noqa: E731
    hooks = Hooks([(record(name), make(name)) for name in ("b", "a", "c")])
    hooks.relay.rlx_step_end(step=4, metrics={})
    assert called == [("b", 4), ("a", 4), ("c", 4)]


def test_the_first_answer_that_is_not_none_wins():
    answers = {"a": None, "b": "enough", "c": True}
    hooks = Hooks([(record(k), plugin(rlx_should_stop=lambda step, v=v: v)) for k, v in answers.items()])
    assert hooks.relay.rlx_should_stop(step=1, metrics={}) == "enough"


def test_metrics_can_be_added_in_place():
    hooks = Hooks([(record("a"), plugin(rlx_step_end=lambda metrics: metrics.update(mine=1.0)))])
    metrics = {}
    hooks.relay.rlx_step_end(step=1, metrics=metrics)
    assert metrics == {"mine": 1.0}


def test_a_class_is_instantiated_once_and_its_methods_are_called():
    class Mine:
        def __init__(self):
            self.steps = []

        @rlx.hookimpl
        def rlx_step_end(self, step, metrics):
            self.steps.append(step)
            metrics["seen"] = float(len(self.steps))

    metrics = {}
    hooks = Hooks([(record("a"), Mine)])
    hooks.relay.rlx_step_end(step=1, metrics=metrics)
    hooks.relay.rlx_step_end(step=2, metrics=metrics)
    assert metrics == {"seen": 2.0}


def fail(step):
    raise KeyError("lost")


def test_a_raising_hook_ends_the_run_and_is_named():
    with pytest.raises(HookError) as caught:
        Hooks([(record("a"), plugin(rlx_step_end=fail))]).relay.rlx_step_end(step=1, metrics={})
    assert "hooks plugin 'a' (a-dist 1.0, a_mod:plugin): its hook rlx_step_end raised KeyError: 'lost'" in str(
        caught.value
    )
    assert isinstance(caught.value, PluginError)
    assert caught.value.exit_code == 1
    assert isinstance(caught.value.__cause__, KeyError)


def test_best_effort_failures_are_counted_and_other_hooks_still_run(caplog):
    called = []
    plugins = [
        (record("a"), plugin(rlx_step_end=fail)),
        (record("b"), plugin(rlx_step_end=lambda step: called.append(step))),
    ]
    hooks = Hooks(plugins, PluginsConfig(enable=["a", "b"], best_effort=["a"]))
    for step in (1, 2):
        hooks.relay.rlx_step_end(step=step, metrics={})
    assert called == [1, 2]
    assert hooks.failures.take() == {"a": 2}
    hooks.relay.rlx_step_end(step=3, metrics={})
    assert hooks.failures.take() == {"a": 1}
    assert hooks.failures.take() == {}
    assert hooks.failures.total == {"a": 3}
    assert "rlx_step_end raised" in caplog.text


def test_a_config_error_of_a_hook_is_raised_unchanged():
    def refuse(config):
        raise ConfigError("[meta] owner: who are you?")

    with pytest.raises(ConfigError, match="who are you"):
        Hooks([(record("a"), plugin(rlx_configure=refuse))]).relay.rlx_configure(config=None)


class Rated:
    def __init__(self, rate: float, *, unit: str = "s"):
        if rate < 0:
            raise ValueError("rate must not be negative")
        self.rate, self.unit = rate, unit

    @rlx.hookimpl
    def rlx_step_end(self, metrics):
        metrics["rate"] = self.rate


def enabled(**args):
    return PluginsConfig.model_validate({"enable": ["other", {"name": "a", "args": args}]})


def test_a_class_gets_its_options():
    metrics = {}
    Hooks([(record("a"), Rated)], enabled(rate=0.5)).relay.rlx_step_end(step=1, metrics=metrics)
    assert metrics == {"rate": 0.5}


@pytest.mark.parametrize(
    ("target", "args", "message"),
    [
        (Rated, {}, " of OWNER: rate: this is missing"),
        (Rated, {"rate": "x"}, ' of OWNER: rate: expected a number, got "x" (text)'),
        (Rated, {"rate": 1.0, "unti": "h"}, " of OWNER: unti: unknown key. Did you mean 'unit'?"),
        (Rated, {"rate": -1.0}, " of OWNER: rate must not be negative"),
        (plugin(rlx_step_end=fail), {"rate": 1.0}, ": OWNER is an object, not a class: it takes no args."),
        (pytest, {"rate": 1.0}, ": OWNER is a module, not a class: it takes no args."),
    ],
)
def test_invalid_options_are_errors(target, args, message):
    with pytest.raises(ConfigError) as caught:
        Hooks([(record("a"), target)], enabled(**args))
    owner = "hooks plugin 'a' (a-dist 1.0, a_mod:plugin)"
    assert str(caught.value) == f"[plugins] enable, args{message.replace('OWNER', owner)}"


def state_plugin(state, best_effort=False):
    made = plugin(rlx_checkpoint_state=lambda: state, rlx_restore_state=lambda state: None)
    return Hooks([(record("a"), made)], PluginsConfig(enable=["a"], best_effort=["a"] if best_effort else []))


@pytest.mark.parametrize("state", [{}, {"a": [1, 2.5, None, True, "\u00e9", {"b": []}], "n": 10**40}, None])
def test_a_state_that_json_gives_back_is_accepted(state):
    assert state_plugin(state).relay.rlx_checkpoint_state() == ([] if state is None else [state])


def circular():
    state = {}
    state["self"] = state
    return state


@pytest.mark.parametrize(
    "state",
    [[1], "text", 3, {1: "x"}, {"a": (1, 2)}, {"a": {1}}, {"a": b"x"}, {"a": math.nan}, {"a": math.inf}, circular()],
)
def test_a_state_that_json_changes_is_an_error_of_its_plugin(state):
    with pytest.raises(HookError, match=r"'a' \(a-dist 1.0.*rlx_checkpoint_state returned .*JSON does not give"):
        state_plugin(state).relay.rlx_checkpoint_state()
    tolerated = state_plugin(state, best_effort=True)
    assert tolerated.relay.rlx_checkpoint_state() == []
    assert tolerated.failures.take() == {"a": 1}


@pytest.mark.parametrize("hook", ["rlx_checkpoint_state", "rlx_restore_state"])
def test_one_half_of_the_state_hooks_is_refused(hook):
    function = (lambda: {"a": 1}) if hook == "rlx_checkpoint_state" else (lambda state: None)
    with pytest.raises(PluginError, match=f"implements {hook} without rlx_"):
        Hooks([(record("a"), plugin(**{hook: function}))])
