"""The policy's side of a weight transfer.

The rules of this part:

* Rank 0 alone is in the transfer group; all ranks gather, in lockstep, one tensor at a time.
* The plan is fixed when it is first asked for: every sync sends the same names, dtypes and shapes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rlx.errors import SyncError
from rlx.names import LOOPBACK
from rlx.sync.transfer_group import TransferGroup, join, meta_of, open_store, plan_bytes, send_buckets
from rlx.transport.messages import InitTransfer, OpenTransfer, TensorMeta, TransferOpened, WeightsSent

if TYPE_CHECKING:
    from torch import Tensor
    from torch._C._distributed_c10d import TCPStore


Plan = list[list[TensorMeta]]
"""Name, dtype and shape of each tensor of a transfer: one list for each bucket."""


def plan_of(buckets: Iterable[Iterable[tuple[str, Tensor]]]) -> Plan:
    """The plan of a transfer of these tensors, which may be meta tensors."""
    return [[meta_of(name, tensor) for name, tensor in bucket] for bucket in buckets]


class Sender:
    """Sends the weights of a policy from its rank 0."""

    def __init__(self, plan: Plan, rank: int, backend: str) -> None:
        self.plan = plan
        self._leads = rank == 0
        self._backend = backend
        self._store: TCPStore | None = None
        self._group: TransferGroup | None = None

    def open(self, message: OpenTransfer) -> TransferOpened:
        """Open the store that the receivers meet at (rank 0); a transfer group of before is left."""
        self.close()
        if not self._leads:
            return TransferOpened(LOOPBACK, 0, self._backend)
        self._store, port = open_store(LOOPBACK, message.world_size, message.timeout_seconds)
        return TransferOpened(LOOPBACK, port, self._backend)

    def join(self, message: InitTransfer) -> None:
        """Enter the transfer group; returns when every receiver has."""
        if self._leads:
            self._group = join(
                message.host,
                message.port,
                message.rank,
                message.world_size,
                message.backend,
                message.timeout_seconds,
            )

    def send(self, version: int, buckets: Iterator[Iterator[tuple[str, Tensor]]]) -> WeightsSent:
        """Broadcast the weights, gathered bucket by bucket while they are sent; all ranks call it. Raises SyncError."""
        began = time.perf_counter()
        if not self._leads:
            for bucket in buckets:
                for _ in bucket:
                    pass
            return WeightsSent(version, time.perf_counter() - began, plan_bytes(self.plan))
        if self._group is None:
            raise SyncError("the policy was asked for its weights before it joined a transfer group")
        sent = send_buckets(self._group, version, self.plan, ((tensor for _, tensor in bucket) for bucket in buckets))
        return WeightsSent(version, time.perf_counter() - began, sent)

    def close(self) -> None:
        """Leave the transfer group."""
        if self._group is not None:
            self._group.close()
        self._group = self._store = None
