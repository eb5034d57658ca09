"""The routed experts of a layer, as two stacks of matrices.

Tokens are sorted by expert, so that each expert's are one block of rows; `torch.nn.functional.grouped_mm` multiplies
all blocks in one call where it can, and a loop over experts does where it can't.

Shapes: T tokens, N = T * K rows (a token occurs once for each of its K experts), H hidden size, I inner size, E
experts.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

_ALIGNED_BYTES = 16
"""Rows of matrices for `grouped_mm` begin at multiples of this."""


class Experts(nn.Module):
    def __init__(self, count: int, hidden: int, inner: int) -> None:
        super().__init__()
        self.gate_up = nn.Parameter(torch.empty(count, 2 * inner, hidden))
        self.down = nn.Parameter(torch.empty(count, hidden, inner))
        nn.init.normal_(self.gate_up, std=hidden**-0.5)
        nn.init.normal_(self.down, std=inner**-0.5)

    def forward(self, tokens: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """From tokens [T, H], chosen and weights [T, K] -> [T, H]."""
        order = chosen.flatten().argsort(stable=True)
        counts = chosen.flatten().bincount(minlength=len(self.down))
        rows = tokens.index_select(0, order // chosen.shape[1])
        gate, up = grouped(rows, self.gate_up, counts).chunk(2, dim=-1)
        out = grouped(F.silu(gate) * up, self.down, counts)
        by_token = out.index_select(0, order.argsort()).view(*chosen.shape, -1)
        # float32, as the weights are: the sum over experts is rounded once.
        return (by_token * weights.unsqueeze(-1)).sum(dim=1).to(tokens.dtype)


def grouped(rows: Tensor, matrices: Tensor, counts: Tensor) -> Tensor:
    """Rows [N, in] in blocks of `counts` [E] rows, each times its matrix of [E, out, in] -> [N, out]."""
    aligned = all(size * rows.element_size() % _ALIGNED_BYTES == 0 for size in matrices.shape[1:])
    if aligned and has_grouped_mm(rows.device.type, rows.dtype):
        ends = counts.cumsum(0, dtype=torch.int32)
        return F.grouped_mm(rows, matrices.transpose(-2, -1), offs=ends)
    return looped(rows, matrices, counts)


def looped(rows: Tensor, matrices: Tensor, counts: Tensor) -> Tensor:
    """`grouped`, expert by expert."""
    blocks = torch.split(rows, counts.tolist())
    return torch.cat([F.linear(block, matrix) for block, matrix in zip(blocks, matrices.unbind(), strict=True)])


@cache
def has_grouped_mm(device: str, dtype: torch.dtype) -> bool:
    """Whether torch multiplies groups on that device in that dtype: there is no list, so it is tried."""
    rows, matrices = torch.ones(1, 16, dtype=dtype, device=device), torch.ones(1, 16, 16, dtype=dtype, device=device)
    try:
        F.grouped_mm(rows, matrices, offs=torch.ones(1, dtype=torch.int32, device=device))
    except (RuntimeError, NotImplementedError, ValueError):
        return False
    return True
