"""The gradient of a step is that of a plain loop over sequences, for any number of ranks and micro-batches, packed or
padded.
"""

from __future__ import annotations

import pytest
import torch

from rlx.algorithms.grpo import GRPO
from rlx.algorithms.sft import SFT
from rlx.policy.model.forward import PolicyModel
from rlx.policy.model.self_check import self_check
from rlx.policy.packing.step_plan import plan_step

TEMPERATURE = 0.7


def gradient_of(model):
    names = sorted(name for name, parameter in model.named_parameters() if parameter.grad is not None)
    return torch.cat([model.get_parameter(name).grad.flatten() for name in names]).double()


def plain_loop(model, groups, advantages, per_token):
    """Return loss, gradient and number of trained tokens, computed one sequence at a time with full logits.

    `per_token(logprob, sampler_logprob, advantage)` is the loss of a token.
    """
    model.zero_grad()
    losses = []
    for group, values in zip(groups, advantages, strict=True):
        for episode, advantage in zip(group, values, strict=True):
            for trajectory in episode.trajectories:
                logits = model(input_ids=torch.tensor([trajectory.tokens])).logits[0].float() / TEMPERATURE
                logprobs = logits.log_softmax(-1)
                position = 0
                for segment in trajectory.segments:
                    for offset, token in enumerate(segment.tokens):
                        if segment.learns:
                            logprob = logprobs[position + offset - 1, token]
                            losses.append(per_token(logprob, segment.logprobs[offset], advantage))
                    position += len(segment.tokens)
    loss = sum(losses) / len(losses)
    loss.backward()
    return float(loss.detach()), gradient_of(model), len(losses)


def planned(policy, algorithm, groups, advantages, *, ranks, max_tokens, packing):
    """Return loss and gradient, summed over the plans of all ranks, and the number of micro-batches of each rank."""
    policy.zero_grad()
    loss, counts = 0.0, []
    for rank in range(ranks):
        plan = plan_step(groups, advantages, ranks=ranks, rank=rank, max_tokens=max_tokens, packing=packing)
        counts.append(len(plan.micro_batches))
        for micro in plan.micro_batches:
            share, _ = algorithm.loss(micro.token_batch(policy(micro)), plan.totals)
            share.backward()
            loss += float(share.detach())
    return loss, gradient_of(policy.causal_lm), counts


def grpo_token(logprob, sampler, advantage):
    weight = min(float(torch.exp(logprob.detach() - sampler)), 2.0)
    return -weight * advantage * torch.exp(logprob - logprob.detach())


def sft_token(logprob, _sampler, _advantage):
    return -logprob


def assert_same(seen, expected):
    assert seen[0] == pytest.approx(expected[0], rel=1e-5, abs=1e-7)
    assert float((seen[1] - expected[1]).norm() / expected[1].norm()) <= 1e-6


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize(
    ("ranks", "max_tokens", "micro"), [(1, 10_000, 1), (1, 36, 4), (2, 36, 2), (3, 10_000, 1), (20, 10_000, 1)]
)
def test_any_cut_of_the_step_gives_the_gradient_of_the_plain_loop(tiny, groups, ranks, max_tokens, micro, packing):
    model, algorithm = tiny(), GRPO()
    advantages = algorithm.advantages(groups)
    expected = plain_loop(model, groups, advantages, grpo_token)
    policy = PolicyModel(model, temperature=TEMPERATURE, chunk=17)
    seen = planned(policy, algorithm, groups, advantages, ranks=ranks, max_tokens=max_tokens, packing=packing)
    assert_same(seen, expected)
    assert len(set(seen[2])) == 1
    if packing:
        assert seen[2][0] == micro


@pytest.mark.parametrize(
    ("family", "tied", "options"),
    [
        ("qwen3", False, {}),
        ("llama", True, {}),
        ("llama", False, {"attention_bias": True}),
        ("granite", False, {"logits_scaling": 4.0}),
        ("gemma2", True, {"final_logit_softcapping": 2.0, "sliding_window": 4}),
    ],
)
@pytest.mark.parametrize("packing", [True, False])
def test_other_architectures_give_the_gradient_of_the_plain_loop(tiny, groups, family, tied, options, packing):
    model, algorithm = tiny(family, tied=tied, **options), GRPO()
    if getattr(model.config, "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")  # the only one of transformers' on a CPU that knows the cap
    advantages = algorithm.advantages(groups)
    expected = plain_loop(model, groups, advantages, grpo_token)
    policy = PolicyModel(model, temperature=TEMPERATURE, chunk=17, packing=packing)
    seen = planned(policy, algorithm, groups, advantages, ranks=2, max_tokens=50, packing=policy.packing)
    assert_same(seen, expected)


@pytest.mark.parametrize("packing", [True, False])
def test_prompts_that_are_not_shared_give_the_same_gradient(tiny, groups, packing):
    model, algorithm = tiny(), GRPO()
    advantages = algorithm.advantages(groups)
    expected = plain_loop(model, groups, advantages, grpo_token)
    alone = [[episode] for group in groups for episode in group]
    values = [[value] for group in advantages for value in group]
    policy = PolicyModel(model, temperature=TEMPERATURE, chunk=17)
    assert_same(planned(policy, algorithm, alone, values, ranks=2, max_tokens=50, packing=packing), expected)


