"""GRPO against TRL's own functions: methods of GRPOTrainer, run on a stand-in for the trainer."""

from __future__ import annotations

import warnings
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from rlx.algorithms.base import StepTotals, TokenBatch
from rlx.algorithms.grpo import GRPO
from rlx.episodes import Episode, Reward, single_turn

GENERATIONS = 3
TOKENS = 6
LENGTHS = [6, 3, 1, 4, 6, 2, 5, 6, 2]
# Three groups: a normal one, one whose rewards are equal, and one with an unscored episode.
REWARDS = [1.0, 0.0, 0.25, 0.5, 0.5, 0.5, None, 1.0, -0.5]
MASK = torch.tensor([[column < length for column in range(TOKENS)] for length in LENGTHS])


@pytest.fixture(scope="session")
def trainer_class():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl import GRPOTrainer
    return GRPOTrainer


@pytest.fixture
def golden():
    """Log-probabilities [B, T] of policy, sampler and reference, far enough apart that every clip takes effect."""
    source = torch.Generator().manual_seed(7)
    shape = (len(LENGTHS), TOKENS)
    policy = -4 * torch.rand(shape, generator=source)
    return SimpleNamespace(
        policy=policy,
        sampler=policy + 0.6 * torch.randn(shape, generator=source),
        reference=policy + 0.5 * torch.randn(shape, generator=source),
        entropy=torch.rand(shape, generator=source),
    )


def trl_stand_in(golden, *, vllm, beta, scale_rewards="group", low=0.2, high=0.2, cap=2.0):
    """Return an object with the attributes that the methods of GRPOTrainer read."""
    policy_net = SimpleNamespace(training=True, is_gradient_checkpointing=False)
    reference_net = object()

    def logprobs(model, *_args, **_kwargs):
        values = golden.reference if model is reference_net else golden.policy
        return values, golden.entropy, None

    def generate(prompts):
        completions = [[5] * length for length in LENGTHS]
        sampled = [row[:length].tolist() for row, length in zip(golden.sampler, LENGTHS, strict=True)]
        return [[1, 2]] * len(prompts), completions, None, ["text"] * len(prompts), sampled, {}, None, []

    rewards = torch.tensor([[float("nan") if reward is None else reward] for reward in REWARDS])
    return SimpleNamespace(
        model=policy_net,
        ref_model=reference_net,
        accelerator=SimpleNamespace(
            device="cpu", num_processes=1, process_index=0, gather=lambda x: x, reduce=lambda x, reduction: x
        ),
        args=SimpleNamespace(
            steps_per_generation=1,
            gradient_accumulation_steps=1,
            per_device_train_batch_size=len(LENGTHS),
            gradient_checkpointing_kwargs=None,
            use_bias_correction_kl=False,
            delta=None,
        ),
        _generate=generate,
        _calculate_rewards=lambda *_: rewards,
        _get_per_token_logps_and_entropies=logprobs,
        _tokenizer=SimpleNamespace(pad_token_id=0),
        _metrics=defaultdict(lambda: defaultdict(list)),
        _logs=defaultdict(list) | {"rewards": defaultdict(list), "extra": defaultdict(list)},
        _pending_extra_logs={},
        _pending_metrics={},
        _entropy_bonus_enabled=False,
        _is_vlm=False,
        aux_loss_enabled=False,
        beta=beta,
        current_gradient_accumulation_steps=1,
        environment_factories=None,
        environments=None,
        epsilon_low=low,
        epsilon_high=high,
        importance_sampling_level="token",
        loss_type="dapo",
        log_multimodal=False,
        mask_truncated_completions=False,
        multi_objective_aggregation="sum_then_normalize",
        num_generations=GENERATIONS,
        num_iterations=1,
        off_policy_mask_threshold=None,
        pad_to_multiple_of=None,
        reward_func_names=["only"],
        reward_funcs=[object()],
        reward_weights=torch.ones(1),
        scale_rewards=scale_rewards,
        tools=None,
        top_entropy_quantile=1.0,
        use_vllm=vllm,
        vllm_importance_sampling_correction=vllm,
        vllm_importance_sampling_mode="token_truncate",
        vllm_importance_sampling_clip_min=None,
        vllm_importance_sampling_clip_max=cap,
    )


