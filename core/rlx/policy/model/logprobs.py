"""Log-probabilities of given tokens, a chunk of the vocabulary at a time.

Rules:

* Logits exist for one chunk of the vocabulary at a time: [T, C] float32, never [T, V]. The backward pass computes them
  again.
* Matrix products run in the dtype of `hidden`; softmax, entropy and sums over chunks in float32 (float64 if `hidden`
  is).
* A scale or a soft cap that a model applies to its logits is part of the `LMHead`.

Shapes: T tokens, H hidden size, V vocabulary, C entries of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LMHead:
    """Turns hidden states into logits.

    logits = cap * tanh(scale * (hidden @ weight.T + bias) / cap), with cap = softcap; without tanh if softcap is None.
    """

    weight: Tensor
    """[V, H]."""
    bias: Tensor | None = None
    """[V]."""
    scale: float = 1.0
    softcap: float | None = None


def token_logprobs(
    hidden: Tensor, head: LMHead, targets: Tensor, *, temperature: float, chunk: int
) -> tuple[Tensor, Tensor]:
    """Return the log-probability of each target under softmax(logits / temperature), and that distribution's entropy.

    Both are [T] float32; the entropy has no gradient. hidden: [T, H]. targets: [T] int64. chunk: vocabulary entries
    whose logits exist at once. Raises ValueError unless temperature > 0 and chunk >= 1.
    """
    if temperature <= 0 or chunk < 1:
        raise ValueError(f"temperature must be > 0 and chunk >= 1, not {temperature} and {chunk}")
    logprobs, entropy = _TokenLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden,
        head.weight.to(hidden.dtype),
        head.bias,
        targets,
        head.scale / temperature,
        None if head.softcap is None else head.softcap / temperature,
        chunk,
    )
    return logprobs, entropy


def logits_logprobs(logits: Tensor, targets: Tensor, *, temperature: float, chunk: int) -> tuple[Tensor, Tensor]:
    """Return the same as `token_logprobs`, from logits [T, V] that the model has computed.

    chunk: rows that are converted to float32 at a time.
    """
    spans = [slice(start, start + chunk) for start in range(0, max(len(logits), 1), chunk)]
    parts = [_dense_logprobs(logits[span], targets[span], temperature) for span in spans]
    return torch.cat([logprobs for logprobs, _ in parts]), torch.cat([entropy for _, entropy in parts])


def _dense_logprobs(logits: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    logprobs = (_at_least_float32(logits) / temperature).log_softmax(-1)
    entropy = -(logprobs.detach().exp() * logprobs.detach()).sum(-1)
    return logprobs.gather(-1, targets[:, None]).squeeze(-1), entropy


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@dataclass(frozen=True)
class _ChunkedLogits:
    """Computes scaled logits of T tokens, a chunk of the vocabulary at a time."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    scale: float
    cap: float | None
    chunk: int

    def spans(self) -> Iterator[slice]:
        for start in range(0, self.weight.shape[0], self.chunk):
            yield slice(start, start + self.chunk)

    def compute(self, span: slice) -> Tensor:
        """Return the logits [T, C] of a chunk, float32."""
        logits = _at_least_float32(self.hidden @ self.weight[span].T)
        if self.bias is not None:
            logits += self.bias[span]
        logits *= self.scale
        return logits if self.cap is None else logits.div_(self.cap).tanh_().mul_(self.cap)

    def pull_back(self, logits: Tensor, gradient: Tensor) -> Tensor:
        """Turn the gradient of the logits into that of `hidden @ weight.T + bias`. Overwrites both arguments."""
        if self.cap is not None:
            gradient *= logits.div_(self.cap).square_().neg_().add_(1.0)
        return gradient.mul_(self.scale)


class _TokenLogprobs(torch.autograd.Function):
    """Forward: online log-sum-exp. Backward: softmax minus one-hot. Both work chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        scale: float,
        cap: float | None,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        chunked = _ChunkedLogits(hidden, weight, bias, scale, cap, chunk)
        wide = torch.promote_types(hidden.dtype, torch.float32)
        running_max = torch.full(targets.shape, -torch.inf, dtype=wide, device=hidden.device)
        total, weighted, target_logits = (torch.zeros_like(running_max) for _ in range(3))
        for span in chunked.spans():
            logits = chunked.compute(span)
            target_logits += _at_targets(logits, targets, span.start)
            new_max = torch.maximum(running_max, logits.amax(-1))
            shrink = (running_max - new_max).exp()
            terms = (logits - new_max[:, None]).exp_()
            total = total * shrink + terms.sum(-1)
            weighted = weighted * shrink + torch.linalg.vecdot(terms, logits)
            running_max = new_max
        normaliser = running_max + total.log()
        ctx.save_for_backward(hidden, weight, bias, targets, normaliser)
        ctx.constants = (scale, cap, chunk)
        entropy = normaliser - weighted / total
        ctx.mark_non_differentiable(entropy)
        return target_logits - normaliser, entropy

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _entropy: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, normaliser = ctx.saved_tensors
        chunked = _ChunkedLogits(hidden, weight, bias, *ctx.constants)
        hidden_grad = torch.zeros(hidden.shape, dtype=normaliser.dtype, device=hidden.device)
        weight_grad = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        bias_grad = torch.empty_like(bias) if bias is not None else None
        for span in chunked.spans():
            logits = chunked.compute(span)
            logits_grad = (logits - normaliser[:, None]).exp_().mul_(-gradient[:, None])
            _add_at_targets(logits_grad, targets, span.start, gradient)
            logits_grad = chunked.pull_back(logits, logits_grad)
            if bias_grad is not None:
                bias_grad[span] = logits_grad.sum(0)
            narrow = logits_grad.to(hidden.dtype)
            hidden_grad += narrow @ weight[span]
            if weight_grad is not None:
                torch.mm(narrow.T, hidden, out=weight_grad[span])
        return hidden_grad.to(hidden.dtype), weight_grad, bias_grad, None, None, None, None


def _at_targets(logits: Tensor, targets: Tensor, start: int) -> Tensor:
    """Return logits[t, targets[t] - start], or 0 for targets outside of this chunk."""
    local = targets - start
    inside = (local >= 0) & (local < logits.shape[1])
    picked = logits.gather(1, local.clamp(0, logits.shape[1] - 1)[:, None]).squeeze(1)
    return torch.where(inside, picked, torch.zeros_like(picked))


def _add_at_targets(values: Tensor, targets: Tensor, start: int, addition: Tensor) -> None:
    """Add addition[t] to values[t, targets[t] - start], for targets inside this chunk."""
    local = targets - start
    inside = (local >= 0) & (local < values.shape[1])
    addition = torch.where(inside, addition, torch.zeros_like(addition))
    values.scatter_add_(1, local.clamp(0, values.shape[1] - 1)[:, None], addition[:, None])
