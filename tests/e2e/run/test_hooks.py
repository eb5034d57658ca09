"""Every hook is called in the processes, and as often, as docs/hooks.md says.

test_failures.py has the hook that is called if a group fails, test_resume.py the one that restores a state.
"""

from __future__ import annotations

from collections import Counter

import pytest

from rlx.plugins.hooks import HOOKS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ONCE = {"configure": 1, "run_start": 1, "run_end": 1}
RL = {
    **ONCE,
    "register": 8,  # launcher, a process that tries rewards, controller, engine, its two reward processes, two ranks
    "worker_start": 4,
    "model_built": 2,
    "group_scored": 24 + 3 * 10,
    "weights_synced": 5,
    "step_end": 4,
    "should_stop": 4,
    "evaluated": 3,
    "checkpoint_saved": 2,
    "checkpoint_state": 2,
}
SFT = {
    **ONCE,
    "register": 4,  # launcher, controller, two ranks
    "worker_start": 3,
    "model_built": 2,
    "step_end": 8,
    "should_stop": 8,
    "evaluated": 2,
    "checkpoint_saved": 1,
    "checkpoint_state": 1,
}
CONTROLLER = (
    "run_start", "run_end", "weights_synced", "step_end", "should_stop", "evaluated", "checkpoint_saved",
    "checkpoint_state",
)  # fmt: skip


def test_hooks_are_called_in_rl(whole_run):
    assert Counter(call["hook"] for call in whole_run.calls()) == RL
    workers = Counter(call["process"] for call in whole_run.calls("worker_start"))
    assert workers == {"controller": 1, "policy": 2, "rollout-0": 1}
    (engine,) = {call["pid"] for call in whole_run.calls("group_scored")}
    assert engine in pids(whole_run, "worker_start", "rollout-0")


def test_hooks_are_called_in_sft(warm_run):
    assert Counter(call["hook"] for call in warm_run.calls()) == SFT
    assert Counter(call["process"] for call in warm_run.calls("worker_start")) == {"controller": 1, "policy": 2}


@pytest.mark.parametrize("kind", ["whole_run", "warm_run"])
def test_hooks_are_called_in_their_processes(kind, request):
    run = request.getfixturevalue(kind)
    (controller,) = pids(run, "worker_start", "controller")
    assert {call["pid"] for call in run.calls(*CONTROLLER)} == {controller}
    assert {call["pid"] for call in run.calls("model_built")} == pids(run, "worker_start", "policy")
    (launcher,) = {call["pid"] for call in run.calls("configure")}
    assert launcher == run.process.pid
    assert all(call["there"] for call in run.calls("checkpoint_saved"))


def test_every_hook_is_counted_here():
    assert {f"rlx_{name}" for name in (*RL, "rollout_failed", "restore_state")} == set(HOOKS)


def pids(run, hook, process):
    return {call["pid"] for call in run.calls(hook) if call["process"] == process}


def test_failures_of_best_effort_hooks_are_counted_in_every_process(start, warm, quick_engine):
    name = "./parts.py:Failing"
    settings = {
        "run.steps": 2,
        "plugins.enable": f'[{{name = "{name}", args = {{text = "no tracker today"}}}}]',
        "plugins.best_effort": f'["{name}"]',
    }
    run = start("rl", warm, **settings, **quick_engine)
    assert run.wait() == 0, run.output
    register, worker_start, model_built = 6, 4, 2  # register: controller, engine, its two reward processes, two ranks
    before = register + worker_start + model_built
    assert [line.get(f"hooks/failed/{name}") for line in run.metrics()] == [before, 1]
    assert run.summary["hooks_failed"] == {name: before + 2}
    assert f"{before + 2:>10}  {name}" in run.output
    for process in ("controller", "rollout-0", "policy/rank_0", "policy/rank_1"):
        assert "RuntimeError: no tracker today" in run.log(process)
