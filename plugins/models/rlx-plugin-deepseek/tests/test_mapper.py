"""The weight mapper: both directions by name, shape, dtype and bytes; FP8; errors for checkpoints that don't fit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlx import UsageError
from rlx_plugin_deepseek import DeepseekV3MoEWeightMapper, fp8
from rlx_plugin_deepseek.plugin import plugin


@pytest.fixture
def loaded(folder):
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder), load_file(folder / "model.safetensors")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_policy_to_hf_inverts_hf_to_policy(loaded, dtype):
    config, theirs = loaded
    theirs = {n: t if n.endswith("e_score_correction_bias") else t.to(dtype) for n, t in theirs.items()}
    mapper = DeepseekV3MoEWeightMapper(config)
    policy = dict(mapper.hf_to_policy(iter(theirs.items())))
    back = [pair for name, tensor in policy.items() for pair in mapper.policy_to_hf(name, tensor)]
    assert sorted(name for name, _ in back) == sorted(theirs)
    for name, tensor in back:
        assert (tensor.shape, tensor.dtype) == (theirs[name].shape, theirs[name].dtype)
        assert torch.equal(tensor.contiguous().view(torch.uint8), theirs[name].contiguous().view(torch.uint8)), name


def test_every_tensor_of_the_model_is_mapped(loaded):
    config, theirs = loaded
    model = plugin.build(config)
    policy = dict(plugin.weight_mapper(config).hf_to_policy(iter(theirs.items())))
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        del wanted["head.weight"]
    assert {name: tensor.shape for name, tensor in policy.items()} == wanted


def test_stacked_experts_are_yielded_as_soon_as_complete(checkpoint, config):
    """A stack is yielded as soon as its last part is read, in any order of parts."""
    theirs = load_file(checkpoint("v3") / "model.safetensors")
    mapper = DeepseekV3MoEWeightMapper(config("v3"))
    taken = []

    def stream():
        for name in reversed(theirs):
            taken.append(name)
            yield name, theirs[name]

    first = next(name for name, _ in mapper.hf_to_policy(stream()) if name.endswith("experts.down"))
    layer = f"model.layers.{first.split('.')[1]}"
    assert {n for n in theirs if f"{layer}.mlp.experts." in n and "down_proj" in n} <= set(taken)
    assert len(taken) < len(theirs)


def test_multi_token_prediction_layers_are_skipped(checkpoint, config):
    theirs = load_file(checkpoint("v3") / "model.safetensors")
    extra = {
        "model.layers.3.eh_proj.weight": torch.ones(2),
        "model.layers.3.mlp.experts.0.up_proj.weight": torch.ones(2),
    }
    some = DeepseekV3MoEWeightMapper(config("v3", num_nextn_predict_layers=1))
    none = DeepseekV3MoEWeightMapper(config("v3"))
    names = {name for name, _ in some.hf_to_policy(iter({**theirs, **extra}.items()))}
    assert not names & set(extra)
    # If the config doesn't declare them, they pass through as unknown tensors, which rlx refuses by name.
    assert set(extra) <= {name for name, _ in none.hf_to_policy(iter({**theirs, **extra}.items()))}


def test_a_missing_expert_is_named(checkpoint, config):
    theirs = load_file(checkpoint("v3") / "model.safetensors")
    del theirs["model.layers.2.mlp.experts.5.up_proj.weight"]
    with pytest.raises(UsageError, match=r"lacks 1 tensor.*model\.layers\.2\.mlp\.experts\.5\.up_proj\.weight"):
        dict(DeepseekV3MoEWeightMapper(config("v3")).hf_to_policy(iter(theirs.items())))


def test_an_expert_of_another_shape_is_named(checkpoint, config):
    theirs = load_file(checkpoint("v3") / "model.safetensors")
    theirs["model.layers.1.mlp.experts.0.down_proj.weight"] = torch.ones(3, 4)
    with pytest.raises(UsageError, match=r"experts\.0\.down_proj\.weight has the shape \[3, 4\].*\[64, 32\]"):
        dict(DeepseekV3MoEWeightMapper(config("v3")).hf_to_policy(iter(theirs.items())))


def quantised(tensors, block):
    """Quantise every projection to FP8 in blocks, with a naive loop."""
    made = {}
    for name, tensor in tensors.items():
        if not name.endswith("_proj.weight"):
            made[name] = tensor.bfloat16() if tensor.ndim > 1 else tensor
            continue
        rows, columns = -(-tensor.shape[0] // block), -(-tensor.shape[1] // block)
        scale, weight = torch.empty(rows, columns), torch.empty_like(tensor, dtype=torch.float8_e4m3fn)
        for r in range(rows):
            for c in range(columns):
                place = (slice(r * block, (r + 1) * block), slice(c * block, (c + 1) * block))
                scale[r, c] = tensor[place].abs().max() / 448
                weight[place] = (tensor[place] / scale[r, c]).to(torch.float8_e4m3fn)
        made[name], made[f"{name}_scale_inv"] = weight, scale
    return made


def restored(made, block):
    """Dequantise independently of the plugin: element by element, in float64."""
    plain = {}
    for name, tensor in made.items():
        if name.endswith("_scale_inv"):
            continue
        if f"{name}_scale_inv" in made:
            scale = made[f"{name}_scale_inv"].double()
            r, c = torch.meshgrid(*(torch.arange(size) // block for size in tensor.shape), indexing="ij")
            tensor = (tensor.double() * scale[r, c]).float()
        plain[name] = tensor.bfloat16() if tensor.ndim > 1 else tensor
    return plain


@pytest.mark.parametrize("block", [16, 128])
@pytest.mark.parametrize("order", [sorted, lambda names: sorted(names, reverse=True)])
def test_fp8_checkpoints_are_dequantised(checkpoint, config, block, order):
    made = quantised(load_file(checkpoint("v3") / "model.safetensors"), block)
    expected = restored(made, block)
    quantization = {"quant_method": "fp8", "weight_block_size": [block, block]}
    mapper = DeepseekV3MoEWeightMapper(config("v3", quantization_config=quantization))
    policy = dict(mapper.hf_to_policy((name, made[name]) for name in order(made)))
    back = dict(pair for name, tensor in policy.items() for pair in mapper.policy_to_hf(name, tensor))
    assert set(back) == set(expected)
    for name, tensor in back.items():
        torch.testing.assert_close(tensor.float(), expected[name].float(), atol=0, rtol=2**-8, msg=name)


@pytest.mark.parametrize("lost", ["weight", "weight_scale_inv"])
def test_an_fp8_weight_or_scale_without_the_other_is_an_error(lost):
    pair = {"x.weight": torch.zeros(4, 4, dtype=torch.float8_e4m3fn), "x.weight_scale_inv": torch.ones(1, 1)}
    del pair[f"x.{lost}"]
    with pytest.raises(UsageError, match=rf"x\.{lost}.* is missing"):
        dict(fp8.plain(iter(pair.items())))


def test_fp8_scales_of_another_shape_are_refused():
    pair = {"x.weight": torch.zeros(200, 4, dtype=torch.float8_e4m3fn), "x.weight_scale_inv": torch.ones(1, 1)}
    with pytest.raises(UsageError, match=r"x\.weight_scale_inv has the shape \[1, 1\].*must be \[2, 1\]"):
        dict(fp8.plain(iter(pair.items())))


@pytest.fixture
def fp8_folder(checkpoint, tmp_path):
    """An FP8 checkpoint in blocks of 16, in two files; some scales are in another file than their weight."""
    source = checkpoint("v3")
    folder = shutil.copytree(source, tmp_path / "fp8", ignore=shutil.ignore_patterns("*.safetensors"))
    made = quantised(load_file(source / "model.safetensors"), 16)
    names = sorted(made)
    for number, part in enumerate((names[: len(names) // 2 + 1], names[len(names) // 2 + 1 :])):
        save_file({name: made[name] for name in part}, folder / f"model-0000{number + 1}-of-00002.safetensors")
    config = json.loads((folder / "config.json").read_text())
    quantization = {"quant_method": "fp8", "weight_block_size": [16, 16]}
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": quantization}))
    return folder, restored(made, 16)


def test_the_dequantise_command_writes_a_plain_checkpoint(fp8_folder, tmp_path):
    from transformers import AutoModelForCausalLM

    folder, expected = fp8_folder
    command = [sys.executable, "-m", "rlx_plugin_deepseek.dequantise", folder, tmp_path / "plain"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    seen = {name: t for file in (tmp_path / "plain").glob("*.safetensors") for name, t in load_file(file).items()}
    assert set(seen) == set(expected)
    for name, tensor in seen.items():
        assert tensor.dtype == expected[name].dtype
        torch.testing.assert_close(tensor.float(), expected[name].float(), atol=0, rtol=2**-8, msg=name)
    _, report = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", output_loading_info=True)
    assert not any(report.values()), report
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (again.returncode, "exists already" in again.stderr) == (2, True)
    assert (tmp_path / "plain/tokenizer.json").is_file()


def test_dequantising_a_folder_without_fp8_is_an_error(checkpoint, tmp_path):
    from rlx_plugin_deepseek.dequantise import dequantise

    with pytest.raises(UsageError, match="it isn't an FP8 checkpoint"):
        dequantise(checkpoint("v3"), tmp_path / "plain")
    assert not list(tmp_path.iterdir())
