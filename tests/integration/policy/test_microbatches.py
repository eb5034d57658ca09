"""The gradient of a step doesn't depend on its micro-batches, nor on whether rows are packed or padded."""

from __future__ import annotations

import pytest
import torch

from rlx.algorithms.grpo import GRPO
from rlx.config.sections.policy import OptimizerConfig, PolicyConfig
from rlx.policy.train.optimizer import Optimizer
from rlx.policy.train.trainer import Trainer

WHOLE = 10_000
OPTIMIZER = {"lr": 1e-3, "max_grad_norm": 0.01}


@pytest.fixture
def one_rank(world, build, untied):
    """`one_rank(max_tokens_per_microbatch=..., packing=...)`: a trainer on one rank, its model and its optimizer."""

    def make(**policy):
        built = build(untied, **policy)
        optimizer = Optimizer(dict(built.network.named_parameters()), OptimizerConfig(**OPTIMIZER), 10)
        config = PolicyConfig.model_validate({"dtype": "float32", **policy})
        return Trainer(world, built.model, optimizer, GRPO(), config), built, optimizer

    return make


def gradient(optimizer):
    """Return AdamW's first moment after the first update: the clipped gradient times 1 - beta."""
    moments = optimizer.moments()
    names = sorted(name for name in moments if name.startswith("exp_avg."))
    return torch.cat([moments[name].full_tensor().flatten() for name in names]).double()


def assert_same(seen, expected):
    assert float((seen - expected).norm() / expected.norm()) <= 1e-6


@pytest.fixture
def expected(one_rank, groups):
    """Gradient and metrics of one rank and one packed micro-batch."""
    trainer, _, optimizer = one_rank(max_tokens_per_microbatch=WHOLE)
    metrics = trainer.train(groups(0))
    assert metrics["microbatches"] == 1
    assert metrics["grad_norm"] > 10 * OPTIMIZER["max_grad_norm"], "the gradient is clipped"
    return gradient(optimizer), metrics


@pytest.mark.parametrize(("packing", "budget", "count"), [(True, 26, 5), (False, WHOLE, 1), (False, 40, 4)])
def test_micro_batches_and_packing_do_not_change_the_gradient(one_rank, groups, expected, packing, budget, count):
    trainer, _, optimizer = one_rank(max_tokens_per_microbatch=budget, packing=packing)
    metrics = trainer.train(groups(0))
    assert metrics["microbatches"] == count
    assert_same(gradient(optimizer), expected[0])
