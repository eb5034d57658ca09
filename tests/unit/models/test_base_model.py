from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import rlx
from rlx.models.base_model import CausalLMOutput, causal_attention, longest_list


class Layer(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(size, size) for _ in range(5))

    def forward(self, hidden):
        return hidden + sum(expert(hidden) for expert in self.experts)


class Model(rlx.BaseModel):
    def __init__(self, hf_config):
        super().__init__(hf_config)
        self.table = nn.Embedding(hf_config.vocab_size, hf_config.hidden_size)
        self.stack = nn.ModuleList(Layer(hf_config.hidden_size) for _ in range(3))
        self.head = nn.Linear(hf_config.hidden_size, hf_config.vocab_size)

    @staticmethod
    def supported_model_types():
        return ["model"]

    def hidden_states(self, input_ids, position_ids):
        hidden = self.table(input_ids)
        for layer in self.stack:
            hidden = layer(hidden)
        return hidden

    def output_embedding(self):
        return self.head


class Tied(Model):
    def __init__(self, hf_config):
        super().__init__(hf_config)
        del self.head

    def output_embedding(self):
        return self.table


class Headless(Model):
    def output_embedding(self):
        return None


class Bare(rlx.BaseModel):
    @staticmethod
    def supported_model_types():
        return ["bare"]


CONFIG = SimpleNamespace(vocab_size=11, hidden_size=8, num_attention_heads=2)
IDS = torch.tensor([[1, 2, 3]])
LAYERS = 3 * 5 * (8 * 8 + 8)


def test_logits_are_the_head_applied_to_the_hidden_states():
    model = Model(CONFIG)
    output = model(IDS, torch.arange(3)[None])
    assert isinstance(output, CausalLMOutput)
    torch.testing.assert_close(output.logits, model.head(model.hidden_states(IDS, None)))


@pytest.mark.parametrize(
    ("model", "missing"),
    [(lambda: Bare(CONFIG), "neither hidden_states nor"), (lambda: Headless(CONFIG), "neither output_embedding nor")],
)
def test_a_model_without_the_required_methods_is_refused(model, missing):
    with pytest.raises(NotImplementedError, match=missing):
        model()(IDS, IDS)


def test_supported_model_types_is_abstract():
    with pytest.raises(TypeError, match="supported_model_types"):
        rlx.BaseModel(CONFIG)


def test_decoder_layers_are_the_longest_list_outside_of_others():
    model = Model(CONFIG)
    assert model.decoder_layers() is model.stack
    assert longest_list(model)[0] == "stack"


@pytest.mark.parametrize(("model", "head", "matmuls"), [(Model, 11 * 8 + 11, 11 * 8 + 11), (Tied, 0, 11 * 8)])
def test_parameters_and_flops(model, head, matmuls):
    parameters, flops = model.get_nparams_and_flops(CONFIG, seq_len=100)
    assert parameters == 11 * 8 + LAYERS + head
    assert flops == 6 * (LAYERS + matmuls) + 12 * 3 * 8 * 100


def test_a_model_without_parallelize_supports_data_and_context_parallelism_only():
    sizes = {"dp_replicate": 2, "dp_shard": 2, "cp": 2, "tp": 1, "ep": 1}
    assert Model(CONFIG).parallel_refusal(sizes) is None
    refusal = Model(CONFIG).parallel_refusal({**sizes, "tp": 2, "ep": 4})
    assert refusal == "Model has no parallelize, which tp = 2 and ep = 4 would need"


def test_causal_attention_against_its_definition():
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 4, 5, 6), torch.randn(2, 2, 5, 6), torch.randn(2, 2, 5, 3)
    seen = causal_attention(query, key, value, scale=0.3)
    for row in range(2):
        for head in range(4):
            scores = 0.3 * query[row, head] @ key[row, head // 2].T
            weights = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf).softmax(-1)
            torch.testing.assert_close(seen[row, head], weights @ value[row, head // 2])
