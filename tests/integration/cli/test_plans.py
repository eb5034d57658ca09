"""`rlx check` of models without weights: examples/deepseek has only their config.json files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).parents[3]
GIB = 2**30
# Computed by hand from config.json: attention, router, experts, shared experts and norms of a layer.
MOONLIGHT_LAYER = (
    (2048 * 16 * 192 + 2048 * 576 + 512 * 16 * 256 + 16 * 128 * 2048)
    + 64 * 2048
    + 64 * 3 * 2048 * 1408
    + 3 * 2048 * 2816
    + (2 * 2048 + 512)
)
MOONLIGHT_DENSE = MOONLIGHT_LAYER - 64 * 2048 - 64 * 3 * 2048 * 1408 - 3 * 2048 * 2816 + 3 * 2048 * 11264
# Embedding, output head and final norm.
MOONLIGHT_AROUND = 2 * 163840 * 2048 + 2048
MOONLIGHT = 26 * MOONLIGHT_LAYER + MOONLIGHT_DENSE + MOONLIGHT_AROUND

pytestmark = pytest.mark.usefixtures("untried")


@pytest.fixture
def check(call, monkeypatch):
    """`check(config, *options)`: stdout, in one line, and stderr of `rlx check` in the repository's root."""
    monkeypatch.chdir(ROOT)

    def check(*args):
        code, out, err = call("check", *args)
        assert code == 0, err
        return " ".join(out.split()), err

    return check


@pytest.mark.parametrize(
    "arguments",
    [["moonlight-sft.toml"], ["moonlight-sft.toml", "rlx_plugin_deepseek.moonlight_launcher"], ["moonlight-grpo.toml"]],
)
def test_the_memory_plan_of_moonlight_is_that_computed_by_hand(check, arguments):
    config, *script = arguments
    out, err = check(f"examples/deepseek/{config}", *script)
    assert f"{MOONLIGHT:,} parameters" in out
    shards, gathered = 16 * MOONLIGHT / (6 if "grpo" in config else 8), 2 * (MOONLIGHT_AROUND + 2 * MOONLIGHT_LAYER)
    gradients = 6 * max(MOONLIGHT_AROUND, MOONLIGHT_LAYER)
    assert f"at least {(shards + gathered + gradients) / GIB:.2f} GiB on each policy rank's device" in out
    assert f"{shards / GIB:.2f} GiB its share of weights, gradients, Adam" in out
    assert ("on each engine worker's" in out) == ("grpo" in config)
    assert "are not here yet: `rlx run` needs them." in err


def test_the_memory_plan_of_deepseek_v3_is_that_computed_by_hand(check):
    out, _ = check("examples/deepseek/deepseek-v3-671b.toml")
    assert "671,026,404,352 parameters" in out
    assert f"{16 * 671_026_404_352 / 512 / GIB:.2f} GiB its share" in out
    assert f"at least {2 * 671_026_404_352 / 16 / GIB:.2f} GiB on each engine worker's" in out


@pytest.mark.parametrize(
    ("plugin", "layout", "message"),
    [
        ("hf", "ep=7", "ep = 7 does not divide its 64 experts."),
        ("hf", "tp=5", "tp = 5 does not divide the 11264 out_features of model.layers.0.mlp.gate_proj."),
        ("hf", "cp=3", "cp = 3 does not divide its 16 attention heads."),
        ("hf", "pp=28", "pp = 28 is more than its 27 layers."),
        ("deepseek_v3", "pp=28", "pp = 28 is more than its 27 layers."),
        ("deepseek_v3", "ep=3", "ep = 3 does not divide its 64 experts."),
        ("deepseek_v3", "tp=3", "tp = 3 does not divide its 16 attention heads."),
    ],
)
def test_a_layout_is_refused_without_weights(call, monkeypatch, plugin, layout, message):
    monkeypatch.chdir(ROOT)
    settings = ["--set", f"model.plugin={plugin}", "--set", f"policy.parallel.{layout}"]
    code, _, err = call("check", "examples/deepseek/moonlight-sft.toml", *settings)
    assert code == 2
    assert f"[policy.parallel] does not fit the model: {message}" in " ".join(err.split())


@pytest.mark.parametrize(
    ("dimension", "own", "gathered"),
    [
        ("cp", MOONLIGHT / 8, MOONLIGHT_AROUND + 2 * MOONLIGHT_LAYER),
        ("ep", MOONLIGHT / 8, MOONLIGHT_AROUND + MOONLIGHT_LAYER),
        ("tp", MOONLIGHT / 8, MOONLIGHT_AROUND + MOONLIGHT_LAYER),
        ("pp", MOONLIGHT / 8, MOONLIGHT_AROUND / 2 + 2 * MOONLIGHT_LAYER),
    ],
)
def test_ranks_that_share_a_model_need_less_memory_each(check, dimension, own, gathered):
    layout = f"policy.parallel={{dp_shard = 4, {dimension} = 2}}"
    out, _ = check("examples/deepseek/moonlight-sft.toml", "--set", "model.plugin=hf", "--set", layout)
    assert f"{16 * own / GIB:.2f} GiB its share" in out
    assert f"{2 * gathered / GIB:.2f} GiB gathered weights" in out


def test_a_run_needs_weights(call, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    code, _, err = call("run", "--run-dir", tmp_path / "run", "--config", "examples/deepseek/moonlight-sft.toml")
    assert code == 2
    assert "holds config.json alone, which is enough for `rlx check`. A run needs its weights" in " ".join(err.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("present", ["model.safetensors", "tokenizer.json"])
def test_an_incomplete_model_folder_is_refused(call, project, model, present):
    for file in model.iterdir():
        if file.name not in {"config.json", present}:
            file.unlink()
    code, _, err = call("check", project())
    assert code == 2
    assert ("no safetensors weights" if present == "tokenizer.json" else "No tokenizer") in " ".join(err.split())


def test_a_plugin_that_could_load_the_model_is_named(call, project, model):
    """transformers can build a deepseek_v3, but has no use for FP8 scales."""
    shutil.copy(ROOT / "examples/deepseek/moonlight-16b-a3b/config.json", model)
    small = {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 32, "kv_lora_rank": 8}
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **small}))
    save_file({"model.norm.weight_scale_inv": torch.ones(1)}, model / "model.safetensors", metadata={"format": "pt"})
    code, _, err = call("check", project(), "--set", "model.plugin=hf")
    assert code == 2
    assert "weight_scale_inv" in err
    assert "`pip install rlx-plugin-deepseek` brings a plugin for deepseek_v3." in err


def test_engines_do_not_start_on_quantised_weights(call, project, model):
    config_json = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config_json, "quantization_config": {"quant_method": "fp8"}}))
    code, _, err = call("check", project())
    assert code == 2
    assert "holds quantised weights, by its config.json" in " ".join(err.split())
    code, _, err = call("check", project(algorithm="sft", rewards="", dataset="./data.py:targets"))
    assert code == 0, err
