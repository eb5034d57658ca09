"""Loading a model folder into a sharded network on one rank, and exporting it again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM

from rlx.errors import PluginError, UsageError
from rlx.policy.packing.step_plan import score_plan
from rlx.policy.weights.export import export
from rlx.policy.weights.full_weights import FullWeights
from rlx.policy.weights.hf_folder import INDEX, weight_files
from rlx.sync.buckets import manifest_of
from rlx_models.hf import HFWeightMapper

MODELS = ["tied", "untied", "moe"]


def _logprobs(built, sequences):
    plan = score_plan(sequences, max_tokens=64, packing=built.model.packing)
    found = {}
    with torch.no_grad():
        for micro in plan.micro_batches:
            found.update(micro.by_episode(built.model(micro).logprobs))
    return found


def _reference(folder, sequences):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for tokens in sequences:
            ids = torch.tensor([tokens])
            logprobs = model(ids).logits[0, :-1].log_softmax(-1)
            yield logprobs.gather(1, ids[0, 1:, None])[:, 0]


def _assert_scores(built, folder, sequences):
    found = _logprobs(built, sequences)
    for index, wanted in enumerate(_reference(folder, sequences)):
        torch.testing.assert_close(torch.tensor(found[index]), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("packing", [True, False])
def test_a_loaded_policy_scores_like_from_pretrained(build, sequences, request, model, packing):
    folder = request.getfixturevalue(model)
    built = build(folder, packing=packing)
    assert all(isinstance(parameter, DTensor) for parameter in built.network.parameters())
    _assert_scores(built, folder, sequences)


def test_a_mapper_does_not_change_scores(build, sequences, tied):
    """Mapping names builds a second model of the same config, which must not affect the policy."""
    built = build(tied)
    list(built.mapper.policy_to_hf("model.norm.weight", torch.zeros(64)))
    assert built.network.config._attn_implementation == "rlx_varlen"
    _assert_scores(built, tied, sequences)


def test_tied_parameters_stay_tied(build, tied):
    network = build(tied).network
    assert network.lm_head.weight is network.model.embed_tokens.weight
    assert "lm_head.weight" not in dict(network.named_parameters())


def test_gradient_checkpointing_changes_no_gradient(build, tied, sequences):
    gradients = []
    for recompute in (False, True):
        built = build(tied, gradient_checkpointing=recompute)
        built.model.train()
        (micro,) = score_plan(sequences, max_tokens=1000, packing=True).micro_batches
        built.model(micro).logprobs.sum().backward()
        gradients.append({name: p.grad.full_tensor() for name, p in built.network.named_parameters()})
    plain, recomputed = gradients
    assert plain.keys() == recomputed.keys()
    assert all(torch.equal(plain[name], recomputed[name]) for name in plain)


@pytest.mark.parametrize("model", MODELS)
def test_an_export_has_the_files_and_tensors_of_its_source(build, request, model, sequences, tmp_path):
    folder = request.getfixturevalue(model)
    built = build(folder)
    with torch.no_grad():
        for parameter in built.network.parameters():
            parameter.mul_(1.25)
    export(built, tmp_path / "export", writes=True, tokenizer=None, chat_template="{{ messages }}")
    source, made = load_file(folder / "model.safetensors"), load_file(tmp_path / "export" / "model.safetensors")
    assert source.keys() == made.keys()
    assert all(torch.equal(made[name], source[name] * 1.25) for name in source)
    files = {path.name for path in folder.iterdir()} | {"chat_template.jinja"}
    assert {path.name for path in (tmp_path / "export").iterdir()} == files
    _assert_scores(built, tmp_path / "export", sequences)


@pytest.mark.parametrize("model", MODELS)
def test_the_manifest_lists_a_checkpoint_layer_by_layer(build, request, model):
    folder = request.getfixturevalue(model)
    manifest = manifest_of(FullWeights(build(folder), torch.bfloat16).meta_buckets())
    source = load_file(folder / "model.safetensors")
    announced = {meta.name: meta for bucket in manifest for meta in bucket}
    assert announced.keys() == source.keys()
    assert all(announced[name].shape == list(source[name].shape) for name in source)
    assert {meta.dtype for meta in announced.values()} == {"bfloat16"}
    assert len(manifest) == 3
    for layer, bucket in enumerate(manifest[1:]):
        assert all(meta.name.startswith(f"model.layers.{layer}.") for meta in bucket)


@pytest.mark.parametrize("model", MODELS)
def test_gathered_tensors_are_those_of_the_checkpoint(build, request, model):
    folder = request.getfixturevalue(model)
    built = build(folder)
    gathered = {name: tensor for bucket in FullWeights(built, None).buckets() for name, tensor in bucket}
    source = load_file(folder / "model.safetensors")
    assert gathered.keys() == source.keys()
    assert all(torch.equal(gathered[name], source[name]) for name in source)


class _Outdated(HFWeightMapper):
    """Sends what `keeps` makes of a tensor and its first value."""

    def __init__(self, config, keeps):
        super().__init__(config)
        self.keeps = keeps
        self.first = {}

    def policy_to_hf(self, name, tensor):
        if tensor.is_meta:
            return super().policy_to_hf(name, tensor)
        return super().policy_to_hf(name, self.keeps(name, tensor, self.first.setdefault(name, tensor.clone())))


def _upper_half_kept(name, tensor, first):
    return torch.cat([first[: len(first) // 2], tensor[len(first) // 2 :]])


def _overwritten(name, tensor, first):
    return tensor.copy_(first)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("keeps", "every"),
    [
        (lambda name, tensor, first: tensor, None),
        (lambda name, tensor, first: first, True),
        (lambda name, tensor, first: first if name.endswith("o_proj.weight") else tensor, False),
        (_upper_half_kept, True),
        (_overwritten, True),
    ],
    ids=["none", "all", "one kind", "half of each", "in place"],
)
def test_a_mapper_that_sends_old_values_is_noticed(build, request, model, dtype, keeps, every):
    built = build(request.getfixturevalue(model))
    built = replace(built, mapper=_Outdated(built.hf_config, keeps))
    weights = FullWeights(built, dtype)

    def send():
        sent = {name: tensor.clone() for bucket in weights.buckets(check=True) for name, tensor in bucket}
        return sent, set(weights.outdated)

    send()
    with torch.no_grad():
        for parameter in built.network.parameters():
            parameter.to_local().sub_(1e-6)
    _, outdated = send()
    matrices = {name for name, parameter in built.network.named_parameters() if parameter.ndim > 1}
    if every is None:
        assert not outdated
    elif every:
        assert matrices <= outdated
    else:
        assert outdated == {name for name in matrices if name.endswith("o_proj.weight")}


def _changed(source, target, change):
    shutil.copytree(source, target)
    tensors = load_file(target / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_missing_tensors_are_named(build, untied, tmp_path):
    folder = _changed(untied, tmp_path / "m", lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(UsageError, match=r"1 missing: model\.layers\.1\.mlp\.up_proj\.weight"):
        build(folder)


def test_missing_experts_are_named(build, moe, tmp_path):
    folder = _changed(moe, tmp_path / "m", lambda tensors: tensors.pop("model.layers.1.mlp.experts.3.up_proj.weight"))
    with pytest.raises(UsageError, match=r"1 missing: model\.layers\.1\.mlp\.experts\.gate_up_proj"):
        build(folder)


def test_unexpected_tensors_are_named(build, untied, tmp_path):
    folder = _changed(untied, tmp_path / "m", lambda tensors: tensors.update({"model.extra.weight": torch.zeros(2)}))
    with pytest.raises(UsageError, match=r"1 not in the model: model\.extra\.weight"):
        build(folder)


def test_wrong_shapes_are_named(build, untied, tmp_path):
    folder = _changed(untied, tmp_path / "m", lambda tensors: tensors.update({"lm_head.weight": torch.zeros(3, 64)}))
    with pytest.raises(UsageError, match=r"lm_head\.weight has the shape \[3, 64\].* \[128, 64\]"):
        build(folder)


@pytest.mark.parametrize("same", [True, False])
def test_a_tied_tensor_that_is_stored_twice_must_be_equal(build, tied, tmp_path, sequences, same):
    def store(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + (0.0 if same else 1.0)

    folder = _changed(tied, tmp_path / "m", store)
    if same:
        _assert_scores(build(folder), tied, sequences)
    else:
        with pytest.raises(UsageError, match=r"differs from the tensor that config.json ties it to"):
            build(folder)


def test_a_folder_without_weights_is_refused(build, tied, tmp_path):
    shutil.copytree(tied, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="holds no safetensors weights"):
        build(tmp_path / "m")


def test_an_index_that_names_a_missing_file_is_refused(tmp_path):
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    with pytest.raises(UsageError, match=r"model-00001-of-00002.safetensors"):
        weight_files(tmp_path)


@pytest.mark.parametrize("change", [{"num_hidden_layers": 3}, {"hidden_size": "wide"}])
def test_a_config_that_contradicts_itself_is_refused(build, tied, tmp_path, change):
    shutil.copytree(tied, tmp_path / "m")
    config = json.loads((tied / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(UsageError, match=r"config\.json cannot be read"):
        build(tmp_path / "m")


def test_an_architecture_that_cannot_be_written_back_is_refused():
    from transformers import HrmTextConfig

    config = HrmTextConfig(hidden_size=32, intermediate_size=48, num_attention_heads=2, vocab_size=64)
    with pytest.raises(PluginError, match="set \\[model\\] plugin"):
        list(HFWeightMapper(config).policy_to_hf("x", torch.zeros(1)))
