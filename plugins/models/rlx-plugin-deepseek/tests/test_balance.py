"""Expert load: counted during routing, reported per step, and balanced only by the correction."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from rlx import ConfigError, UsageError
from rlx.testing import check_hooks
from rlx_plugin_deepseek import hooks
from rlx_plugin_deepseek.balance import Balance, metrics
from rlx_plugin_deepseek.plugin import plugin
from rlx_plugin_deepseek.router import Router

TOKENS = torch.randint(1, 128, (2, 20), generator=torch.Generator().manual_seed(0))
POSITIONS = torch.arange(20).expand_as(TOKENS)


@pytest.fixture
def model(config):
    torch.manual_seed(0)
    return plugin.build(config("v3"))


def test_metrics_for_a_known_load():
    load = torch.tensor([[4, 4, 4, 4], [16, 0, 0, 0]])
    assert metrics(load) == {"experts/max_violation": pytest.approx((0 + 3) / 2), "experts/idle": 3 / 8}


def test_every_routing_choice_in_training_is_counted_once(model, config):
    model.balance = Balance(model.routers())
    model(TOKENS, POSITIONS)
    model.eval()(TOKENS, POSITIONS)
    choices = TOKENS.numel() * config("v3").num_experts_per_tok
    assert [int(router.load.sum()) for router in model.routers()] == [choices, choices]
    step_metrics = model.step_end()
    assert step_metrics["experts/max_violation"] > 0
    assert not any(router.load.any() for router in model.routers())
    assert not any(router.correction.any() for router in model.routers())


def test_without_balance_nothing_is_counted_or_reported(model):
    model(TOKENS, POSITIONS)
    assert model.step_end() == {}
    assert not any(router.load.any() for router in model.routers())


def test_the_correction_balances_a_skewed_router(config):
    """The scores favour one expert for every token; without the correction it would get nearly all tokens."""
    torch.manual_seed(0)
    router = Router(config("v3", n_group=1, topk_group=1, num_experts_per_tok=1)).train()
    tokens = torch.randn(400, 64) + 2 * nn.functional.normalize(router.weight[3].detach(), dim=0)
    router.weight.data[3] *= 5
    balance = Balance([router], bias_rate=0.02)

    def violation():
        router(tokens)
        return balance.step_end()["experts/max_violation"]

    before = violation()
    for _ in range(60):
        after = violation()
    assert before > 3
    assert after < 0.5
    # The weights are the normalized scores, without the correction.
    chosen, weights = router(tokens)
    scores = (tokens @ router.weight.T).sigmoid().gather(1, chosen)
    torch.testing.assert_close(weights, scores / scores.sum(-1, keepdim=True) * router.scaling)


def test_hooks_plugins_keep_their_contract_and_exclude_each_other(model):
    check_hooks(hooks.ExpertLoad)
    check_hooks(hooks.BiasUpdate)
    hooks.ExpertLoad().rlx_model_built(model)
    assert model.balance.bias_rate == 0
    with pytest.raises(UsageError, match="enable one of them"):
        hooks.BiasUpdate().rlx_model_built(model)


def test_the_bias_rate_is_an_option(model):
    hooks.BiasUpdate(bias_rate=0.5).rlx_model_built(model)
    assert model.balance.bias_rate == 0.5


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_the_bias_rate_must_be_positive(rate):
    with pytest.raises(ValueError, match=r"bias_rate = .*: must be greater than 0"):
        hooks.BiasUpdate(rate)


def test_a_bias_rate_in_meta_is_refused_with_its_replacement():
    hooks.BiasUpdate().rlx_configure(SimpleNamespace(meta={"other": 1}))
    with pytest.raises(ConfigError) as caught:
        hooks.BiasUpdate().rlx_configure(SimpleNamespace(meta={"deepseek_bias_rate": 0.01}))
    assert str(caught.value) == (
        "[meta] deepseek_bias_rate = 0.01: this is an option of the hooks plugin now. Write in [plugins]:\n"
        '  enable = [{ name = "deepseek_bias_update", args = { bias_rate = 0.01 } }]'
    )


def test_another_model_is_refused():
    with pytest.raises(UsageError, match="this run trains a Linear"):
        hooks.ExpertLoad().rlx_model_built(nn.Linear(1, 1))


RANKS = """
import json, sys
import torch, torch.distributed as dist
from types import SimpleNamespace
from rlx_plugin_deepseek.balance import Balance
from rlx_plugin_deepseek.router import Router

dist.init_process_group("gloo")
shape = dict(hidden_size=4, n_routed_experts=3, n_group=1, topk_group=1, num_experts_per_tok=1)
router = Router(SimpleNamespace(**shape, norm_topk_prob=True, routed_scaling_factor=1.0, initializer_range=1.0))
balance = Balance([router], bias_rate=0.5)
router.load += torch.tensor([[9, 0, 3], [0, 6, 0]][dist.get_rank()])
metrics = balance.step_end()
with open(f"{sys.argv[1]}/{dist.get_rank()}.json", "w") as file:
    json.dump([metrics, router.correction.tolist()], file)
dist.destroy_process_group()
"""


def test_loads_are_summed_over_ranks(tmp_path):
    """The two ranks together have loads of 9, 6 and 3 tokens; either rank alone would report other metrics."""
    (tmp_path / "ranks.py").write_text(RANKS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*command, tmp_path / "ranks.py", tmp_path], check=True, capture_output=True, text=True)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second == [{"experts/max_violation": 0.5, "experts/idle": 0.0}, [-0.5, 0.0, 0.5]]
