from __future__ import annotations

from types import SimpleNamespace

import pytest

import rlx
from rlx.boot import PluginRecord
from rlx.config.sections.plugins import PluginsConfig
from rlx.controller.records.metrics import hook_failure_metrics, timing_metrics
from rlx.errors import HookError
from rlx.plugins.hooks import Hooks
from rlx.plugins.timings import CallTimings


def test_what_was_taken_is_not_new_again_but_stays_in_the_total():
    costs = CallTimings()
    costs.add("reward/a", 1.0)
    costs.merge({"reward/a": (2.0, 3), "hook/p/h": (0.5, 1)})
    assert costs.take() == {"reward/a": (3.0, 4), "hook/p/h": (0.5, 1)}
    costs.add("reward/a", 0.25)
    assert costs.take() == {"reward/a": (0.25, 1)}
    assert costs.take() == {}
    assert costs.total == {"reward/a": (3.25, 5), "hook/p/h": (0.5, 1)}


def test_calls_are_a_metric_of_rewards_alone():
    assert timing_metrics({"reward/./r.py:judge": (2.0, 30), "hook/p/rlx_step_end": (0.5, 1)}) == {
        "time/reward/./r.py:judge": 2.0,
        "calls/reward/./r.py:judge": 30.0,
        "time/hook/p/rlx_step_end": 0.5,
    }


def test_failures_of_hooks_are_metrics_by_plugin():
    assert hook_failure_metrics({"./h.py:A": 2}) == {"hooks/failed/./h.py:A": 2.0}
    assert hook_failure_metrics({}) == {}


def record(name):
    return PluginRecord("hooks", name, f"{name}-dist", "1.0", f"{name}_mod:plugin", "")


@rlx.hookimpl
def rlx_step_end(step, metrics):
    if step == 1:
        raise RuntimeError("it counts all the same")


def test_each_call_of_a_hook_is_counted_for_its_plugin():
    plugins = [(record(name), SimpleNamespace(rlx_step_end=rlx_step_end)) for name in ("a", "b")]
    hooks = Hooks(plugins, PluginsConfig(best_effort=["b"]))
    hooks.relay.rlx_step_end(step=0, metrics={})
    with pytest.raises(HookError):
        hooks.relay.rlx_step_end(step=1, metrics={})
    assert {name: calls for name, (_, calls) in hooks.timings.total.items()} == {
        "hook/a/rlx_step_end": 2,
        "hook/b/rlx_step_end": 1,
    }
    assert all(seconds > 0 for seconds, _ in hooks.timings.total.values())
