"""What a model allows: packed rows, and logits that are computed a chunk of the vocabulary at a time.

The rules of this part:

* What is known beforehand is asked first (`rlx.policy.model.adapters`): a window, or a layer without attention, rules
  packing out.
* Then the model itself is asked (`verify`): the same few tokens, computed in both ways, must come out equal. What does
  not is switched off: without packing rows are padded, and without a known head the model computes its own logits.
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
"""Root mean square difference of log-probabilities that counts as equal, as a share of how much they vary from token to
token. bfloat16 alone was seen to make 0.001; a wrong mask or position makes a good part of 1."""
_PROBE_FAMILIES = ((5, (1, 4, 9)), (3, (7, 2)))
"""Prompt length, and the lengths of the completions that share it."""


@torch.no_grad()
def verify(policy: PolicyModel) -> list[str]:
    """Compute a few tokens in the model's own way and in rlx's, and switch off what differs; says what and by how much.

    For a policy whose weights are there. Under FSDP all ranks call it.
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
    wanted = (policy.packing, policy.own_logits)
    policy.use(packing=False, own_logits=True)
    expected = _scores(policy)
    findings: list[str] = []
    own_logits = wanted[1]
    if not own_logits:
        policy.use(packing=False, own_logits=False)
        own_logits = not _equal(findings, "chunked logits", expected, _scores(policy))
    packing = wanted[0]
    if packing:
        policy.use(packing=True, own_logits=own_logits)
        packing = _equal(findings, "packed rows", expected, _scores(policy))
    policy.use(packing=packing, own_logits=own_logits)
    return findings


def _scores(policy: PolicyModel) -> Tensor:
    """Log-probabilities of the probe, sequence after sequence, in the way that the policy is set to."""
    sequences = _probe(policy.network.vocabulary)
    plan = plan_sequences(sequences, ranks=1, rank=0, max_tokens=1 << 20, packing=policy.packing)
    (micro,) = plan.micro
    device = next(parameter.device for parameter in policy.parameters() if not parameter.is_meta)
    (outputs,) = policy.outputs([micro.to(device)], temperature=1.0)
    scores = micro.by_episode(outputs.logprobs)
    return torch.tensor([score for index in range(len(sequences)) for score in scores[index]])


def _probe(vocabulary: int) -> list[TokenSequence]:
    source = random.Random(0)  # noqa: S311 - not for secrets: every rank must draw the same

    def draw(count: int) -> list[int]:
        return [source.randrange(vocabulary) for _ in range(count)]

    sequences: list[TokenSequence] = []
    for family, (prompt_length, lengths) in enumerate(_PROBE_FAMILIES):
        prompt = draw(prompt_length)
        for length in lengths:
            tokens = prompt + draw(length)
            trained = list(range(1, len(tokens)))
            blank = [0.0] * len(trained)
            sequences.append(TokenSequence(tokens, trained, blank, 0.0, len(sequences), family, prompt_length))
    return sequences


def _equal(findings: list[str], what: str, expected: Tensor, seen: Tensor) -> bool:
    spread = float(expected.std())
    difference = float((seen - expected).square().mean().sqrt())
    if difference <= _TOLERANCE * spread:
        return True
    findings.append(
        f"{what} are switched off: they give this model other log-probabilities than its own forward "
        f"(difference {difference:.3g}, of {spread:.3g} between tokens)"
    )
    return False
