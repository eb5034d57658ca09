"""Arguments for every hook: made up, but of the types and with the keys that they have in a run."""

from __future__ import annotations

from pathlib import Path

from rlx.controller.records.summary import RunResult, Totals, summarise
from rlx.episodes import Reward
from rlx.plugins.registry import Registry
from rlx.testing.stand_ins.config import example_config
from rlx.testing.stand_ins.episodes import make_episode

STEP_METRICS = (
    "reward/mean", "reward/std", "completion/length_mean", "completion/truncated", "groups/zero_std", "groups/trained",
    "groups/dropped", "loss", "grad_norm", "lr", "entropy", "mismatch/kl", "staleness/mean", "staleness/max",
    "sync/logprob_diff", "time/step", "time/generate", "time/train", "tokens/trained",
)  # fmt: skip
EVAL_METRICS = ("eval/accuracy", "eval/reward", "eval/completions", "eval/dropped", "eval/seconds")
SYNC_METRICS = (
    "sync/seconds",
    "sync/bytes",
    "sync/paused_seconds",
    "sync/logprob_diff",
    "sync/verify_seconds",
    "sync/covered",
)


def hook_arguments(name: str, folder: Path) -> dict[str, object]:
    """Return the keyword arguments for a call of the hook `name`. Files that they refer to are below `folder`."""
    match name:
        case "rlx_register":
            return {"registry": Registry()}
        case "rlx_configure":
            return {"config": example_config()}
        case "rlx_worker_start":
            return {"process": "rollout-0", "config": example_config()}
        case "rlx_model_built":
            from torch import nn

            return {"model": nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))}
        case "rlx_run_start":
            return {"config": example_config(), "run_dir": folder}
        case "rlx_group_scored":
            rewards = [Reward("exact_match", value) for value in (1.0, 0.0)]
            return {
                "group": [
                    make_episode([5, 6, 7], [8, 9, 1], sample=sample, text="56", rewards=[reward])
                    for sample, reward in enumerate(rewards)
                ]
            }
        case "rlx_rollout_failed":
            return {"error": "reward 'judge' (some-rewards 1.0, judges:judge) took more than 60 s and was killed."}
        case "rlx_weights_synced":
            return {"version": 1, "metrics": dict.fromkeys(SYNC_METRICS, 0.5)}
        case "rlx_evaluated":
            return {"step": 1, "metrics": dict.fromkeys(EVAL_METRICS, 0.5)}
        case "rlx_checkpoint_saved":
            path = folder / "step_00001"
            (path / "policy").mkdir(parents=True)
            (path / "policy" / "weights").write_bytes(b"weights")
            (path / "controller.json").write_text("{}")
            return {"path": path, "step": 1}
        case "rlx_checkpoint_state":
            return {}
        case "rlx_restore_state":
            return {"state": {}}
        case "rlx_run_end":
            return {"summary": summarise(RunResult("done", folder, steps=1, seconds=1.0, trained=2), Totals())}
    assert name in {"rlx_step_end", "rlx_should_stop"}
    return {"step": 0, "metrics": dict.fromkeys(STEP_METRICS, 0.5)}