@pytest.fixture
def rows(groups):
    """SFT rows: one episode each, with one turn, two turns, or two trajectories."""
    return [[episode] for group in groups for episode in group]


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize(("ranks", "max_tokens"), [(1, 10_000), (1, 25), (2, 40), (3, 10_000), (20, 10_000)])
def test_supervised_loss_is_the_mean_over_all_tokens_however_it_is_cut(tiny, rows, ranks, max_tokens, packing):
    model, algorithm = tiny(), SFT()
    advantages = algorithm.advantages(rows)
    expected = plain_loop(model, rows, advantages, sft_token)
    policy = PolicyModel(model, temperature=TEMPERATURE, chunk=17)
    seen = planned(policy, algorithm, rows, advantages, ranks=ranks, max_tokens=max_tokens, packing=packing)
    assert_same(seen, expected)


def test_packed_and_padded_rows_give_the_same_gradient(tiny, rows):
    """Dataset rows that share a packed row don't see each other's tokens or positions."""
    policy, algorithm = PolicyModel(tiny(), temperature=1.0, chunk=17), SFT()
    advantages = algorithm.advantages(rows)
    packed, padded, alone = (
        planned(policy, algorithm, rows, advantages, ranks=1, max_tokens=budget, packing=packing)
        for packing, budget in ((True, 10_000), (False, 10_000), (False, 1))
    )
    assert (packed[2], padded[2]) == ([1], [1])
    assert alone[2][0] >= len(rows) - 1, "one row per micro-batch; one row has nothing to train"
    for one, other in ((packed, padded), (packed, alone), (padded, alone)):
        assert one[0] == pytest.approx(other[0], rel=1e-6)
        assert float((one[1] - other[1]).norm() / other[1].norm()) <= 1e-6


def test_a_model_that_computes_its_own_logits_gives_the_same_gradient(tiny, groups):
    model, algorithm = tiny(), GRPO()
    advantages = algorithm.advantages(groups)
    expected = plain_loop(model, groups, advantages, grpo_token)
    policy = PolicyModel(model, temperature=TEMPERATURE, chunk=17)
    for packing in (True, False):
        policy.use(packing=packing, own_logits=True)
        assert_same(planned(policy, algorithm, groups, advantages, ranks=1, max_tokens=50, packing=packing), expected)


def test_recomputed_layers_give_the_same_gradient(tiny, groups):
    model, algorithm = tiny(), GRPO()
    advantages = algorithm.advantages(groups)
    expected = plain_loop(model, groups, advantages, grpo_token)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    policy = PolicyModel(model, temperature=TEMPERATURE, chunk=17)
    assert_same(planned(policy, algorithm, groups, advantages, ranks=1, max_tokens=50, packing=True), expected)


@pytest.mark.parametrize(("tied", "packing"), [(True, True), (True, False), (False, True)])
def test_a_plugins_model_gives_the_gradient_of_transformers(toy, toy_model, groups, tied, packing):
    """The model has fused tensors; its mapper gives their gradients the names of a checkpoint."""
    algorithm, (ours, theirs) = GRPO(), toy(tied=tied)
    advantages = algorithm.advantages(groups)
    expected = plain_loop(theirs, groups, advantages, grpo_token)
    policy = PolicyModel(ours, temperature=TEMPERATURE, chunk=17, packing=packing)
    assert (policy.packing, policy.own_logits, self_check(policy)) == (packing, False, [])
    loss, _, _ = planned(policy, algorithm, groups, advantages, ranks=2, max_tokens=50, packing=packing)
    mapper = toy_model.ToyMapper(theirs.config)
    mapped = dict(pair for name, tensor in ours.named_parameters() for pair in mapper.policy_to_hf(name, tensor.grad))
    assert_same((loss, torch.cat([mapped[name].flatten() for name in sorted(mapped)]).double()), expected)


def test_an_idle_rank_reaches_every_parameter_with_a_zero_gradient(tiny, groups):
    policy = PolicyModel(tiny(tied=False), temperature=1.0, chunk=17)
    for packing in (True, False):
        policy.zero_grad()
        idle = plan_step([groups[0][:1]], [[1.0]], ranks=2, rank=1, max_tokens=100, packing=packing).micro_batches
        assert [micro.targets.numel() for micro in idle] == [0]
        policy(idle[0]).logprobs.sum().backward()
        gradients = [parameter.grad for parameter in policy.parameters()]
        assert all(gradient is not None and not gradient.any() for gradient in gradients)


@torch.no_grad()
def test_scoring_may_use_another_temperature(tiny, groups):
    policy = PolicyModel(tiny(), temperature=TEMPERATURE, chunk=17)
    (micro,) = plan_step(groups, [[0.0] * 4] * 3, ranks=1, rank=0, max_tokens=9999, packing=True).micro_batches
    cool, raw = policy(micro).logprobs, policy(micro, temperature=1.0).logprobs
    policy.temperature = 1.0
    torch.testing.assert_close(policy(micro).logprobs, raw)
    assert float((cool - raw).abs().max()) > 0.1
