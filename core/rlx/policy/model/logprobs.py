"""Log-probabilities of given tokens, in chunks over the vocabulary.

The rules of this part:

* Logits exist for one chunk of the vocabulary at a time: [T, chunk] float32, never [T, V]. The backward pass computes
  them again.
* Matrix products run in the dtype of `hidden`; softmax, entropy and sums over chunks in float32 (float64 if `hidden`
  is).
* What a model does to its logits after the product (a scale, a soft cap) is part of the `Head`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Head:
    """logits = cap * tanh(scale * (hidden @ weight.T + bias) / cap), without the cap where `softcap` is None."""

    weight: Tensor
    """[V, H]."""
    bias: Tensor | None = None
    """[V]."""
    scale: float = 1.0
    softcap: float | None = None


def token_logprobs(
    hidden: Tensor, head: Head, targets: Tensor, *, temperature: float, chunk: int
) -> tuple[Tensor, Tensor]:
    """The log-probability of each target under softmax(logits / temperature), and that distribution's entropy without
    gradient: both [T] float32.

    hidden: [T, H]. targets: [T] int64. chunk: vocabulary entries whose logits exist at once. Raises ValueError unless
    temperature > 0 and chunk >= 1.
    """
    if temperature <= 0 or chunk < 1:
        raise ValueError(f"temperature must be > 0 and chunk >= 1, not {temperature} and {chunk}")
    logprobs, entropy = _TokenLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden,
        head.weight.to(hidden.dtype),
        head.bias,
        targets,
        head.scale / temperature,
        _scaled_cap(head, temperature),
        chunk,
    )
    return logprobs, entropy


def logits_logprobs(logits: Tensor, targets: Tensor, *, temperature: float, chunk: int) -> tuple[Tensor, Tensor]:
    """The same from logits [T, V] that a model has already computed: `chunk` rows of them at a time are float32."""
    parts = [
        _dense(rows, wanted, temperature)
        for rows, wanted in zip(_split(logits, chunk), _split(targets, chunk), strict=True)
    ]
    return torch.cat([logprobs for logprobs, _ in parts]), torch.cat([entropy for _, entropy in parts])


def _split(tensor: Tensor, rows: int) -> list[Tensor]:
    return [tensor[start : start + rows] for start in range(0, max(len(tensor), 1), rows)]


def _dense(logits: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    logprobs = (_wide(logits) / temperature).log_softmax(-1)
    entropy = -(logprobs.detach().exp() * logprobs.detach()).sum(-1)
    return logprobs.gather(-1, targets[:, None]).squeeze(-1), entropy


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _scaled_cap(head: Head, temperature: float) -> float | None:
    return None if head.softcap is None else head.softcap / temperature


@dataclass(frozen=True)
class _Logits:
    """Scaled logits of T positions, a chunk of the vocabulary at a time."""

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
        logits = _wide(self.hidden @ self.weight[span].T)
        if self.bias is not None:
            logits += self.bias[span]
        logits *= self.scale
        return logits if self.cap is None else logits.div_(self.cap).tanh_().mul_(self.cap)

    def pull_back(self, logits: Tensor, gradient: Tensor) -> Tensor:
        """Gradient of the plain product (bias included) from that of the scaled logits; overwrites both."""
        if self.cap is not None:
            gradient *= logits.div_(self.cap).square_().neg_().add_(1.0)
        return gradient.mul_(self.scale)


class _TokenLogprobs(torch.autograd.Function):
    """Online log-sum-exp forward; softmax minus one-hot, chunk by chunk, backward."""

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
        logits_of = _Logits(hidden, weight, bias, scale, cap, chunk)
        wide = torch.promote_types(hidden.dtype, torch.float32)
        peak = torch.full(targets.shape, -torch.inf, dtype=wide, device=hidden.device)
        total, weighted, wanted = (torch.zeros_like(peak) for _ in range(3))
        for span in logits_of.spans():
            logits = logits_of.compute(span)
            wanted += _at_targets(logits, targets, span.start)
            higher = torch.maximum(peak, logits.amax(-1))
            shrink = (peak - higher).exp()
            terms = (logits - higher[:, None]).exp_()
            total = total * shrink + terms.sum(-1)
            weighted = weighted * shrink + torch.linalg.vecdot(terms, logits)
            peak = higher
        normaliser = peak + total.log()
        ctx.save_for_backward(hidden, weight, bias, targets, normaliser)
        ctx.constants = (scale, cap, chunk)
        entropy = normaliser - weighted / total
        ctx.mark_non_differentiable(entropy)
        return wanted - normaliser, entropy

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _entropy: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, normaliser = ctx.saved_tensors
        logits_of = _Logits(hidden, weight, bias, *ctx.constants)
        hidden_grad = torch.zeros(hidden.shape, dtype=normaliser.dtype, device=hidden.device)
        weight_grad = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        bias_grad = torch.empty_like(bias) if bias is not None else None
        for span in logits_of.spans():
            logits = logits_of.compute(span)
            logits_grad = (logits - normaliser[:, None]).exp_().mul_(-gradient[:, None])
            _add_at_targets(logits_grad, targets, span.start, gradient)
            logits_grad = logits_of.pull_back(logits, logits_grad)
            if bias_grad is not None:
                bias_grad[span] = logits_grad.sum(0)
            narrow = logits_grad.to(hidden.dtype)
            hidden_grad += narrow @ weight[span]
            if weight_grad is not None:
                torch.mm(narrow.T, hidden, out=weight_grad[span])
        return hidden_grad.to(hidden.dtype), weight_grad, bias_grad, None, None, None, None


def _at_targets(logits: Tensor, targets: Tensor, start: int) -> Tensor:
    """logits[t, targets[t] - start], 0 where the target lies outside this chunk."""
    local = targets - start
    inside = (local >= 0) & (local < logits.shape[1])
    picked = logits.gather(1, local.clamp(0, logits.shape[1] - 1)[:, None]).squeeze(1)
    return torch.where(inside, picked, torch.zeros_like(picked))


def _add_at_targets(values: Tensor, targets: Tensor, start: int, addition: Tensor) -> None:
    """values[t, targets[t] - start] += addition[t], where the target lies inside this chunk."""
    local = targets - start
    inside = (local >= 0) & (local < values.shape[1])
    addition = torch.where(inside, addition, torch.zeros_like(addition))
    values.scatter_add_(1, local.clamp(0, values.shape[1] - 1)[:, None], addition[:, None])
