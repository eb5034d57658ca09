"""The routed experts of a layer, as two stacks of matrices.

Tokens are sorted by expert, so that each expert's tokens are one block of rows. `torch.nn.functional.grouped_mm`
multiplies all blocks in one call if it supports the device and dtype; otherwise a loop over experts does. With expert
parallelism, rows are sent to the rank that has their expert, and the results are sent back.

Shapes: T tokens, N = T * K rows (a token occurs once for each of its K experts), H hidden size, I inner size, E
experts, R ranks that have E / R of them each.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.distributed._functional_collectives import all_to_all_single
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

_ALIGNED_BYTES = 16
"""Rows of matrices for `grouped_mm` begin at multiples of this."""


class Experts(nn.Module):
    def __init__(self, count: int, hidden: int, inner: int) -> None:
        super().__init__()
        self.count = count
        self.ranks: DeviceMesh | None = None
        self.gate_up = nn.Parameter(torch.empty(count, 2 * inner, hidden))
        self.down = nn.Parameter(torch.empty(count, hidden, inner))
        nn.init.normal_(self.gate_up, std=hidden**-0.5)
        nn.init.normal_(self.down, std=inner**-0.5)

    def shard(self, ranks: DeviceMesh) -> None:
        """Split the experts over the ranks."""
        self.ranks = ranks
        for name, parameter in list(self.named_parameters()):
            own = distribute_tensor(parameter, ranks, [Shard(0)], src_data_rank=None)
            self.register_parameter(name, nn.Parameter(own))

    def forward(self, tokens: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Mix the outputs of the chosen experts: tokens [T, H], experts and their weights [T, K] -> [T, H]."""
        order = chosen.flatten().argsort(stable=True)
        counts = chosen.flatten().bincount(minlength=self.count)
        rows = tokens.index_select(0, order // chosen.shape[1])
        out = self._blocks(rows, counts) if self.ranks is None else self._all_to_all(rows, counts, self.ranks)
        by_token = out.index_select(0, order.argsort()).view(*chosen.shape, -1)
        # float32, as the weights are: the sum over experts is rounded once.
        return (by_token * weights.unsqueeze(-1)).sum(dim=1).to(tokens.dtype)

    def _blocks(self, rows: Tensor, counts: Tensor) -> Tensor:
        """Apply this rank's experts to rows [N, H], in blocks of `counts`, one for each expert -> [N, H]."""
        gate, up = grouped(rows, _local(self.gate_up), counts).chunk(2, dim=-1)
        return grouped(F.silu(gate) * up, _local(self.down), counts)

    def _all_to_all(self, rows: Tensor, counts: Tensor, ranks: DeviceMesh) -> Tensor:
        """Apply the experts of all ranks to rows [N, H]: send each row to its expert's rank, and return the results."""
        group = ranks.get_group()
        sent = counts.view(ranks.size(), -1)  # [R, E / R]
        arriving = torch.empty_like(sent)
        dist.all_to_all_single(arriving, sent, group=group)
        sizes_out, sizes_in = sent.sum(1).tolist(), arriving.sum(1).tolist()
        arrived = all_to_all_single(rows, sizes_in, sizes_out, group)
        # Rows arrive ordered by rank, and within a rank by expert.
        experts = torch.arange(sent.shape[1], device=rows.device).repeat(ranks.size())
        order = experts.repeat_interleave(arriving.flatten()).argsort(stable=True)
        made = self._blocks(arrived.index_select(0, order), arriving.sum(0))
        back: Tensor = all_to_all_single(made.index_select(0, order.argsort()), sizes_out, sizes_in, group)
        return back


def _local(parameter: Tensor) -> Tensor:
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def grouped(rows: Tensor, matrices: Tensor, counts: Tensor) -> Tensor:
    """Multiply blocks of rows [N, in], `counts` [E] rows each, by their matrices [E, out, in] -> [N, out]."""
    aligned = all(size * rows.element_size() % _ALIGNED_BYTES == 0 for size in matrices.shape[1:])
    if aligned and has_grouped_mm(rows.device.type, rows.dtype):
        ends = counts.cumsum(0, dtype=torch.int32)
        return F.grouped_mm(rows, matrices.transpose(-2, -1), offs=ends)
    return looped(rows, matrices, counts)


def looped(rows: Tensor, matrices: Tensor, counts: Tensor) -> Tensor:
    """Compute `grouped` with a loop over experts."""
    blocks = torch.split(rows, counts.tolist())
    return torch.cat([F.linear(block, matrix) for block, matrix in zip(blocks, matrices.unbind(), strict=True)])


@cache
def has_grouped_mm(device: str, dtype: torch.dtype) -> bool:
    """Return whether torch's grouped_mm supports the device and dtype. It is tried, since torch has no query for it."""
    rows, matrices = torch.ones(1, 16, dtype=dtype, device=device), torch.ones(1, 16, 16, dtype=dtype, device=device)
    try:
        F.grouped_mm(rows, matrices, offs=torch.ones(1, dtype=torch.int32, device=device))
    except (RuntimeError, NotImplementedError, ValueError):
        return False
    return True
