"""Peak memory of micro-batches whose sequences share prompts, against unshared ones of the same budget.

Tensors are fake: shapes are real and nothing is computed, so that sizes of real runs take seconds.
"""

from __future__ import annotations

import weakref

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, Qwen3Config

from rlx.episodes import Episode, single_turn
from rlx.policy.model.forward import PolicyModel
from rlx.policy.packing.step_plan import plan_step


class PeakMemory(TorchDispatchMode):
    """Bytes of all storages that operations inside made and that are alive, and their peak."""

    def __init__(self):
        super().__init__()
        self.known, self.alive, self.peak = set(), 0, 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        made = function(*arguments, **(keywords or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.see(tensor.untyped_storage())
        return made

    def see(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known.add(key)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self.gone, key, size)

    def gone(self, key, size):
        self.known.discard(key)
        self.alive -= size


def peak_bytes(model, micro):
    with FakeTensorMode(allow_non_fake_inputs=True), PeakMemory() as memory:
        model(micro).logprobs.sum().backward()
    for parameter in model.parameters():
        parameter.grad = None
    return memory.peak


@pytest.fixture(scope="module")
def model():
    """A model whose attention takes an uncommonly large part of the memory: a narrow MLP, no grouped keys."""
    config = Qwen3Config(
        hidden_size=256,
        intermediate_size=512,
        num_attention_heads=8,
        num_key_value_heads=8,
        head_dim=32,
        num_hidden_layers=2,
        vocab_size=64,
    )
    return PolicyModel(AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16), temperature=1.0, chunk=64)


def micro_batches(prompt, completions, length, budget):
    episodes = [Episode(0, i, 0, [single_turn([1] * prompt, [2] * length)]) for i in range(completions)]
    plan = plan_step([episodes], [[1.0] * completions], ranks=1, rank=0, max_tokens=budget, packing=True)
    return plan.micro_batches


@pytest.mark.parametrize(
    ("prompt", "length", "budget", "recomputes"),
    [(4096, 512, 16_384, True), (30_000, 500, 40_000, False)],
)
def test_a_prompt_that_is_shared_takes_no_more_memory_than_the_budget(model, prompt, length, budget, recomputes):
    network = model.causal_lm
    network.gradient_checkpointing_enable() if recomputes else network.gradient_checkpointing_disable()
    model.train()
    shared = micro_batches(prompt, 16, length, budget)
    assert 1 < len(shared) < 16, "cut, and the prompt is still shared"
    (unshared,) = micro_batches(0, 1, budget, budget)
    limit = peak_bytes(model, unshared)
    assert peak_bytes(model, shared[0]) <= 1.1 * limit
    (whole,) = micro_batches(prompt, 16, length, 10**7)
    assert peak_bytes(model, whole) > 1.2 * limit, "such a budget by positions alone would not bound it"
