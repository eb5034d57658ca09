"""One optimizer step, scoring and evaluation: the policy's computations that all ranks share.

Rules:

* Every rank gets the data of the whole step and plans the same micro-batches, then computes its own share. Losses are
  shares of the step's loss, normalised by global counts, and gradients are summed: the result doesn't depend on the
  number of ranks.
* Metrics are sums over tokens, added up over ranks and divided once by the step's tokens.
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

_SCORES_DECODER = msgspec.msgpack.Decoder(dict[int, list[float]])


@dataclass
class Tally:
    """Loss and metrics of a step on this rank, added up over its micro-batches."""

    loss: float = 0.0
    """This rank's share of the step's loss."""
    sums: dict[str, float] = field(default_factory=dict)
    max_logprob_diff: float = 0.0
    """Largest |difference| between the sampler's and the policy's log-probability of a token."""

    def add(self, sums: dict[str, Tensor]) -> None:
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)

    @torch.no_grad()
    def mismatch_metrics(self, micro: MicroBatch, outputs: TokenOutputs) -> dict[str, Tensor]:
        """Return entropy, and differences between the policy and the sampler on the same tokens, as sums over tokens.

        mismatch/kl: exp(d) - 1 - d with d = log policy - log sampler, an unbiased and non-negative estimate of
        KL(sampler || policy) on the sampler's tokens (Schulman's k3). Also updates `max_logprob_diff`.
        """
        sampled = ~micro.sampler_logprobs.isnan()
        difference = torch.where(sampled, outputs.logprobs.detach() - micro.sampler_logprobs, 0.0)
        if difference.numel():
            self.max_logprob_diff = max(self.max_logprob_diff, float(difference.abs().max()))
        return {
            "entropy": outputs.entropy.sum(),
            "mismatch/kl": (difference.expm1() - difference).sum(),
            "mismatch/logprob_diff_mean": difference.abs().sum(),
        }

    def reduce(self, ranks: Ranks, totals: StepTotals) -> dict[str, float]:
        """Return the means over the step's tokens (and the largest difference), the same on every rank."""
        names = sorted(self.sums)
        means = dict(zip(names, ranks.sums([self.sums[name] for name in names]), strict=True))
        means = {name: value / max(totals.tokens, 1) for name, value in means.items()}
        return {**means, "mismatch/logprob_diff_max": ranks.maxima([self.max_logprob_diff])[0]}


