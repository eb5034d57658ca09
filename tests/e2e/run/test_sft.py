"""Supervised fine-tuning: the run learns and exports its last or best version."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from rlx.earlier.export import export_run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_a_run_learns_and_exports(warm_run):
    assert warm_run.process.returncode == 0, warm_run.output
    losses = [line["loss"] for line in warm_run.metrics()]
    assert len(losses) == 8
    assert losses[-1] < 0.8 * losses[0]
    assert warm_run.summary["status"] == "done"
    assert warm_run.summary["steps"] == 8
    assert {path.name for path in warm_run.dir.joinpath("logs").glob("*.log")} == {"controller.log", "policy.log"}
    assert not warm_run.survivors()


def test_the_best_version_is_exported(start, tiny_model, tmp_path):
    """The loss falls, so `prefer = "highest"` selects the first version that is evaluated after a step."""
    best = {"metric": "eval/loss", "prefer": "highest"}
    settings = {f"checkpoint.best.{key}": value for key, value in best.items()}
    settings |= {"eval.every": 2, "checkpoint.keep": 1, "policy.parallel.dp_shard": 1, "run.steps": 4}
    run = start("sft", tiny_model, **settings)
    assert run.wait() == 0, run.output
    assert (run.summary["best"]["step"], run.summary["best"]["value"]) == (2, run.metrics("eval")[1]["eval/loss"])
    assert "the best version is that of step 2" in run.output
    saved, last = (_weights(run.dir / "checkpoints" / f"step_{step:05d}" / "policy") for step in (2, 4))
    exported = load_file(run.dir / "export" / "model.safetensors")
    for name, tensor in exported.items():
        assert torch.equal(tensor, saved[f"model.{name}"].to(tensor.dtype)), name
    assert any(not torch.equal(saved[name], last[name]) for name in saved if name.startswith("model."))
    newest = export_run(run.dir, to=tmp_path / "newest", dtype="bfloat16")
    best = export_run(run.dir, step="best")
    assert (newest.step, newest.best, best.step) == (4, 2, 2)
    assert (
        best.path.joinpath("model.safetensors").read_bytes()
        == run.dir.joinpath("export/model.safetensors").read_bytes()
    )
    for name, tensor in load_file(newest.path / "model.safetensors").items():
        assert torch.equal(tensor, last[f"model.{name}"].to(torch.bfloat16)), name
    assert json.loads((newest.path / "config.json").read_text())["dtype"] == "bfloat16"


def _weights(folder):
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
