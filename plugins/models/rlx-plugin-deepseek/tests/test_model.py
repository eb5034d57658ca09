"""Parameter and FLOP counts of the model, the configs that it refuses, and its imports."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from rlx import UsageError
from rlx_plugin_deepseek import DeepseekV3MoEModel
from rlx_plugin_deepseek.plugin import plugin


@pytest.mark.parametrize(
    ("name", "value"),
    [("scoring_func", "softmax"), ("topk_method", "greedy"), ("moe_layer_freq", 2), ("hidden_act", "gelu")],
)
def test_unsupported_configs_are_refused(config, name, value):
    with pytest.raises(UsageError, match=f"{name} = '?{value}"):
        plugin.build(config("v3", **{name: value}))


def test_unsupported_rope_types_are_refused(config):
    rope = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
    with pytest.raises(UsageError, match="rope_type 'linear'"):
        plugin.build(config("v3", rope_parameters=rope))


def test_parameter_and_flop_counts(config):
    """Compare with PyTorch's count for a forward pass; a backward pass costs twice as much again."""
    from torch.utils.flop_counter import FlopCounterMode

    made, length = config("v3"), 64
    model = plugin.build(made)
    tokens = torch.ones(1, length, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(tokens, torch.arange(length)[None])
    parameters, flops = DeepseekV3MoEModel.get_nparams_and_flops(made, length)
    assert parameters == sum(p.numel() for p in model.parameters())
    # PyTorch doesn't count grouped matrix products, and norms take part in none.
    routed = sum(p.numel() for name, p in model.named_parameters() if ".experts." in name)
    grouped = 2 * routed * made.num_experts_per_tok / made.n_routed_experts
    assert flops / 3 == pytest.approx(counter.get_total_flops() / length + grouped, rel=0.01)


def test_import_loads_no_heavy_packages():
    code = "import sys, rlx_plugin_deepseek; print([m for m in ('torch', 'transformers', 'vllm') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