def trl_run(trainer_class, golden, *, old=None, **options):
    """Return advantages [B], loss [], its gradient [B, T], and TRL's metrics."""
    stand_in = trl_stand_in(golden, **options)
    inputs = trainer_class._generate_and_score_completions(stand_in, [{"prompt": "p"}] * len(LENGTHS))
    golden.policy = golden.policy.clone().requires_grad_()
    if old is not None:
        inputs["old_per_token_logps"] = old
    loss = trainer_class._compute_loss(stand_in, stand_in.model, inputs)
    loss.backward()
    gradient, golden.policy = golden.policy.grad, golden.policy.detach()
    return inputs["advantages"], loss.detach(), gradient, stand_in._metrics["train"]


def groups():
    """Return rlx episodes with the same lengths and rewards."""
    episodes = [
        Episode(
            i // GENERATIONS, i % GENERATIONS, 0, [single_turn([1, 2], [5] * length)], rewards=[Reward("only", reward)]
        )
        for i, (length, reward) in enumerate(zip(LENGTHS, REWARDS, strict=True))
    ]
    return [episodes[start : start + GENERATIONS] for start in range(0, len(episodes), GENERATIONS)]


def rlx_run(algorithm, golden):
    """Return the same as `trl_run`, computed by an rlx algorithm."""
    advantages = torch.tensor([value for group in algorithm.advantages(groups()) for value in group])
    logprobs = golden.policy[MASK].clone().requires_grad_()
    batch = TokenBatch(
        logprobs=logprobs,
        sampler_logprobs=golden.sampler[MASK],
        advantages=advantages[:, None].expand(MASK.shape)[MASK],
        reference_logprobs=golden.reference[MASK] if algorithm.needs_reference else None,
        entropy=golden.entropy[MASK],
        episode=torch.arange(len(LENGTHS))[:, None].expand(MASK.shape)[MASK],
    )
    totals = StepTotals(tokens=int(MASK.sum()), episodes=len(LENGTHS))
    loss, sums = algorithm.loss(batch, totals)
    loss.backward()
    gradient = torch.zeros(MASK.shape)
    gradient[MASK] = logprobs.grad
    return advantages, loss.detach(), gradient, {name: float(value) / totals.tokens for name, value in sums.items()}


def assert_close(seen, expected):
    torch.testing.assert_close(seen, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale_rewards", ["group", "none"])
@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("cap", [1.05, 2.0])
def test_the_policy_ratio_is_trl_with_token_truncated_correction(trainer_class, golden, scale_rewards, beta, cap):
    expected = trl_run(trainer_class, golden, vllm=True, beta=beta, scale_rewards=scale_rewards, cap=cap)
    algorithm = GRPO(scale_rewards=scale_rewards, kl_coef=beta, importance_cap=cap)
    advantages, loss, gradient, metrics = rlx_run(algorithm, golden)
    assert_close(advantages, expected[0])
    assert_close(loss, expected[1])
    assert_close(gradient, expected[2])
    assert gradient.abs().max() > 1e-3
    assert metrics["ratio/tis_clipped"] > 0
    if beta:
        assert_close(torch.tensor(metrics["kl/reference"]), torch.tensor(expected[3]["kl"][0]))


@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize(("low", "high"), [(0.2, 0.2), (0.1, 0.35)])
def test_the_sampler_ratio_is_trl_with_the_sampler_as_old_policy(trainer_class, golden, beta, low, high):
    expected = trl_run(trainer_class, golden, old=golden.sampler, vllm=False, beta=beta, low=low, high=high)
    algorithm = GRPO(ratio="sampler", clip_low=low, clip_high=high, kl_coef=beta)
    advantages, loss, gradient, metrics = rlx_run(algorithm, golden)
    assert_close(advantages, expected[0])
    assert_close(loss, expected[1])
    assert_close(gradient, expected[2])
    for ours, theirs in (("ratio/clip_low", "clip_ratio/low_mean"), ("ratio/clip_high", "clip_ratio/high_mean")):
        assert metrics[ours] > 0
        assert_close(torch.tensor(metrics[ours]), torch.tensor(expected[3][theirs][0]))


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_without_correction_is_trl_without_vllm(trainer_class, golden, beta):
    expected = trl_run(trainer_class, golden, vllm=False, beta=beta)
    advantages, loss, gradient, _ = rlx_run(GRPO(importance_cap=0, kl_coef=beta), golden)
    assert_close(advantages, expected[0])
    assert_close(loss, expected[1])
    assert_close(gradient, expected[2])


def test_unscored_and_uninformative_episodes_have_no_gradient(trainer_class, golden):
    for advantages, _, gradient, _ in (trl_run(trainer_class, golden, vllm=True, beta=0.0), rlx_run(GRPO(), golden)):
        assert advantages[3:7].tolist() == [0.0] * 4
        assert gradient[3:7].abs().max() == 0
