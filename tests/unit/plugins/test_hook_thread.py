"""Hooks in a thread of their own: the event loop goes on while they block, and one that never returns is named."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest

from rlx.boot import PluginRecord
from rlx.config.sections.plugins import PluginsConfig
from rlx.config.sections.run import RunConfig
from rlx.errors import HookError
from rlx.plugins import hook_thread
from rlx.plugins.hook_thread import HookLimits, HookThread
from rlx.plugins.hooks import Hooks
from rlx.plugins.hookspecs import hookimpl


def record(name):
    return PluginRecord("hooks", name, "", "", "x.py:X", "")


def hook_thread_of(*plugins, best_effort=(), report=0.05, give_up=60.0):
    """Return a `HookThread` of (name, hooks by name), and its reports."""
    made = [(record(name), SimpleNamespace(**{n: hookimpl(f) for n, f in hooks.items()})) for name, hooks in plugins]
    section = PluginsConfig(enable=[name for name, _ in plugins], best_effort=list(best_effort))
    reports = []
    return HookThread(Hooks(made, section), HookLimits(report, give_up), report=reports.append), reports


@pytest.fixture
def released():
    event = threading.Event()
    yield event
    event.set()


async def test_hooks_run_in_one_thread_in_order_and_return_what_pluggy_returns():
    calls = []

    def hook(name, answer):
        def rlx_should_stop(step):
            calls.append((name, step, threading.current_thread().name))
            return answer

        return {"rlx_should_stop": rlx_should_stop}

    thread, reports = hook_thread_of(("a", hook("a", None)), ("b", hook("b", "enough")))
    answers = await asyncio.gather(*(thread.call("rlx_should_stop", step=n, metrics={}) for n in range(3)))
    assert answers == ["enough"] * 3
    assert calls == [(name, step, "rlx-hooks") for step in range(3) for name in "ab"]
    assert not reports


async def test_without_an_implementation_nothing_is_called():
    thread, _ = hook_thread_of(("a", {"rlx_step_end": lambda step: None}))
    assert await thread.call("rlx_should_stop", step=1, metrics={}) is None
    assert await thread.call("rlx_evaluated", step=1, metrics={}) == []


async def test_the_event_loop_goes_on_and_a_slow_hook_is_reported_with_the_line_where_it_stands():
    def rlx_step_end(metrics):
        time.sleep(0.5)
        metrics["mine"] = 1.0

    ticks, metrics = [], {}
    thread, reports = hook_thread_of(("slow.py:Slow", {"rlx_step_end": rlx_step_end}))

    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    await thread.call("rlx_step_end", step=1, metrics=metrics)
    ticking.cancel()
    assert metrics == {"mine": 1.0}
    assert len(ticks) > 10
    assert reports[0].startswith(
        "hooks plugin 'slow.py:Slow' (x.py:X): its hook rlx_step_end has been running for 0 s."
    )
    assert "test_hook_thread.py" in reports[0]
    assert "time.sleep(0.5)" in reports[0]
    assert "The run waits for it, and ends if it takes longer than 60 s" in reports[0]
    assert 2 <= len(reports) <= 4, "the time between reports doubles"


@pytest.mark.parametrize("best_effort", [False, True])
async def test_a_hook_that_never_returns_is_given_up(released, best_effort):
    names = ["hung"] if best_effort else []
    hung = ("hung", {"rlx_step_end": lambda step: released.wait(30)})
    thread, _ = hook_thread_of(hung, best_effort=names, give_up=0.3)
    with pytest.raises(HookError, match=r"hooks plugin 'hung'.*rlx_step_end has been running(.|\n)*released.wait"):
        await thread.call("rlx_step_end", step=1, metrics={})


async def test_the_last_hooks_are_not_called_behind_one_that_still_runs(released, monkeypatch):
    monkeypatch.setattr(hook_thread, "BEHIND_SECONDS", 0.1)
    called = []
    hooks = {"rlx_step_end": lambda step: released.wait(30), "rlx_run_end": lambda summary: called.append(summary)}
    thread, _ = hook_thread_of(("p", hooks))
    step = asyncio.create_task(thread.call("rlx_step_end", step=1, metrics={}))
    await asyncio.sleep(0.05)
    step.cancel()  # as when the run fails
    with pytest.raises(HookError, match=r"rlx_run_end is not called, since another hook still runs.*rlx_step_end"):
        await thread.call_at_end("rlx_run_end", summary={})
    released.set()
    await thread.call_at_end("rlx_run_end", summary={"status": "failed"})
    assert called == [{"status": "failed"}], "the call that was given up never happens"


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3)])
async def test_an_error_of_a_hook_is_raised_where_its_result_is_awaited(error):
    def rlx_step_end(step):
        raise error

    thread, _ = hook_thread_of(("bad", {"rlx_step_end": rlx_step_end}))
    with pytest.raises(HookError, match=rf"hooks plugin 'bad'.*rlx_step_end raised {type(error).__name__}"):
        await thread.call("rlx_step_end", step=1, metrics={})


def test_a_hook_is_reported_as_soon_as_a_silent_process_and_given_up_as_any_wait():
    assert HookLimits.of(RunConfig()) == HookLimits(60.0, 3600.0)
    assert HookLimits.of(RunConfig(stall_seconds=10.0)) == HookLimits(10.0, 120.0)
