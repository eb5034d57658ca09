"""The policy's side of a weight transfer.

The rules of this part:

* Rank 0 alone is in the transfer group; all ranks gather, in lockstep, one tensor at a time.
* The plan is fixed when it is first asked for: every sync sends the same names, dtypes and shapes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from rlx.errors import SyncError
from rlx.sync.wire import TransferGroup, join, meta_of, open_store, plan_bytes, send_buckets
from rlx.transport.messages import InitTransfer, OpenTransfer, TensorMeta, TransferOpened, WeightsSent

if TYPE_CHECKING:
    from torch import Tensor
    from torch._C._distributed_c10d import TCPStore

    from rlx.policy.gather import Gatherer

HOST = "127.0.0.1"


class Sender:
    """Sends the weights of a policy from its rank 0."""

    def __init__(self, gatherer: Gatherer, rank: int, backend: str) -> None:
        self._gatherer = gatherer
        self._leads = rank == 0
        self._backend = backend
        self._store: TCPStore | None = None
        self._group: TransferGroup | None = None

    @cached_property
    def plan(self) -> list[list[TensorMeta]]:
        """What a transfer consists of: a list of tensors for each bucket."""
        return [[meta_of(name, tensor) for name, tensor in bucket] for bucket in self._gatherer.shapes()]

    def open(self, message: OpenTransfer) -> TransferOpened:
        """Open the store that the receivers meet at (rank 0); a transfer group of before is left."""
        self.close()
        if not self._leads:
            return TransferOpened(HOST, 0, self._backend)
        self._store, port = open_store(HOST, message.world_size, message.timeout_seconds)
        return TransferOpened(HOST, port, self._backend)

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

    def send(self, version: int) -> WeightsSent:
        """Broadcast the weights; all ranks call it. Raises SyncError."""
        began = time.perf_counter()
        tensors = self._tensors()
        if not self._leads:
            for bucket in tensors:
                for _ in bucket:
                    pass
            return WeightsSent(version, time.perf_counter() - began, plan_bytes(self.plan))
        if self._group is None:
            raise SyncError("the policy was asked for its weights before it joined a transfer group")
        sent = send_buckets(self._group, version, self.plan, tensors)
        return WeightsSent(version, time.perf_counter() - began, sent)

    def close(self) -> None:
        """Leave the transfer group."""
        if self._group is not None:
            self._group.close()
        self._group = self._store = None

    def _tensors(self) -> Iterator[Iterator[Tensor]]:
        for bucket in self._gatherer.tensors():
            yield (tensor for _, tensor in bucket)
