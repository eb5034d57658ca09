"""One optimizer step, scores and evaluation: what the ranks compute together.

The rules of this part:

* Every rank gets the whole step's data and plans the same micro-batches; it computes its own share. Losses are shares
  of the step's loss, normalised by global counts, and gradients are summed: the result does not depend on the ranks.
* Metrics are sums over tokens, added up over ranks, divided once by the step's tokens.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import torch

from rlx.errors import RunError
from rlx.policy.packing.step_plan import plan_step, score_plan
from rlx.policy.parallel.tensors import reshard

if TYPE_CHECKING:
    from torch import Tensor

    from rlx.algorithms.base import Algorithm, StepTotals
    from rlx.config.sections.policy import PolicyConfig
    from rlx.episodes import Episode
    from rlx.policy.model.forward import PolicyModel
    from rlx.policy.packing.batch import MicroBatch, StepPlan, TokenOutputs
    from rlx.policy.parallel.mesh import Ranks
    from rlx.policy.train.optimizer import Optimizer

_SCORES = msgspec.msgpack.Decoder(dict[int, list[float]])


@dataclass
class Tally:
    """Sums and maxima of a step, on this rank."""

    loss: float = 0.0
    """This rank's share of the step's loss."""
    sums: dict[str, float] = field(default_factory=dict)
    peak: float = 0.0
    """Largest |difference| between the sampler's and the policy's log-probability of a token."""

    def add(self, sums: dict[str, Tensor]) -> None:
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)

    def reduce(self, world: Ranks, totals: StepTotals) -> dict[str, float]:
        """Means over the step's tokens, the same on every rank."""
        names = sorted(self.sums)
        means = dict(zip(names, world.sums([self.sums[name] for name in names]), strict=True))
        means = {name: value / max(totals.tokens, 1) for name, value in means.items()}
        return {**means, "mismatch/logprob_diff_max": world.maxima([self.peak])[0]}


class Trainer:
    """The policy, and what changes it. `step` is the number of optimizer updates done, which is its weight version."""

    def __init__(
        self,
        world: Ranks,
        model: PolicyModel,
        optimizer: Optimizer,
        algorithm: Algorithm,
        config: PolicyConfig,
        *,
        reference: PolicyModel | None = None,
        step: int = 0,
    ) -> None:
        self.step = step
        self._world = world
        self._model = model
        self._optimizer = optimizer
        self._algorithm = algorithm
        self._config = config
        self._reference = reference

    def train(self, groups: Sequence[Sequence[Episode]]) -> dict[str, float]:
        """One optimizer update on these groups. Raises RunError where they hold nothing to learn from."""
        began = time.perf_counter()
        plan = self._plan(groups)
        planned = time.perf_counter()
        tally = self._accumulate(plan)
        computed = time.perf_counter()
        norm, rate = self._optimizer.update(self.step)
        updated = time.perf_counter()
        self.step += 1
        return {
            **self._model.adapter.step_end(),
            **self._metrics(tally, plan.totals),
            "loss": self._world.sums([tally.loss])[0],
            "grad_norm": norm,
            "lr": rate,
            "tokens/trained": float(plan.totals.tokens),
            "microbatches": float(len(plan.micro)),
            "time/policy_plan": planned - began,
            "time/policy_compute": computed - planned,
            "time/policy_update": updated - computed,
            "memory/policy_peak_bytes": self._world.maxima([peak_bytes()])[0],
        }

    @torch.no_grad()
    def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probabilities at temperature 1 of every token but the first of each sequence."""
        plan = score_plan(
            sequences,
            ranks=self._world.data_size,
            rank=self._world.data_rank,
            max_tokens=self._config.max_tokens_per_microbatch,
            packing=self._model.packing,
        )
        own: dict[int, list[float]] = {}
        self._model.eval()
        for micro, outputs in zip(plan.micro, self._model.outputs(self._placed(plan), temperature=1.0), strict=True):
            own.update(micro.by_episode(outputs.logprobs))
        reshard(self._model)
        everybody: dict[int, list[float]] = {}
        for part in self._world.gather_bytes(msgspec.msgpack.encode(own)):
            everybody.update(_SCORES.decode(part))
        return [everybody.get(index, []) for index in range(len(sequences))]

    @torch.no_grad()
    def evaluate(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """Mean negative log-probability of the trained tokens."""
        plan = self._plan([episodes], advantages=[[0.0] * len(episodes)])
        self._model.eval()
        total = 0.0
        for outputs in self._model.outputs(self._placed(plan)):
            total -= float(outputs.logprobs.double().sum())
        reshard(self._model)
        loss = self._world.sums([total])[0] / plan.totals.tokens
        return {"eval/loss": loss, "eval/perplexity": math.exp(min(loss, 700.0))}

    def _plan(
        self, groups: Sequence[Sequence[Episode]], advantages: Sequence[Sequence[float]] | None = None
    ) -> StepPlan:
        plan = plan_step(
            groups,
            self._algorithm.advantages(groups) if advantages is None else advantages,
            ranks=self._world.data_size,
            rank=self._world.data_rank,
            max_tokens=self._config.max_tokens_per_microbatch,
            packing=self._model.packing,
        )
        if plan.totals.tokens == 0:
            raise RunError(f"Step {self.step} has no token to learn from: every completion is empty or not trainable.")
        return plan

    def _accumulate(self, plan: StepPlan) -> Tally:
        """Forward and backward of this rank's micro-batches."""
        self._model.train()
        tally = Tally()
        micro = self._placed(plan)
        references = self._reference_logprobs(micro)

        def loss_of(index: int, outputs: TokenOutputs) -> Tensor:
            batch = micro[index].token_batch(outputs, references[index])
            loss, sums = self._algorithm.loss(batch, plan.totals)
            tally.loss += float(loss.detach())
            # An algorithm may have its own say in any of these.
            tally.add({**self._compare(tally, micro[index], outputs), **sums})
            return loss

        self._model.forward_backward(micro, loss_of)
        return tally

    def _placed(self, plan: StepPlan) -> list[MicroBatch]:
        return [micro.to(self._world.device) for micro in plan.micro]

    def _reference_logprobs(self, micro: Sequence[MicroBatch]) -> list[Tensor | None]:
        if self._reference is None:
            return [None] * len(micro)
        return [outputs.logprobs for outputs in self._reference.outputs(micro)]

    @torch.no_grad()
    def _compare(self, tally: Tally, micro: MicroBatch, outputs: TokenOutputs) -> dict[str, Tensor]:
        """Policy against sampler on the same tokens. mismatch/kl: mean of exp(d) - 1 - d with d = log policy - log
        sampler, an unbiased and non-negative estimate of KL(sampler || policy) on the sampler's tokens (Schulman's
        k3).
        """
        sampled = ~micro.sampler_logprobs.isnan()
        difference = torch.where(sampled, outputs.logprobs.detach() - micro.sampler_logprobs, 0.0)
        if difference.numel():
            tally.peak = max(tally.peak, float(difference.abs().max()))
        return {
            "entropy": outputs.entropy.sum(),
            "mismatch/kl": (difference.expm1() - difference).sum(),
            "mismatch/logprob_diff_mean": difference.abs().sum(),
        }

    def _metrics(self, tally: Tally, totals: StepTotals) -> dict[str, float]:
        metrics = tally.reduce(self._world, totals)
        if self._algorithm.rollouts:
            return metrics
        return {name: value for name, value in metrics.items() if not name.startswith("mismatch/")}


def peak_bytes() -> float:
    """The most memory this process ever held, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
