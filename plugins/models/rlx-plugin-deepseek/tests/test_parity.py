"""Logits and gradients equal those of transformers' DeepseekV3ForCausalLM to 1e-5 in float32."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rlx.testing import check_model_plugin
from rlx_plugin_deepseek import experts
from rlx_plugin_deepseek.plugin import plugin
from rlx_plugin_deepseek.rotary import frequencies

# Without 0: transformers gives the padding token's embedding no gradient.
TOKENS = torch.randint(1, 128, (2, 150), generator=torch.Generator().manual_seed(3))


def pair(folder):
    """Return transformers' model and ours with the same weights, and our mapper."""
    from safetensors.torch import load_file
    from transformers import AutoConfig, DeepseekV3ForCausalLM

    reference = DeepseekV3ForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    config = AutoConfig.from_pretrained(folder)
    model, mapper = plugin.build(config), plugin.weight_mapper(config)
    loaded = dict(mapper.hf_to_policy(iter(load_file(folder / "model.safetensors").items())))
    missing, surplus = model.load_state_dict(loaded, strict=False)
    assert not surplus
    assert set(missing) <= {"head.weight"}  # tied
    return reference, model, mapper


def positions():
    return torch.arange(TOKENS.shape[1]).expand_as(TOKENS)


def test_logits_equal_those_of_transformers(folder):
    reference, model, _ = pair(folder)
    with torch.no_grad():
        expected, seen = reference(TOKENS).logits, model(TOKENS, positions()).logits
    assert expected.std() > 0.5
    torch.testing.assert_close(seen, expected, atol=1e-5, rtol=1e-5)


def test_gradients_equal_those_of_transformers(folder):
    reference, model, mapper = pair(folder)
    for network, logits in ((reference, reference(TOKENS).logits), (model, model(TOKENS, positions()).logits)):
        network.zero_grad()
        F.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten()).backward()
    theirs = {name: parameter.grad for name, parameter in reference.named_parameters()}
    ours = dict(pair for name, p in model.named_parameters() for pair in mapper.policy_to_hf(name, p.grad))
    compared = 0
    for name, expected in theirs.items():
        stack = _stacked(name, ours)
        assert expected.abs().max() > 0, name
        # Relative to the tensor's norm and its largest element: elements near 0 are mere rounding errors.
        assert (stack - expected).norm() <= 1e-5 * expected.norm(), name
        torch.testing.assert_close(stack, expected, atol=1e-5 * float(expected.abs().max()), rtol=0, msg=name)
        compared += expected.numel()
    assert compared == sum(gradient.numel() for gradient in ours.values())


def _stacked(name, ours):
    """Return our gradient in the stacked layout of transformers 5."""
    if name in ours:
        return ours[name]
    place, kind = name.rsplit(".", 1)
    names = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}[kind]
    count = sum(part.startswith(f"{place}.") and part.endswith(f"{names[0]}.weight") for part in ours)
    return torch.stack([torch.cat([ours[f"{place}.{e}.{n}.weight"] for n in names]) for e in range(count)])


def test_group_limited_routing_changes_the_logits(checkpoint):
    """Otherwise the parity tests would pass without group-limited routing."""
    _, model, _ = pair(checkpoint("v3"))
    positions_ = positions()
    with torch.no_grad():
        grouped = model(TOKENS, positions_).logits
        for router in model.routers():
            router.groups_kept = router.groups
        free = model(TOKENS, positions_).logits
    assert (grouped - free).abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_grouped_and_looped_experts_agree(dtype):
    source = torch.Generator().manual_seed(0)
    counts = torch.tensor([3, 0, 5, 1])
    results = []
    for multiply in (experts.grouped, experts.looped):
        source.manual_seed(0)
        rows = torch.randn(9, 16, dtype=dtype, generator=source).requires_grad_()
        matrices = torch.randn(4, 24, 16, dtype=dtype, generator=source).requires_grad_()
        out = multiply(rows, matrices, counts)
        (out * torch.randn(9, 24, dtype=dtype, generator=source)).sum().backward()
        results.append((out, rows.grad, matrices.grad))
    for seen, expected in zip(*results, strict=True):
        torch.testing.assert_close(seen, expected)
    assert experts.has_grouped_mm("cpu", torch.float32)
    assert not experts.has_grouped_mm("cpu", torch.float64)


def test_grouped_experts_handle_unaligned_sizes():
    out = experts.grouped(torch.ones(3, 7), torch.ones(2, 5, 7), torch.tensor([1, 2]))
    assert torch.equal(out, torch.full((3, 5), 7.0))


@pytest.mark.parametrize("more", [{}, {"truncate": False}, {"mscale": None, "mscale_all_dim": None}, {"factor": None}])
def test_yarn_frequencies_equal_those_of_transformers(config, more):
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    made = config("v3")
    made.rope_parameters = {**made.rope_parameters, **more}
    expected, scale = ROPE_INIT_FUNCTIONS["yarn"](made)
    seen, magnitude = frequencies(made.rope_parameters, made.qk_rope_head_dim, made.max_position_embeddings)
    torch.testing.assert_close(seen, expected, atol=0, rtol=1e-6)
    assert magnitude == pytest.approx(scale)


def test_the_plugin_keeps_the_model_contract(folder):
    check_model_plugin(plugin, folder, tolerance=1e-5)
