"""The part of `check_algorithm` about the loss: its value, its gradient, its metrics, and additivity.

The loss of a step of three episodes is computed at once, and in micro-batches that are cut between episodes, as the
trainer does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from rlx.algorithms.base import Algorithm, StepTotals, TokenBatch
from rlx.testing.suites.contract import Broken

if TYPE_CHECKING:
    from torch import Tensor

_LENGTHS = (5, 4, 3)
"""Tokens of each episode of the step."""


def broken_loss(algorithm: Algorithm) -> Iterator[Broken]:
    """Yield the findings for the rules from `loss` to `unchanged`."""
    totals = StepTotals(tokens=sum(_LENGTHS), episodes=len(_LENGTHS))
    wrong = list(_broken_at_once(algorithm, totals))
    yield from wrong or _broken_shares(algorithm, totals)


def _broken_at_once(algorithm: Algorithm, totals: StepTotals) -> Iterator[Broken]:
    """Yield findings about the whole step as one batch."""
    import torch

    logprobs, batch = _step(algorithm)
    before = {name: value.detach().clone() for name, value in _tensors(batch).items()}
    result: tuple[object, object] = algorithm.loss(batch, totals)
    loss, metrics = result
    if not (isinstance(loss, torch.Tensor) and loss.shape == () and bool(loss.isfinite())):
        yield Broken("loss", f"it returned {loss!r:.200}", "Return a tensor of shape [] that is finite.")
        return
    if changed := [name for name, value in _tensors(batch).items() if not torch.equal(value.detach(), before[name])]:
        yield Broken("unchanged", f"{', '.join(changed)} changed", "Do not use in-place operations.")
    depend = "Compute the loss from batch.logprobs, not detached."
    if not loss.requires_grad:
        yield Broken("gradient", "the loss has no gradient", depend)
    else:
        (gradient,) = torch.autograd.grad(loss, logprobs, retain_graph=True)
        if not bool(gradient.isfinite().all()):
            seen = f"d loss / d logprobs is {gradient.tolist()}"
            yield Broken("gradient", seen, "Guard the operation that divides by 0.")
        elif not bool(gradient.any()):
            yield Broken("gradient", "it is 0 at every token", depend)
    if not isinstance(metrics, Mapping):
        seen = f"they are a {type(metrics).__name__}"
        yield Broken("metrics", seen, "Return a dict of name -> tensor of shape [].")
        return
    for name, value in metrics.items():
        scalar = isinstance(value, torch.Tensor) and value.shape == () and bool(value.isfinite())
        if not scalar or value.requires_grad:
            yield Broken("metrics", f"{name} is {value!r:.200}", "Return `values.detach().sum()`.")


def _broken_shares(algorithm: Algorithm, totals: StepTotals) -> Iterator[Broken]:
    """Yield findings about the step in micro-batches."""
    import torch

    logprobs, batch = _step(algorithm)
    loss, metrics = algorithm.loss(batch, totals)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    edges = [0, _LENGTHS[0], sum(_LENGTHS)]
    shares = [algorithm.loss(_part(batch, slice(*span)), totals) for span in itertools.pairwise(edges)]
    total = torch.stack([share for share, _ in shares]).sum()
    (together,) = torch.autograd.grad(total, logprobs)
    if not (torch.allclose(total, loss, rtol=1e-4) and torch.allclose(together, gradient, rtol=1e-4, atol=1e-7)):
        seen = f"the step's loss is {loss.item():g} at once and {total.item():g} in two micro-batches"
        yield Broken("shares", seen, "Divide by `totals`, which counts the whole step, and not by this batch's tokens.")
    for name, value in metrics.items():
        parts = [float(some.get(name, 0.0)) for _, some in shares]
        if not math.isclose(sum(parts), float(value), rel_tol=1e-4, abs_tol=1e-6):
            seen = f"{name} is {float(value):g} at once, and {' + '.join(f'{part:g}' for part in parts)} in two parts"
            yield Broken("metrics", seen, "Return sums over tokens; the trainer divides by the step's tokens.")
    empty = algorithm.loss(_part(batch, slice(0, 0)), totals)[0].item()
    if empty != 0:
        yield Broken("empty", f"it returned {empty}", "Sum over tokens, then divide by totals: a mean of none is NaN.")


def _step(algorithm: Algorithm) -> tuple[Tensor, TokenBatch]:
    """Return all tokens of a step, and their log-probabilities as a leaf tensor."""
    import torch

    source = torch.Generator().manual_seed(0)
    count = sum(_LENGTHS)
    leaf = (-3 * torch.rand(count, generator=source)).requires_grad_()
    own = leaf.detach()
    episode = torch.repeat_interleave(torch.arange(len(_LENGTHS)), torch.tensor(_LENGTHS))
    batch = TokenBatch(
        logprobs=leaf,
        sampler_logprobs=own + 0.1 * torch.randn(count, generator=source),
        advantages=torch.tensor([1.0, -0.5, -0.25])[episode],
        reference_logprobs=own + 0.2 * torch.randn(count, generator=source)
        if getattr(algorithm, "needs_reference", False)
        else None,
        entropy=2 * torch.rand(count, generator=source),
        episode=episode,
    )
    return leaf, batch


def _tensors(batch: TokenBatch) -> dict[str, Tensor]:
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: value for name, value in values.items() if value is not None}


def _part(batch: TokenBatch, span: slice) -> TokenBatch:
    return replace(batch, **{name: value[span] for name, value in _tensors(batch).items()})
