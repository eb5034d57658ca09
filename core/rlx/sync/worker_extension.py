"""Methods that rlx adds to vLLM's worker class (`worker_extension_cls`); a replica calls them on every worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from rlx.sync.receiver import TorchWeightTransferEngine


class WorkerExtension:
    """Mixed into the worker by vLLM."""

    weight_transfer_engine: TorchWeightTransferEngine
    """Set by vLLM."""

    def rlx_seed(self, seed: int) -> None:
        """Seed the generators that sampling draws from. All workers need the same seed, since each samples itself."""
        from vllm.utils.torch_utils import set_random_seed

        set_random_seed(seed)

    def rlx_abandon_update(self) -> None:
        """End a weight update that failed on this worker or on another one, so that a new one can start."""
        self.weight_transfer_engine.abandon_weight_update()
        self._weight_update_active = False

    def rlx_weight_proof(self) -> bytes:
        """Return this worker's `WeightProof` as MessagePack."""
        return msgspec.msgpack.encode(self.weight_transfer_engine.proof())
