from __future__ import annotations

import inspect
import statistics

import pytest
import torch

from rlx.algorithms.base import Algorithm, StepTotals, TokenBatch
from rlx.algorithms.grpo import GRPO
from rlx.algorithms.losses import group_advantages
from rlx.algorithms.sft import SFT


@pytest.fixture
def batch():
    source = torch.Generator().manual_seed(1)
    logprobs = (-3 * torch.rand(12, generator=source)).requires_grad_()
    return TokenBatch(
        logprobs=logprobs,
        sampler_logprobs=logprobs.detach() + 0.5 * torch.randn(12, generator=source),
        advantages=torch.randn(12, generator=source),
        reference_logprobs=logprobs.detach() + 0.5 * torch.randn(12, generator=source),
        entropy=torch.rand(12, generator=source),
        episode=torch.arange(12) // 4,
    )


def part(batch, span):
    values = {name: getattr(batch, name)[span] for name in TokenBatch.__dataclass_fields__}
    return TokenBatch(**values)


@pytest.mark.parametrize(
    "algorithm",
    [GRPO(), GRPO(kl_coef=0.1), GRPO(ratio="sampler"), GRPO(importance_cap=0), SFT()],
    ids=["plain", "reference", "sampler", "uncorrected", "sft"],
)
def test_losses_of_micro_batches_add_up_to_the_steps_loss(batch, algorithm):
    totals = StepTotals(tokens=12, episodes=3)
    whole, sums = algorithm.loss(batch, totals)
    spans = [slice(0, 1), slice(1, 5), slice(5, 5), slice(5, 12)]
    shares = [algorithm.loss(part(batch, span), totals) for span in spans]
    torch.testing.assert_close(sum(loss for loss, _ in shares), whole)
    for name, value in sums.items():
        torch.testing.assert_close(sum(metrics[name] for _, metrics in shares), value)
        assert value.shape == ()


def test_built_in_algorithms_follow_the_protocol():
    assert isinstance(GRPO(), Algorithm)
    assert isinstance(SFT(), Algorithm)
    assert (GRPO.rollouts, SFT.rollouts) == (True, False)
    assert (GRPO().needs_reference, GRPO(kl_coef=0.01).needs_reference, SFT().needs_reference) == (False, True, False)


def test_advantages_are_z_scores():
    rewards = [1.0, 0.0, 0.5, 3.0]
    mean, std = statistics.mean(rewards), statistics.stdev(rewards)
    assert group_advantages(rewards) == pytest.approx([(reward - mean) / (std + 1e-4) for reward in rewards])
    assert group_advantages(rewards, scale="none") == pytest.approx([reward - mean for reward in rewards])


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([], []),
        ([2.0], [0.0]),
        ([None], [0.0]),
        ([None, None], [0.0, 0.0]),
        ([None, 5.0], [0.0, 0.0]),
        ([0.1] * 7, [0.0] * 7),
        ([None, 1.0, 3.0], [0.0, -1.0, 1.0]),
    ],
)
def test_groups_without_a_baseline_have_zero_advantages(rewards, expected):
    assert group_advantages(rewards, scale="none") == pytest.approx(expected, abs=1e-12)
    scaled = group_advantages(rewards)
    assert [value == pytest.approx(0, abs=1e-9) for value in scaled] == [value == 0 for value in expected]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale_rewards": "batch"}, "scale_rewards must be one of 'group', 'none', not 'batch'"),
        ({"ratio": "old"}, "ratio must be one of"),
        ({"clip_low": -0.1}, "clip_low must be >= 0 and <= 1"),
        ({"clip_low": 1.5}, "clip_low must be >= 0 and <= 1"),
        ({"clip_high": -1}, "clip_high must be >= 0"),
        ({"clip_high": "0.2"}, "clip_high must be a finite number"),
        ({"clip_high": True}, "clip_high must be a finite number"),
        ({"importance_cap": -1}, "importance_cap must be >= 0"),
        ({"importance_cap": float("nan")}, "importance_cap must be a finite number"),
        ({"kl_coef": -0.1}, "kl_coef must be >= 0"),
        ({"kl_coef": None}, "kl_coef must be a finite number"),
    ],
)
def test_options_out_of_bounds_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GRPO(**options)


def test_options_are_keyword_only_with_types_and_defaults():
    for parameter in inspect.signature(GRPO).parameters.values():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.annotation is not parameter.empty
        assert parameter.default is not parameter.empty
