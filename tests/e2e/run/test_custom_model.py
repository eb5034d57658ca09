"""The toy model of examples/custom_model: SFT by its launch script, then GRPO by the plugin's name with vLLM."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

EXAMPLE = Path(__file__).parents[3] / "examples" / "custom_model"
QUIET = {"run.loggers": '["console", "jsonl"]'}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("custom") / "model")


@pytest.fixture(scope="module")
def sft(start_in, folder, tiny_model):
    settings = {"model.path": tiny_model, "run.steps": 8, "policy.groups_per_step": 16}
    run = start_in(folder, ["sft.toml", "custom_model.py"], **QUIET, **settings)
    run.wait()
    return run


def test_a_launch_script_trains_the_model(sft):
    assert sft.process.returncode == 0, sft.output
    losses = [line["loss"] for line in sft.metrics()]
    assert losses[-1] < 0.8 * losses[0]
    assert "ModelRegistry.register_model" in (sft.dir / "plugins.json").read_text()


def test_the_export_is_a_qwen3(sft, tiny_model):
    from transformers import AutoModelForCausalLM

    exported, report = AutoModelForCausalLM.from_pretrained(
        sft.dir / "export", dtype=torch.float32, output_loading_info=True
    )
    assert type(exported).__name__ == "Qwen3ForCausalLM"
    assert not any(report.values()), report
    before = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    assert not torch.equal(exported.get_input_embeddings().weight, before.get_input_embeddings().weight)


@pytest.mark.long  # test_deepseek.py has GRPO with a plugin for a model, too
def test_grpo_uses_the_plugin_by_its_name(start_in, folder, sft, quick_engine):
    settings = {
        "model.path": sft.dir / "export",
        "run.steps": 2,
        "algorithm.group_size": 4,
        "policy.groups_per_step": 4,
        "rollout.vllm.distributed_executor_backend": quick_engine["rollout.vllm.distributed_executor_backend"],
    }
    run = start_in(folder, ["grpo.toml"], **QUIET, **settings)
    assert run.wait() == 0, run.output
    assert run.summary["sync/logprob_diff_max"] <= 1e-5
    assert run.summary["groups/trained"] == 8
    assert not run.survivors()
