"""Splitting a plugin's model into pipeline stages: the stage of each tensor, refusals, changed hidden states."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import rlx
from rlx.config.sections.policy import ParallelConfig
from rlx.policy.model.adapters import adapter_for
from rlx.policy.parallel.pipeline import Stage, keep_stage, tensor_stages

CONFIG = SimpleNamespace(vocab_size=11, hidden_size=4, num_attention_heads=1)
CONFIG.get_text_config = lambda: CONFIG
IDS = torch.tensor([[1, 2, 3]])


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.matrix = nn.Linear(4, 4)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        return x + self.matrix(x)


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 4)
        self.layers = nn.ModuleList(Layer() for _ in range(4))
        self.norm = nn.RMSNorm(4)


class Model(rlx.BaseModel):
    def __init__(self, hf_config=CONFIG):
        super().__init__(hf_config)
        torch.manual_seed(0)
        self.body = Body()
        self.head = nn.Linear(4, 11, bias=False)

    @staticmethod
    def supported_model_types():
        return ["model"]

    def hidden_states(self, input_ids, position_ids):
        x = self.embedded(input_ids)
        for layer in self.body.layers:
            x = layer(x)
        return self.body.norm(self.done(x))

    def embedded(self, input_ids):
        return self.body.table(input_ids)

    def done(self, x):
        return x

    def input_embedding(self):
        return self.body.table

    def output_embedding(self):
        return self.head


class Tied(Model):
    def __init__(self):
        super().__init__()
        self.head.weight = self.body.table.weight


class TiedInOne(Model):
    def __init__(self):
        super().__init__()
        del self.head

    def output_embedding(self):
        return self.body.table


class WithoutInputEmbedding(Model):
    def input_embedding(self):
        return None


class Headless(Model):
    def output_embedding(self):
        return None


class ForwardOnly(rlx.BaseModel):
    supported_model_types = Model.supported_model_types

    def input_embedding(self):
        return nn.Embedding(11, 4)


class Shared(Model):
    def __init__(self):
        super().__init__()
        self.body.layers[3].matrix = self.body.layers[0].matrix


class TiedToALayer(Tied):
    def __init__(self):
        super().__init__()
        self.body.layers[1].bias = self.head.weight


class WithLooseParameter(Model):
    def __init__(self):
        super().__init__()
        self.body.scale = nn.Parameter(torch.ones(4))


class Scaled(Model):
    def embedded(self, input_ids):
        return 2 * self.body.table(input_ids)


class ScaledBetween(Model):
    def hidden_states(self, input_ids, position_ids):
        x = self.body.table(input_ids)
        for layer in self.body.layers:
            x = layer(1 * x)
        return self.body.norm(x)


class ScaledAfter(Model):
    def done(self, x):
        return 2 * x


@pytest.mark.parametrize(
    ("model", "pp", "reason"),
    [
        (Model, 4, None),
        (Tied, 4, None),
        (TiedInOne, 2, None),
        (Shared, 1, None),
        (Model, 5, "pp = 5 is more than its 4 layers"),
        (WithoutInputEmbedding, 2, "pp = 2 needs input_embedding, which WithoutInputEmbedding does not have"),
        (Headless, 2, "pp = 2 needs hidden_states and output_embedding, which Headless does not have"),
        (lambda: ForwardOnly(CONFIG), 2, "pp = 2 needs hidden_states and output_embedding, which ForwardOnly does not"),
        (Shared, 2, "pp = 2 puts the modules that use body.layers.0.matrix.weight on several stages"),
        (TiedToALayer, 4, "pp = 4 puts the modules that use body.table.weight on several stages"),
        (WithLooseParameter, 2, "pp = 2, and body.scale belongs to no module with a known stage"),
    ],
)
def test_models_that_cannot_be_split_into_stages_are_refused_with_a_reason(model, pp, reason):
    refusal = adapter_for(model()).parallel_refusal(ParallelConfig(pp=pp))
    assert refusal == reason or refusal.startswith(reason)


@pytest.mark.parametrize("model", [Model, Tied, TiedInOne])
def test_each_tensor_is_assigned_to_its_stages(model):
    made = model()
    found = tensor_stages(made, adapter_for(made).pipeline_parts(), 3)
    layers = {name: stages for name, stages in found.items() if ".layers." in name}
    assert [layers[f"body.layers.{layer}.seen"] for layer in range(4)] == [(0,), (0,), (1,), (2,)]
    assert [layers[f"body.layers.{layer}.matrix.bias"] for layer in range(4)] == [(0,), (0,), (1,), (2,)]
    around = {name: stages for name, stages in found.items() if name not in layers}
    ends = {"body.table.weight": (0,), "head.weight": (2,)} if model is Model else {"body.table.weight": (0, 2)}
    assert around == {"body.norm.weight": (2,), **ends}


def through(model, stages):
    """Run each stage in its own model; return the hidden states and whether a boundary saw them changed."""
    hidden, changed = None, []
    for index in range(stages):
        made = model()
        boundary = keep_stage(adapter_for(made).pipeline_parts(), Stage(index, stages, None))
        boundary.receive(hidden)
        hidden = made.hidden_states(IDS, None)
        if index < stages - 1:
            boundary.send(hidden)
        changed.append(boundary.changed)
    return hidden, any(changed)


@pytest.mark.parametrize("stages", [2, 3, 4])
@pytest.mark.parametrize("model", [Model, Tied, TiedInOne])
def test_stages_compute_the_same_as_the_whole_model(model, stages):
    hidden, changed = through(model, stages)
    assert not changed
    assert torch.equal(hidden, model().hidden_states(IDS, None))


@pytest.mark.parametrize("model", [Scaled, ScaledBetween, ScaledAfter])
def test_hidden_states_changed_at_a_stage_boundary_are_detected(model):
    _, changed = through(model, 2)
    assert changed
