"""The engine's side of a weight transfer: a weight-transfer engine of vLLM that runs in each of its workers.

Rules:

* vLLM's own loaders put checkpoint tensors in place (fused projections, experts, shards); nothing here knows a model.
* An update that leaves a parameter out is an error, raised before the engine generates again.
* `proof` reads the model itself, and may be called at any time: it vouches for what the engine holds then.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import msgspec
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from rlx.errors import SyncError, abbreviate
from rlx.sync import transfer_group, vllm_reload
from rlx.sync.buckets import Manifest, receive_buckets
from rlx.sync.loaded import LoadedWeights
from rlx.transport.messages import WeightProof

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig, WeightTransferConfig

_MANIFESTS = msgspec.msgpack.Decoder(Manifest)


@dataclass
class InitInfo(WeightTransferInitInfo):  # type: ignore[misc] # mypy doesn't follow vLLM
    """Address of the transfer group, and the manifest of every transfer.

    rank: of the engine's first worker; worker w has rank + w. manifest: a `Manifest` as MessagePack.
    """

    host: str
    port: int
    world_size: int
    rank: int
    backend: str
    timeout_seconds: float
    manifest: bytes


@dataclass
class UpdateInfo(WeightTransferUpdateInfo):  # type: ignore[misc] # mypy doesn't follow vLLM
    """The version of the weights that the policy is about to send."""

    version: int


class TorchWeightTransferEngine(WeightTransferEngine[InitInfo, UpdateInfo]):  # type: ignore[misc] # as above
    """Receives broadcasts of a torch process group and reloads the model layer by layer."""

    init_info_cls = InitInfo
    update_info_cls = UpdateInfo
    supports_draft_weight_update: ClassVar[bool] = False

    def __init__(
        self, config: WeightTransferConfig, vllm_config: VllmConfig, device: torch.device, model: torch.nn.Module
    ) -> None:
        super().__init__(config, vllm_config, device, model)
        self._group: transfer_group.TransferGroup | None = None
        self._manifest: Manifest = []
        self._ties: vllm_reload.Ties | None = None
        self._known_ties = vllm_reload.Ties([])
        self._loaded = LoadedWeights(model)

    def init_transfer_engine(self, init_info: InitInfo) -> None:
        self.shutdown()
        self._manifest = _MANIFESTS.decode(init_info.manifest)
        self._group = transfer_group.join(
            init_info.host,
            init_info.port,
            init_info.rank + self.parallel_config.rank,
            init_info.world_size,
            init_info.backend,
            init_info.timeout_seconds,
        )

    def start_weight_update(self) -> None:
        self._ties = self._known_ties = vllm_reload.find_ties(self.model)
        vllm_reload.reset_expert_kernels(self.model)
        initialize_layerwise_reload(self.model)
        self._loaded.begin()

    def update_weights(self, update_info: dict[str, object]) -> None:
        # The base class synchronises an accelerator afterwards, which a CPU worker lacks. Broadcasts block anyway.
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: UpdateInfo) -> None:
        if self._group is None:
            raise SyncError("weights were announced before the engine joined a transfer group")
        held = vllm_reload.HeldTensors(self.model)
        with ExitStack() as on_failure:
            # The other members wait for this one: they notice now that it has failed, and not at their timeout.
            on_failure.callback(self.shutdown)
            for tensors in receive_buckets(self._group, update_info.version, self._manifest):
                self._loaded.load(update_info.version, tensors, self.model.load_weights)
                held.copy()
            on_failure.pop_all()

    def abandon_weight_update(self) -> None:
        """Make the model ready for another update after one that failed. Until then its weights are of no use."""
        self.shutdown()
        self._loaded.abandon()
        if self._ties is not None:
            vllm_reload.forget_loaded(self.model)
            finalize_layerwise_reload(self.model, self.model_config)
            vllm_reload.refresh_tied_layers(self._ties)
            self._ties = None

    def finish_weight_update(self) -> None:
        assert self._ties is not None, "finish_weight_update before start_weight_update"
        missing = vllm_reload.incomplete_layers(self.model, self._ties)
        finalize_layerwise_reload(self.model, self.model_config)
        self._loaded.end()
        if missing:
            raise SyncError(f"the transfer left out parameters of the engine: {abbreviate(missing)}")
        vllm_reload.refresh_tied_layers(self._ties)
        self._ties = None

    def proof(self) -> WeightProof:
        """Compare what this worker's model holds with the last update that it received."""
        count, rank = self.parallel_config.world_size, self.parallel_config.rank
        names = [meta.name for metas in self._manifest for meta in metas]
        return self._loaded.proof(f"worker {rank} of {count}", names, self._known_ties)

    def shutdown(self) -> None:
        if self._group is not None:
            self._group.close()
            self._group = None
