"""Checks that a step computes what the model's own forward computes in evaluation mode: the same log-probabilities.

Rules:

* The reference is the model's own forward: padded rows, its own logits, evaluation mode and, for a model of
  transformers, `eager` attention, which applies every option that its config has (soft caps, sinks, windows).
* Adapters (`rlx.policy.model.adapters`) have ruled out packing for known reasons: a sliding window, say, or a layer
  without attention.
* The model itself is tested, too: a few tokens, computed both ways, must get equal log-probabilities. A feature that
  fails is switched off. Without packing, rows are padded; without chunked logits, the model computes its own; without
  its default attention implementation, it uses `eager`; without training mode, steps are computed in evaluation mode.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch

from rlx.errors import ConfigError
from rlx.models.plugin import torch_dtype
from rlx.policy.model.adapters import EAGER
from rlx.policy.packing.step_plan import TokenSequence, plan_sequences

if TYPE_CHECKING:
    from torch import Tensor

    from rlx.config.sections.policy import PolicyConfig
    from rlx.policy.model.adapters import ModelAdapter
    from rlx.policy.model.forward import PolicyModel

_LOG = logging.getLogger(__name__)
_TOLERANCES: Mapping[torch.dtype, float] = MappingProxyType({torch.float32: 1e-3, torch.bfloat16: 0.05})
"""Compute dtype -> root mean square difference of log-probabilities that counts as equal, relative to their standard
deviation over tokens. Rounding gives about 1e-6 and 0.001; a soft cap that is left out 0.03; a wrong mask or position
about 1."""
_PROBE_PROMPTS = ((5, (1, 4, 9)), (3, (7, 2)))
"""Length of each prompt, and lengths of the completions that share it."""


def check_attention(adapter: ModelAdapter, config: PolicyConfig) -> None:
    """Raise ConfigError if `policy.attention` is known to leave out what the model's config asks for."""
    if config.attention is not None and (reason := adapter.attention_refusal(config.attention)):
        raise ConfigError(
            f"[policy] attention = {config.attention!r} does not fit the model: {reason}. "
            f"Leave the key out, or set it to {EAGER!r}."
        )


@torch.no_grad()
def self_check(policy: PolicyModel, config: PolicyConfig | None = None) -> list[str]:
    """Compare the policy's log-probabilities with those of the model's own forward, and switch off what differs.

    config: gives the compute dtype; float32 without it. Return a sentence for each feature that was switched off.
    Raises ConfigError if that would be the attention implementation that `policy.attention` names. The weights must be
    loaded. All ranks call it.
    """
    training = policy.training
    comparison = _Comparison(policy, _TOLERANCES[torch.float32 if config is None else torch_dtype(config.dtype)])
    comparison.run()
    policy.train(training)
    for finding in comparison.findings:
        _LOG.warning(finding)
    if config is not None and config.attention not in {None, policy.adapter.own_attention}:
        raise ConfigError(
            f"[policy] attention = {config.attention!r} does not fit the model: {comparison.findings[-1]}."
        )
    return comparison.findings


@dataclass
class _Comparison:
    """Compares a policy's features one by one with the model's own forward."""

    policy: PolicyModel
    tolerance: float
    findings: list[str] = field(default_factory=list)

    def run(self) -> None:
        policy, adapter = self.policy, self.policy.adapter
        packing, own_logits, attention = policy.packing, policy.own_logits, policy.adapter.own_attention
        if own_logits and not packing and attention is None and adapter.trains_in_eval_mode:
            return
        policy.eval()  # dropout would make any two forwards differ
        if attention is not None:
            adapter.own_attention = EAGER
        policy.use(packing=False, own_logits=True)
        expected = _score_probe(policy)
        if not own_logits:
            policy.use(packing=False, own_logits=False)
            own_logits = not self._equal("chunked logits", expected)
        if packing:
            policy.use(packing=True, own_logits=own_logits)
            packing = self._equal("packed rows", expected)
        if attention not in {None, EAGER} and not packing:
            adapter.own_attention = attention
            policy.use(packing=False, own_logits=own_logits)
            if not self._equal(f"the attention implementation {attention!r}", expected):
                adapter.own_attention = EAGER
        elif attention is not None:
            adapter.own_attention = attention
        policy.use(packing=packing, own_logits=own_logits)
        if not adapter.trains_in_eval_mode:
            adapter.trains_in_eval_mode = not self._training_mode_equals(expected)

    def _training_mode_equals(self, expected: Tensor) -> bool:
        # A model may count the tokens that it sees in training: the probe's don't count.
        buffers = [(buffer, buffer.clone()) for buffer in self.policy.buffers()]
        self.policy.train()
        equal = self._equal("training mode", expected)
        for buffer, before in buffers:
            buffer.copy_(before)
        return equal

    def _equal(self, what: str, expected: Tensor) -> bool:
        """Return whether the policy, as it is set, scores the probe as expected, up to rounding; else add a finding."""
        spread = float(expected.std())
        difference = float((_score_probe(self.policy) - expected).square().mean().sqrt())
        if difference <= self.tolerance * spread:
            return True
        self.findings.append(
            f"{what} {'are' if what.endswith('s') else 'is'} switched off: the log-probabilities differ from those of "
            f"the model's own forward (root mean square difference {difference:.3g}; standard deviation over tokens "
            f"{spread:.3g})"
        )
        return False


def _score_probe(policy: PolicyModel) -> Tensor:
    """Return the log-probabilities of the probe's tokens, sequence after sequence, with the policy's settings."""
    sequences = _probe(policy.adapter.vocab_size)
    plan = plan_sequences(sequences, ranks=1, rank=0, max_tokens=1 << 20, packing=policy.packing)
    (micro,) = plan.micro_batches
    device = next(parameter.device for parameter in policy.parameters() if not parameter.is_meta)
    (outputs,) = policy.outputs([micro.to(device)], temperature=1.0)
    scores = micro.by_episode(outputs.logprobs)
    return torch.tensor([score for index in range(len(sequences)) for score in scores[index]])


def _probe(vocab_size: int) -> list[TokenSequence]:
    """Return a few random sequences, some of which share a prompt."""
    source = random.Random(0)  # noqa: S311 - not for secrets: every rank must draw the same

    def draw(count: int) -> list[int]:
        return [source.randrange(vocab_size) for _ in range(count)]

    sequences: list[TokenSequence] = []
    for prompt_group, (prompt_length, lengths) in enumerate(_PROBE_PROMPTS):
        prompt = draw(prompt_length)
        for length in lengths:
            tokens = prompt + draw(length)
            trained = list(range(1, len(tokens)))
            blank = [0.0] * len(trained)
            sequences.append(TokenSequence(tokens, trained, blank, 0.0, len(sequences), prompt_group, prompt_length))
    return sequences
