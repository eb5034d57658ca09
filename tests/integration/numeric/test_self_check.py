"""The self-check switches off features of a model that would change its log-probabilities."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn

from rlx.models.base_model import CausalLMOutput, causal_attention
from rlx.policy.model.forward import PolicyModel
from rlx.policy.model.self_check import self_check
from rlx.policy.packing.packed_attention import varlen_attention
from rlx.policy.packing.step_plan import score_plan

SEQUENCES = [[5, 6, 7, 8], [9, 10, 11], [12, 13]]


class DoubledLogits(transformers.LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        outputs = super().forward(*args, **kwargs)
        outputs.logits = 2 * outputs.logits
        return outputs


class NeighbourMixing(transformers.LlamaForCausalLM):
    """Each position also sees the one before it, which may belong to another sequence in a packed row."""

    def __init__(self, config):
        super().__init__(config)
        self.model.layers[0].register_forward_hook(lambda _layer, _inputs, hidden: hidden + hidden.roll(1, dims=1))


class MinimalModel(nn.Module):
    """A minimal model of a plugin: it takes tokens and positions, and returns `.logits`."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(61, 8)
        self.head = nn.Linear(8, 61)

    def forward(self, input_ids, position_ids):
        hidden = self.embedding(input_ids).cumsum(1) / (1 + position_ids[..., None])
        return type("Output", (), {"logits": self.head(hidden)})()


def settings(policy):
    return policy.packing, policy.own_logits


@pytest.mark.parametrize("family", ["qwen3", "llama", "granite"])
def test_correct_features_stay_on(tiny, family):
    policy = PolicyModel(tiny(family), temperature=1.0, chunk=17)
    assert self_check(policy) == []
    assert settings(policy) == (True, False)
    assert policy.training


def test_sliding_windows_rule_out_packing_but_not_chunked_logits(tiny):
    policy = PolicyModel(tiny("gemma2"), temperature=1.0, chunk=17)
    assert "sliding_attention" in policy.adapter.packing_refusal()
    assert self_check(policy) == []
    assert settings(policy) == (False, False)


def test_a_model_that_changes_its_logits_computes_them_itself(tiny):
    policy = PolicyModel(tiny("llama", cls=DoubledLogits), temperature=1.0, chunk=17)
    (finding,) = self_check(policy)
    assert "chunked logits are switched off" in finding
    assert settings(policy) == (True, True)


def test_a_model_that_looks_beyond_its_sequence_is_padded(tiny):
    model = tiny("llama", cls=NeighbourMixing)
    policy = PolicyModel(model, temperature=1.0, chunk=17)
    assert policy.adapter.packing_refusal() is None
    (finding,) = self_check(policy)
    assert "packed rows are switched off" in finding
    assert settings(policy) == (False, False)


def test_packing_can_be_switched_off(tiny):
    policy = PolicyModel(tiny(), temperature=1.0, chunk=17, packing=False)
    assert self_check(policy) == []
    assert settings(policy) == (False, False)
    assert policy.causal_lm.config._attn_implementation == "sdpa"


def test_a_plugins_model_runs_padded_with_its_own_logits():
    policy = PolicyModel(MinimalModel(), temperature=1.0, chunk=17)
    assert settings(policy) == (False, True)
    assert self_check(policy) == []
    (micro,) = score_plan(SEQUENCES, max_tokens=100, packing=policy.packing).micro_batches
    found = micro.by_episode(policy(micro).logprobs)
    for index, tokens in enumerate(SEQUENCES):
        logits = policy.causal_lm(torch.tensor([tokens]), torch.arange(len(tokens))[None]).logits[0]
        expected = logits.log_softmax(-1)[torch.arange(len(tokens) - 1), torch.tensor(tokens[1:])]
        assert found[index] == pytest.approx(expected.tolist(), abs=1e-5)


def _variants(toy_model):
    class Padded(toy_model.ToyModel):
        def hidden_states(self, input_ids, position_ids):
            return super().hidden_states(input_ids, position_ids)

    class OwnLogits(toy_model.ToyModel):
        def output_embedding(self):
            return None

        def forward(self, input_ids, position_ids, attention=causal_attention):
            hidden = self.hidden_states(input_ids, position_ids, attention)
            return CausalLMOutput(hidden @ self.table.weight.T)

    class Leaking(toy_model.ToyModel):
        def hidden_states(self, input_ids, position_ids, attention=causal_attention):
            hidden = super().hidden_states(input_ids, position_ids, attention)
            return hidden + F.pad(hidden, (0, 0, 1, -1))  # the position before may belong to another sequence

    return {"all": toy_model.ToyModel, "padded": Padded, "logits": OwnLogits, "leaking": Leaking}


