"""The policy's side of a weight transfer.

Rules:

* Only rank 0 is in the transfer group. All ranks gather, in lockstep, one tensor at a time.
* A group that breaks does not end the policy: rank 0 goes on gathering, so that the ranks stay in step, and answers
  `TransferFailed`.
* The manifest is fixed when the policy is built: every sync sends the same names, dtypes and shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rlx.errors import SyncError
from rlx.names import LOOPBACK
from rlx.sync import transfer_group
from rlx.sync.buckets import send_buckets
from rlx.sync.digests import digest
from rlx.sync.encoded_digests import encode
from rlx.sync.transfer_group import TransferBroken
from rlx.transport.messages import InitTransfer, Ok, OpenTransfer, TransferFailed, TransferOpened, WeightsSent

if TYPE_CHECKING:
    from torch import Tensor

    from rlx.sync.buckets import Manifest
    from rlx.sync.transfer_group import TransferGroup
    from rlx.torch_private import TCPStore


class Sender:
    """Sends the weights of a policy from its rank 0."""

    def __init__(self, manifest: Manifest, rank: int, backend: str) -> None:
        self.manifest = manifest
        self._sends = rank == 0
        self._backend = backend
        self._store: TCPStore | None = None
        self._group: TransferGroup | None = None

    def open(self, message: OpenTransfer) -> TransferOpened:
        """Leave the previous transfer group, and open (on rank 0) the store at which the next one meets."""
        self.close()
        if not self._sends:
            return TransferOpened(LOOPBACK, 0, self._backend)
        self._store, port = transfer_group.open_store(LOOPBACK, message.world_size, message.timeout_seconds)
        return TransferOpened(LOOPBACK, port, self._backend)

    def join(self, message: InitTransfer) -> Ok | TransferFailed:
        """Join the transfer group; returns when every receiver has joined, or one of them did not."""
        if self._sends:
            try:
                self._group = transfer_group.join(
                    message.host,
                    message.port,
                    message.rank,
                    message.world_size,
                    message.backend,
                    message.timeout_seconds,
                )
            except SyncError as error:
                return TransferFailed(str(error))
        return Ok()

    def send(self, version: int, buckets: Iterator[Iterator[tuple[str, Tensor]]]) -> WeightsSent | TransferFailed:
        """Gather the weights and broadcast them bucket by bucket; all ranks call it.

        Raises SyncError if it was called before `join`, or if a tensor differs from the manifest.
        """
        if not self._sends:
            _gather(buckets)
            return WeightsSent(version)
        if self._group is None:
            raise SyncError("the policy was asked for its weights before it joined a transfer group")
        digests: list[int] = []

        def noted(bucket: Iterator[tuple[str, Tensor]]) -> Iterator[Tensor]:
            # Of the tensor, not of the buffer that is sent: what goes wrong from here on is noticed.
            for _, tensor in bucket:
                digests.append(digest(tensor))
                yield tensor

        try:
            send_buckets(self._group, version, self.manifest, map(noted, buckets))
        except TransferBroken as error:
            self._group = None
            _gather(buckets)
            return TransferFailed(str(error))
        return WeightsSent(version, encode(digests))

    def close(self) -> None:
        """Leave the transfer group."""
        if self._group is not None:
            self._group.close()
        self._group = self._store = None


def _gather(buckets: Iterator[Iterator[tuple[str, Tensor]]]) -> None:
    """Take part in gathering the rest of the weights, which is a collective of all ranks, and drop the tensors."""
    for bucket in buckets:
        for _ in bucket:
            pass
