from __future__ import annotations

import pytest
import torch
from torch import nn

import rlx
from rlx import ModelPlugin, ModelRegistry
from rlx.errors import PluginError, UsageError


class Tiny(rlx.BaseModel):
    def __init__(self, hf_config):
        super().__init__(hf_config)
        self.table = nn.Embedding(4, hf_config)

    @staticmethod
    def supported_model_types():
        return ["tiny", "tiny_moe"]

    def hidden_states(self, input_ids, position_ids):
        return self.table(input_ids)

    def output_embedding(self):
        return self.table


class Other(Tiny):
    @staticmethod
    def supported_model_types():
        return ["other", "tiny"]


class Silent(Tiny):
    @staticmethod
    def supported_model_types():
        return []


class Mapper(rlx.WeightMapper):
    def __init__(self, hf_config):
        self.config = hf_config

    def policy_to_hf(self, name, tensor):
        return [(name, tensor)]

    def hf_to_policy(self, tensors):
        yield from tensors


class Packer(rlx.DecoderOnlyLLMDataPacker):
    pass


@pytest.fixture(autouse=True)
def _empty_registry(monkeypatch):
    monkeypatch.setattr(ModelRegistry, "_models", {})


def test_a_model_is_registered_under_each_of_its_types():
    ModelRegistry.register_model(Tiny, Mapper, Packer)
    plugins = ModelRegistry.plugins()
    assert sorted(plugins) == ["tiny", "tiny_moe"]
    assert plugins["tiny"] is plugins["tiny_moe"]
    assert plugins["tiny"] == ModelPlugin.of(Tiny, Mapper, Packer) != ModelPlugin.of(Tiny, Mapper)
    assert (plugins["tiny"].weight_mapper, plugins["tiny"].packer) == (Mapper, Packer)
    assert plugins["tiny"].model_types == {"tiny", "tiny_moe"}


def test_clear_forgets_registered_models():
    ModelRegistry.register_model(Tiny, Mapper)
    ModelRegistry.clear()
    assert ModelRegistry.plugins() == {}
    ModelRegistry.register_model(Other, Mapper)
    assert sorted(ModelRegistry.plugins()) == ["other", "tiny"]


def test_registering_a_type_twice_names_both_models():
    ModelRegistry.register_model(Tiny, Mapper)
    with pytest.raises(PluginError, match=r"'tiny' is registered twice, by .*test_model_registry\.Tiny and by .*Other"):
        ModelRegistry.register_model(Other, Mapper)


@pytest.mark.parametrize("model", [Silent, nn.Linear])
def test_a_model_without_model_types_is_refused(model):
    with pytest.raises(
        PluginError, match=rf"{model.__name__} does not declare which models it supports: .* supported_model_types"
    ):
        ModelRegistry.register_model(model, Mapper)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_build_uses_the_given_dtype_and_the_default_device(dtype):
    plugin = ModelPlugin.of(Tiny, Mapper)
    with torch.device("meta"):
        model = plugin.build(8, dtype=dtype, attn_implementation=None)
    assert isinstance(model, Tiny)
    assert (model.table.weight.dtype, model.table.weight.is_meta, model.hf_config) == (dtype, True, 8)
    assert torch.get_default_dtype() == torch.float32


def test_a_transformers_attention_implementation_is_refused():
    with pytest.raises(UsageError, match=r"\[policy\] attention = 'eager' is for models of transformers; Tiny brings"):
        ModelPlugin.of(Tiny, Mapper).build(8, dtype=torch.float32, attn_implementation="eager")