class Trainer:
    """Trains and scores the policy. `step` is the number of optimizer updates so far, which is the weight version."""

    def __init__(
        self,
        ranks: Ranks,
        model: PolicyModel,
        optimizer: Optimizer,
        algorithm: Algorithm,
        config: PolicyConfig,
        *,
        reference: PolicyModel | None = None,
        step: int = 0,
    ) -> None:
        self.step = step
        self.advantages: list[list[float]] = []
        """Of each episode of each group of the last step; empty if the algorithm learns from dataset rows."""
        self._ranks = ranks
        self._model = model
        self._optimizer = optimizer
        self._algorithm = algorithm
        self._config = config
        self._reference = reference
        # The engine samples without dropout: with it, a step would train log-probabilities that nothing sampled from.
        model.dropout = not algorithm.rollouts if config.dropout is None else config.dropout

    def train(self, groups: Sequence[Sequence[Episode]]) -> dict[str, float]:
        """Make one optimizer update on these groups; return metrics. Raises RunError if they have no trained token."""
        began = time.perf_counter()
        advantages = self._algorithm.advantages(groups)
        plan = self._plan(groups, advantages)
        planned = time.perf_counter()
        tally = self._accumulate(plan)
        computed = time.perf_counter()
        norm, rate = self._optimizer.update(self.step)
        updated = time.perf_counter()
        self.step += 1
        self.advantages = [list(map(float, group)) for group in advantages] if self._algorithm.rollouts else []
        adapter_metrics = self._model.adapter.step_end()
        metrics = tally.reduce(self._ranks, plan.totals)
        if not self._algorithm.rollouts:
            # Without a sampler these would compare the policy with itself.
            metrics = {name: value for name, value in metrics.items() if not name.startswith("mismatch/")}
        return {
            **adapter_metrics,
            **metrics,
            "loss": self._ranks.sums([tally.loss])[0],
            "grad_norm": norm,
            "lr": rate,
            "tokens/trained": float(plan.totals.tokens),
            "microbatches": float(len(plan.micro_batches)),
            "time/policy_plan": planned - began,
            "time/policy_compute": computed - planned,
            "time/policy_update": updated - computed,
            "memory/policy_peak_bytes": self._ranks.maxima([peak_bytes()])[0],
        }

    @torch.no_grad()
    def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return the log-probabilities, at temperature 1, of every token but the first of each sequence."""
        plan = score_plan(
            sequences,
            ranks=self._ranks.data_size,
            rank=self._ranks.data_rank,
            max_tokens=self._config.max_tokens_per_microbatch,
            packing=self._model.packing,
            attention_tokens=self._model.attention_tokens,
        )
        scores: dict[int, list[float]] = {}
        self._model.eval()
        step_outputs = self._model.outputs(self._to_device(plan), temperature=1.0)
        for micro, outputs in zip(plan.micro_batches, step_outputs, strict=True):
            scores.update(micro.by_episode(outputs.logprobs))
        reshard(self._model)
        for part in self._ranks.gather_bytes(msgspec.msgpack.encode(scores)):
            scores.update(_SCORES_DECODER.decode(part))
        return [scores.get(index, []) for index in range(len(sequences))]

    @torch.no_grad()
    def evaluate(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """Return the mean negative log-probability of the trained tokens, and its exponential."""
        plan = self._plan([episodes], [[0.0] * len(episodes)])
        self._model.eval()
        total = 0.0
        for outputs in self._model.outputs(self._to_device(plan)):
            total -= float(outputs.logprobs.double().sum())
        reshard(self._model)
        loss = self._ranks.sums([total])[0] / plan.totals.tokens
        return {"eval/loss": loss, "eval/perplexity": math.exp(min(loss, 700.0))}

    def _plan(self, groups: Sequence[Sequence[Episode]], advantages: Sequence[Sequence[float]]) -> StepPlan:
        plan = plan_step(
            groups,
            advantages,
            ranks=self._ranks.data_size,
            rank=self._ranks.data_rank,
            max_tokens=self._config.max_tokens_per_microbatch,
            packing=self._model.packing,
            attention_tokens=self._model.attention_tokens,
        )
        if plan.totals.tokens == 0:
            raise RunError(f"Step {self.step} has no token to learn from: every completion is empty or not trainable.")
        return plan

    def _accumulate(self, plan: StepPlan) -> Tally:
        """Accumulate the gradients of this rank's micro-batches."""
        self._model.train()
        tally = Tally()
        micro_batches = self._to_device(plan)
        reference_logprobs: list[Tensor | None] = [None] * len(micro_batches)
        if self._reference is not None:
            reference_logprobs = [outputs.logprobs for outputs in self._reference.outputs(micro_batches)]

        def loss_fn(index: int, outputs: TokenOutputs) -> Tensor:
            batch = micro_batches[index].token_batch(outputs, reference_logprobs[index])
            loss, sums = self._algorithm.loss(batch, plan.totals)
            tally.loss += float(loss.detach())
            # An algorithm's metric replaces rlx's metric of the same name.
            tally.add({**tally.mismatch_metrics(micro_batches[index], outputs), **sums})
            return loss

        self._model.forward_backward(micro_batches, loss_fn)
        return tally

    def _to_device(self, plan: StepPlan) -> list[MicroBatch]:
        return [micro.to(self._ranks.device) for micro in plan.micro_batches]


def peak_bytes() -> float:
    """Return the peak resident memory of this process, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
