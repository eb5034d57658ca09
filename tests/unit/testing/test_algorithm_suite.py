from __future__ import annotations

import pytest

from rlx.algorithms.grpo import GRPO
from rlx.algorithms.sft import SFT
from rlx.testing import ContractError, check_algorithm
from rlx.testing.suites.algorithm import RULES


class Reinforce:
    """An algorithm without a base class: (reward - group mean) * logprob."""

    rollouts = True
    needs_reference = False

    def __init__(self, *, scale: float = 1.0):
        self.scale = scale

    def advantages(self, groups):
        return [self.of_group([episode.total_reward for episode in group]) for group in groups]

    def of_group(self, rewards):
        scored = [reward for reward in rewards if reward is not None]
        mean = sum(scored) / len(scored) if scored else 0.0
        return [0.0 if reward is None else self.scale * (reward - mean) for reward in rewards]

    def loss(self, batch, totals):
        loss = -(batch.logprobs * batch.advantages).sum() / totals.tokens
        return loss, {"entropy": batch.entropy.sum()}


class PerEpisode(Reinforce):
    """Every episode has the same weight, whatever its length."""

    def loss(self, batch, totals):
        lengths = batch.episode.bincount()[batch.episode].clamp(min=1)
        return -(batch.logprobs * batch.advantages / lengths).sum() / totals.episodes, {}


@pytest.mark.parametrize(
    ("algorithm", "args"),
    [(Reinforce, {}), (Reinforce, {"scale": 0.5}), (PerEpisode, {}), (GRPO, {"kl_coef": 0.1}), (SFT, {})],
)
def test_algorithms_that_keep_the_contract(algorithm, args):
    check_algorithm(algorithm, args=args)


class Undecided(Reinforce):
    rollouts = None


class AsksLater(Reinforce):
    def needs_reference(self):
        return False


class PerGroup(Reinforce):
    def of_group(self, rewards):
        return super().of_group(rewards)[:1]


class ZScores(Reinforce):
    """Divides by a standard deviation of 0."""

    def of_group(self, rewards):
        centred = super().of_group(rewards)
        spread = sum(value * value for value in centred)
        return [value / spread if spread else float("nan") for value in centred]


class Indifferent(Reinforce):
    def of_group(self, rewards):
        return [0.0] * len(rewards)


class Zeroing(Reinforce):
    def of_group(self, rewards):
        return super().of_group([reward or 0.0 for reward in rewards])


class NotReduced(Reinforce):
    def loss(self, batch, totals):
        return -(batch.logprobs * batch.advantages) / totals.tokens, {}


class NeedsReference(Reinforce):
    def loss(self, batch, totals):
        return (batch.logprobs - batch.reference_logprobs).sum() / totals.tokens, {}


class Detached(Reinforce):
    def loss(self, batch, totals):
        return (batch.logprobs.detach() * batch.advantages).sum() / totals.tokens, {}


class Flat(Reinforce):
    def loss(self, batch, totals):
        return (batch.logprobs * 0.0).sum(), {}


class Root(Reinforce):
    """The gradient of a square root at 0 is not finite."""

    def loss(self, batch, totals):
        return (batch.logprobs - batch.logprobs.detach()).abs().sqrt().sum() / totals.tokens, {}


class OwnMean(Reinforce):
    def loss(self, batch, totals):
        loss = -(batch.logprobs * batch.advantages).sum() / max(batch.logprobs.numel(), 1)
        return loss, {}


class Empty(Reinforce):
    def loss(self, batch, totals):
        share = batch.logprobs.numel() / totals.tokens
        return -(batch.logprobs * batch.advantages).mean() * share, {}


class MeanMetric(Reinforce):
    def loss(self, batch, totals):
        return super().loss(batch, totals)[0], {"entropy": batch.entropy.sum() / max(batch.entropy.numel(), 1)}


class LiveMetric(Reinforce):
    def loss(self, batch, totals):
        loss, _ = super().loss(batch, totals)
        return loss, {"logprob": batch.logprobs.sum()}


class PlainMetric(Reinforce):
    def loss(self, batch, totals):
        return super().loss(batch, totals)[0], [1.0]


class InPlace(Reinforce):
    def loss(self, batch, totals):
        batch.advantages.mul_(2)
        return super().loss(batch, totals)


BROKEN = [
    ("options", Reinforce, {"scael": 2.0}, "Did you mean 'scale'"),
    ("options", Reinforce(), {}, "it is a Reinforce\n.*Name the class"),
    ("rollouts", Undecided, {}, "rollouts is None"),
    ("needs-reference", AsksLater, {}, "Make it a property"),
    ("advantages", PerGroup, {}, r"groups of \[4, 4, 2, 2, 1\] episodes got \[1, 1, 1, 1, 1\] numbers"),
    ("advantages", ZScores, {}, r"rewards of \[1.0, 1.0\] got \[nan, nan\]"),
    ("advantages", Indifferent, {}, "nothing would be learned"),
    ("unscored", Zeroing, {}, r"rewards of \[0.5, None, 0.25, -2.0\] got"),
    ("loss", NotReduced, {}, r"Return a tensor of shape \[\]"),
    ("loss", NeedsReference, {}, "TypeError: .*NoneType"),
    ("gradient", Detached, {}, "has no gradient"),
    ("gradient", Flat, {}, "it is 0 at every token"),
    ("gradient", Root, {}, "nan"),
    ("shares", OwnMean, {}, "at once and .* in two micro-batches(.|\n)*Divide by `totals`"),
    ("empty", Empty, {}, "it returned nan"),
    ("metrics", MeanMetric, {}, r"entropy is .* at once, and .* \+ .* in two parts"),
    ("metrics", LiveMetric, {}, r"Return `values.detach\(\).sum\(\)`"),
    ("metrics", PlainMetric, {}, "they are a list"),
    ("unchanged", InPlace, {}, "advantages changed"),
]


@pytest.mark.parametrize(("rule", "algorithm", "args", "text"), BROKEN)
def test_a_broken_rule_is_reported_with_what_was_observed(rule, algorithm, args, text):
    with pytest.raises(ContractError, match=text) as caught:
        check_algorithm(algorithm, args=args)
    assert caught.value.rules == [rule]
    assert f"\n{rule}: {RULES[rule]}\n" in str(caught.value)


def test_every_rule_has_an_algorithm_that_breaks_it():
    assert {rule for rule, *_ in BROKEN} == set(RULES)