@pytest.mark.parametrize(
    ("variant", "expected", "findings"),
    [
        ("all", (True, False), 0),
        ("padded", (False, False), 0),
        ("logits", (True, True), 0),
        ("leaking", (False, False), 1),
    ],
)
def test_features_of_a_base_model_are_used(toy, toy_model, variant, expected, findings):
    model, _ = toy(cls=_variants(toy_model)[variant])
    policy = PolicyModel(model, temperature=1.0, chunk=17)
    assert len(self_check(policy)) == findings
    assert settings(policy) == expected
    (micro,) = score_plan(SEQUENCES, max_tokens=100, packing=policy.packing).micro_batches
    found = micro.by_episode(policy(micro).logprobs)
    for index, tokens in enumerate(SEQUENCES):
        logits = model(torch.tensor([tokens]), torch.arange(len(tokens))[None]).logits[0]
        wanted = logits.log_softmax(-1)[torch.arange(len(tokens) - 1), torch.tensor(tokens[1:])]
        assert found[index] == pytest.approx(wanted.tolist(), abs=1e-5)


def _random_variants(toy_model):
    class Modules(toy_model.ToyModel):
        """Dropout as a module."""

        def __init__(self, hf_config):
            super().__init__(hf_config)
            self.dropout = nn.Dropout(0.5)

        def hidden_states(self, input_ids, position_ids, attention=causal_attention):
            return self.dropout(super().hidden_states(input_ids, position_ids, attention))

    class Functions(toy_model.ToyModel):
        """Dropout as a function, which reads the mode of the model."""

        def hidden_states(self, input_ids, position_ids, attention=causal_attention):
            hidden = super().hidden_states(input_ids, position_ids, attention)
            return F.dropout(hidden, 0.5, training=self.training)

    class Counting(Modules):
        """Counts the tokens that it sees in training, as a router does for its balance."""

        def __init__(self, hf_config):
            super().__init__(hf_config)
            self.register_buffer("seen", torch.zeros((), dtype=torch.int64), persistent=False)

        def hidden_states(self, input_ids, position_ids, attention=causal_attention):
            if self.training:
                self.seen += input_ids.numel()
            return super().hidden_states(input_ids, position_ids, attention)

    return {"modules": Modules, "functions": Functions, "counting": Counting}


@pytest.mark.parametrize(("variant", "findings"), [("modules", 0), ("functions", 1), ("counting", 0)])
def test_dropout_of_a_base_model_is_left_out_of_steps(toy, toy_model, variant, findings):
    model, _ = toy(cls=_random_variants(toy_model)[variant])
    policy = PolicyModel(model, temperature=1.0, chunk=17)
    assert len(self_check(policy)) == findings
    if variant == "counting":
        assert model.seen == 0
    (micro,) = score_plan(SEQUENCES, max_tokens=100, packing=True).micro_batches
    policy.eval()
    expected = policy(micro).logprobs
    policy.dropout = True
    policy.train()
    assert not torch.allclose(policy(micro).logprobs, expected, atol=1e-3)
    policy.dropout = False
    policy.train()
    assert torch.allclose(policy(micro).logprobs, expected, atol=1e-6)
    assert model.training == (variant != "functions")
    if variant == "counting":
        assert model.seen == 2 * micro.tokens.numel()


@pytest.mark.parametrize("option", [{"sliding_window": 4}, {"softcap": 30.0}, {"s_aux": torch.zeros(4)}])
def test_attention_refuses_options_that_it_cannot_apply(option):
    states = torch.zeros(1, 4, 3, 8)
    with pytest.raises(ValueError, match=f"does not support {next(iter(option))}"):
        varlen_attention(nn.Identity(), states, states, states, None, **option)


def test_attention_refuses_a_mask():
    states = torch.zeros(1, 4, 3, 8)
    with pytest.raises(ValueError, match="takes no mask"):
        varlen_attention(nn.Identity(), states, states, states, torch.ones(3, 3))
