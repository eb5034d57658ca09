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


def test_take_returns_new_timings_once_and_keeps_the_total():
    call_timings = CallTimings()
    call_timings.add("reward/a", 1.0)
    call_timings.merge({"reward/a": (2.0, 3), "hook/p/h": (0.5, 1)})
    assert call_timings.take() == {"reward/a": (3.0, 4), "hook/p/h": (0.5, 1)}
    call_timings.add("reward/a", 0.25)
    assert call_timings.take() == {"reward/a": (0.25, 1)}
    assert call_timings.take() == {}
    assert call_timings.total == {"reward/a": (3.25, 5), "hook/p/h": (0.5, 1)}


def test_only_rewards_have_a_metric_of_calls():
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
