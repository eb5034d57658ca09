"""Methods that rlx adds to vLLM's worker class (`worker_extension_cls`); a replica calls them on every worker."""

from __future__ import annotations


class WorkerExtension:
    """Mixed into the worker by vLLM."""

    def rlx_seed(self, seed: int) -> None:
        """Seed the generators that sampling draws from. All workers need the same seed, since each samples itself."""
        from vllm.utils.torch_utils import set_random_seed

        set_random_seed(seed)

    def rlx_abandon_update(self) -> None:
        """End a weight update that failed on this worker or on another one, so that a new one can start."""
        self.weight_transfer_engine.abandon_weight_update()  # type: ignore[attr-defined] # of vLLM's worker
        self._weight_update_active = False
