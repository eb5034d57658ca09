"""Hooks that block in the controller: the run goes on around them, names them, and does not wait for ever."""

from __future__ import annotations

import asyncio
import hashlib
import time

import pytest

from rlx.boot import PluginRecord
from rlx.plugins.hook_thread import HookLimits

BLOCKING = """
import time
import rlx

class Blocks:
    @rlx.hookimpl
    def {hook}(self):
        began = time.monotonic()
        time.sleep({seconds})
        with open({note!r}, "a") as file:
            print(began, time.monotonic(), file=file)
"""
HOOKS = {
    "rlx_worker_start": {},
    "rlx_run_start": {},
    "rlx_weights_synced": {},
    "rlx_step_end": {},
    "rlx_should_stop": {},
    "rlx_evaluated": {"eval": {"dataset": {"name": "held_out"}, "every": 1, "samples": 2}},
    "rlx_checkpoint_saved": {"checkpoint": {"every": 1}},
    "rlx_rollout_failed": {},
}
"""Hook of the controller -> the config in which it is called."""


def blocking(folder, hook, seconds):
    path = folder / "blocks.py"
    path.write_text(BLOCKING.format(hook=hook, seconds=seconds, note=str(folder / "blocked")))
    target = f"{path}:Blocks"
    return PluginRecord("hooks", target, "", "", target, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize("hook", HOOKS)
async def test_a_hook_that_blocks_stops_neither_heartbeats_nor_the_display(
    make_run, script, tmp_path, monkeypatch, hook
):
    monkeypatch.setattr(HookLimits, "of", lambda _: HookLimits(0.1, 60.0))
    record, ticks = blocking(tmp_path, hook, 0.4), []

    async def tick():
        """Note when the event loop, which the controller of this test shares, does anything."""
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.02)

    run = make_run(
        steps=1, script=script(drops={0}), plugins={"enable": [record.name]},
        records=[record], **HOOKS[hook],
    )  # fmt: skip
    watching = asyncio.create_task(tick())
    ended = await run()
    watching.cancel()
    assert ended.status == "done", ended.error
    blocked = [[float(word) for word in line.split()] for line in (tmp_path / "blocked").read_text().splitlines()]
    assert all(sum(began < moment < end for moment in ticks) > 3 for began, end in blocked)
    if hook != "rlx_worker_start":  # the launcher is not connected yet
        text = next(line.text for line in run.logs if line.level == "warning" and "its hook" in line.text)
        assert f"blocks.py:Blocks) : its hook {hook} has been running" in text.replace("):", ") :")
        assert "time.sleep(0.4)" in text


@pytest.mark.parametrize("best_effort", [False, True])
async def test_a_hook_that_never_returns_ends_the_run(make_run, tmp_path, monkeypatch, best_effort):
    monkeypatch.setattr(HookLimits, "of", lambda _: HookLimits(0.2, 0.4))
    monkeypatch.setattr("rlx.plugins.hook_thread.BEHIND_SECONDS", 0.2)
    record = blocking(tmp_path, "rlx_step_end", 5)
    plugins = {"enable": [record.name], "best_effort": [record.name] if best_effort else []}
    ended = await make_run(plugins=plugins, records=[record])()
    assert ended.status == "failed"
    assert "blocks.py:Blocks): its hook rlx_step_end has been running for" in ended.error
    assert "raise [run] stall_seconds" in ended.error
    assert "time.sleep(5)" in ended.error
