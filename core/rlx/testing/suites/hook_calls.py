"""The part of `check_hooks` that calls each hook once, in the order of a run, and looks at what it changed.

Arguments are made up, but of the kinds and with the keys that a run has: metrics as metrics.jsonl has them, a group of
scored episodes, a checkpoint's folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from numbers import Real
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from rlx.boot import PluginRecord
from rlx.controller.records.summary import RunResult, Totals, summarise
from rlx.episodes import Episode, Reward, VersionSpan, single_turn
from rlx.errors import ConfigError
from rlx.plugins.hooks import Hooks
from rlx.plugins.registry import Registry
from rlx.plugins.source import sha256
from rlx.testing.suites.contract import Broken, example_config, guarded

ORDER = (
    "rlx_register", "rlx_configure", "rlx_worker_start", "rlx_model_built", "rlx_run_start", "rlx_group_scored",
    "rlx_rollout_failed", "rlx_weights_synced", "rlx_step_end", "rlx_should_stop", "rlx_evaluated",
    "rlx_checkpoint_saved", "rlx_run_end",
)  # fmt: skip
STEP_METRICS = (
    "reward/mean", "reward/std", "completion/length_mean", "completion/truncated", "groups/zero_std", "groups/trained",
    "groups/dropped", "loss", "grad_norm", "lr", "entropy", "mismatch/kl", "staleness/mean", "staleness/max",
    "sync/logprob_diff", "time/step", "time/generate", "time/train", "tokens/trained",
)  # fmt: skip
EVAL_METRICS = ("eval/accuracy", "eval/reward", "eval/completions", "eval/dropped", "eval/seconds")
SYNC_METRICS = ("sync/seconds", "sync/bytes", "sync/paused_seconds", "sync/logprob_diff", "sync/verify_seconds")
ANSWERS: Mapping[str, tuple[Any, ...]] = MappingProxyType({"rlx_rollout_failed": ("drop", "fail", None)})


def broken_calls(hooks: Hooks, record: PluginRecord, folder: Path) -> Iterator[Broken]:
    """The rules from `call` on that the plugin breaks. `folder` is empty, and may be written to."""
    for name in ORDER:
        if getattr(hooks.relay, name).get_hookimpls():
            todo = "Let it bear what a run gives it; the hook reference says what that is."
            yield from guarded("call", todo, _of_call(hooks, record, name, folder / name))


def _of_call(hooks: Hooks, record: PluginRecord, name: str, folder: Path) -> Iterator[Broken]:
    folder.mkdir()
    arguments = _arguments(name, folder)
    before = _history(arguments)
    call = getattr(hooks.relay, name)
    try:
        if name == "rlx_register":
            with arguments["registry"].provided_by(record):
                call(**arguments)
            return
        answer = call(**arguments)
    except ConfigError:
        if name != "rlx_configure":
            raise
        return  # it may refuse a config, and this one is made up
    yield from _of_answer(name, answer)
    yield from _of_metrics(name, arguments.get("metrics", {}))
    if _history(arguments) != before:
        yield Broken("history", f"{name} changed them", "Work on a copy; metrics and `trainable` may be changed.")
    yield from _of_summary(arguments.get("summary"))


def _of_answer(name: str, answer: Any) -> Iterator[Broken]:
    if name == "rlx_should_stop" and not (answer is None or isinstance(answer, bool | str)):
        yield Broken("answer", f"{name} answered {answer!r:.80}", "Answer True, False, a reason as text, or None.")
    if name in ANSWERS and answer not in ANSWERS[name]:
        known = ", ".join(map(repr, ANSWERS[name]))
        yield Broken("answer", f"{name} answered {answer!r:.80}", f"Answer one of {known}.")


def _of_metrics(name: str, metrics: Mapping[Any, Any]) -> Iterator[Broken]:
    for key, value in metrics.items():
        if not (isinstance(key, str) and isinstance(value, Real)):
            yield Broken("metrics", f"{name} added {key!r}: {value!r:.80}", "Add text -> float; `float(value)`.")


def _of_summary(summary: Any) -> Iterator[Broken]:
    try:
        json.dumps(summary)
    except (TypeError, ValueError) as error:
        yield Broken("summary", f"rlx_run_end left what JSON can't hold: {error}", "Add text, numbers, lists, dicts.")


def _arguments(name: str, folder: Path) -> dict[str, Any]:
    """What a run would give to the hook."""
    match name:
        case "rlx_register":
            return {"registry": Registry()}
        case "rlx_configure":
            return {"config": example_config()}
        case "rlx_worker_start":
            return {"process": "rollout-0", "config": example_config()}
        case "rlx_model_built":
            return {"model": _network()}
        case "rlx_run_start":
            return {"config": example_config(), "run_dir": folder}
        case "rlx_group_scored":
            return {"group": _group()}
        case "rlx_rollout_failed":
            return {"error": "reward 'judge' (some-rewards 1.0, judges:judge) took more than 60 s and was killed."}
        case "rlx_weights_synced":
            return {"version": 1, "metrics": dict.fromkeys(SYNC_METRICS, 0.5)}
        case "rlx_evaluated":
            return {"step": 1, "metrics": dict.fromkeys(EVAL_METRICS, 0.5)}
        case "rlx_checkpoint_saved":
            return {"path": _checkpoint(folder), "step": 1}
        case "rlx_run_end":
            return {"summary": _summary(folder)}
    assert name in {"rlx_step_end", "rlx_should_stop"}
    return {"step": 0, "metrics": dict.fromkeys(STEP_METRICS, 0.5)}


def _history(arguments: Mapping[str, Any]) -> Any:
    """What a hook must not change of its arguments."""
    if "group" in arguments:
        return [_unchangeable(episode) for episode in arguments["group"]]
    if "path" in arguments:
        return {file: sha256(file) for file in sorted(arguments["path"].rglob("*")) if file.is_file()}
    return None


def _unchangeable(episode: Episode) -> bytes:
    segments = [segment for trajectory in episode.trajectories for segment in trajectory.segments]
    plain = [msgspec.structs.replace(segment, trainable=True) for segment in segments]
    return msgspec.json.encode([episode.rewards, plain])


def _group() -> list[Episode]:
    episodes = []
    for sample, value in enumerate((1.0, 0.0)):
        trajectory = single_turn(
            [5, 6, 7], [8, 9, 1], logprobs=[-0.5, -0.25, -0.125], versions=[VersionSpan(0, 3)], finish_reason="stop"
        )
        rewards = [Reward("exact_match", value)]
        episodes.append(Episode(0, sample, 0, [trajectory], "56", "234", rewards, stop_reason="stop", seed=sample))
    return episodes


def _network() -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))


def _checkpoint(folder: Path) -> Path:
    path = folder / "step_00001"
    (path / "policy").mkdir(parents=True)
    (path / "policy" / "weights").write_bytes(b"weights")
    (path / "controller.json").write_text("{}")
    return path


def _summary(folder: Path) -> dict[str, object]:
    return summarise(RunResult("done", folder, steps=1, seconds=1.0, trained=2), Totals())
