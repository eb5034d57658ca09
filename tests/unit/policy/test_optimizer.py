from __future__ import annotations

import pytest
import torch
from torch import nn

from rlx.config.sections.policy import OptimizerConfig
from rlx.errors import RunError
from rlx.policy.train.optimizer import Optimizer, learning_rate


def _config(**values):
    return OptimizerConfig.model_validate(values)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        ("linear", [0.25, 0.5, 0.75, 1, 0.82, 0.64, 0.46, 0.28]),
        ("cosine", [0.25, 0.5, 0.75, 1, 0.914058, 0.689058, 0.410942, 0.185942]),
    ],
)
def test_learning_rate_schedules(schedule, expected):
    config = _config(lr=0.5, schedule=schedule, warmup_steps=3, min_lr_ratio=0.1)
    rates = [learning_rate(config, update, 8) / 0.5 for update in range(8)]
    assert rates == pytest.approx(expected, abs=1e-6)


def test_a_run_of_one_update_has_a_learning_rate():
    assert learning_rate(_config(lr=1.0, schedule="linear"), 0, 1) == 1.0


def _network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))


def _gradients(network, scale):
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * scale


def test_optimizer_equals_adamw_with_clipping_and_decay_on_matrices_only():
    ours, theirs = _network(), _network()
    config = _config(lr=0.1, weight_decay=0.5, max_grad_norm=0.7)
    optimizer = Optimizer(dict(ours.named_parameters()), config, 3)
    matrices = [p for p in theirs.parameters() if p.ndim == 2]
    rest = [p for p in theirs.parameters() if p.ndim == 1]
    adamw = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.5}, {"params": rest, "weight_decay": 0.0}], lr=0.1
    )
    for update in range(3):
        _gradients(ours, 10.0)
        _gradients(theirs, 10.0)
        norm, rate = optimizer.update(update)
        expected_norm = nn.utils.clip_grad_norm_(theirs.parameters(), 0.7)
        adamw.step()
        assert norm == pytest.approx(float(expected_norm))
        assert rate == 0.1
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)
        assert mine.grad is None


def test_frozen_parameters_are_left_alone():
    network = _network()
    network[0].requires_grad_(requires_grad=False)
    before = network[0].weight.clone()
    optimizer = Optimizer(dict(network.named_parameters()), _config(lr=0.1), 1)
    _gradients(network, 1.0)
    optimizer.update(0)
    assert torch.equal(network[0].weight, before)
    assert not any("0.weight" in name for name in optimizer.moments())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_ends_the_run(value):
    network = _network()
    optimizer = Optimizer(dict(network.named_parameters()), _config(lr=0.1), 1)
    _gradients(network, 1.0)
    network[0].weight.grad[0, 0] = value
    with pytest.raises(RunError, match="gradient of step 7 is not finite"):
        optimizer.update(7)
