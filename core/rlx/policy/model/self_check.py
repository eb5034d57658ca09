"""Checks that packed rows and chunked logits give the same log-probabilities as the model's own forward.

Rules:

* Adapters (`rlx.policy.model.adapters`) have ruled out packing for known reasons: a sliding window, say, or a layer
  without attention.
* The model itself is tested, too: a few tokens, computed both ways, must get equal log-probabilities. A feature that
  fails is switched off: without packing, rows are padded; without chunked logits, the model computes its own.
"""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

import torch

from rlx.policy.packing.step_plan import TokenSequence, plan_sequences

if TYPE_CHECKING:
    from torch import Tensor

    from rlx.policy.model.forward import PolicyModel

_LOG = logging.getLogger(__name__)
_TOLERANCE = 0.05
"""Root mean square difference of log-probabilities that counts as equal, relative to their standard deviation over
tokens. Rounding to bfloat16 gives about 0.001; a wrong mask or position gives about 1."""
_PROBE_PROMPTS = ((5, (1, 4, 9)), (3, (7, 2)))
"""Length of each prompt, and lengths of the completions that share it."""


@torch.no_grad()
def self_check(policy: PolicyModel) -> list[str]:
    """Compare the policy's packed rows and chunked logits with the model's own forward, and switch off what differs.

    Return a sentence for each feature that was switched off. The weights must be loaded. All ranks call it.
    """
    if policy.own_logits and not policy.packing:
        return []
    training = policy.training
    policy.eval()  # dropout would make any two forwards differ
    findings = _compare(policy)
    policy.train(training)
    for finding in findings:
        _LOG.warning(finding)
    return findings


def _compare(policy: PolicyModel) -> list[str]:
    packing, own_logits = policy.packing, policy.own_logits
    policy.use(packing=False, own_logits=True)
    expected = _score_probe(policy)
    findings: list[str] = []
    if not own_logits:
        policy.use(packing=False, own_logits=False)
        own_logits = not _equal(findings, "chunked logits", expected, _score_probe(policy))
    if packing:
        policy.use(packing=True, own_logits=own_logits)
        packing = _equal(findings, "packed rows", expected, _score_probe(policy))
    policy.use(packing=packing, own_logits=own_logits)
    return findings


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


def _equal(findings: list[str], what: str, expected: Tensor, measured: Tensor) -> bool:
    """Return whether both are equal up to rounding; else add a finding."""
    spread = float(expected.std())
    difference = float((measured - expected).square().mean().sqrt())
    if difference <= _TOLERANCE * spread:
        return True
    findings.append(
        f"{what} are switched off: their log-probabilities differ from those of the model's own forward "
        f"(root mean square difference {difference:.3g}; standard deviation over tokens {spread:.3g})"
    )
    return False
