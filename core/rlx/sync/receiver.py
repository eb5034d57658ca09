"""The engine's end of a weight transfer, run inside each vLLM worker.

The rules of this part:

* vLLM's own loaders put checkpoint tensors in place (fused projections, experts, shards); nothing here knows a model.
* An update that left a parameter out is an error before the engine generates again, not a surprise afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from rlx.errors import SyncError, some
from rlx.sync import transfer_group as wire
from rlx.sync import vllm_reload as reload
from rlx.transport.messages import TensorMeta

_BUCKETS = msgspec.msgpack.Decoder(list[list[TensorMeta]])


@dataclass
class InitInfo(WeightTransferInitInfo):  # type: ignore[misc]
    """Where the transfer group meets, and what every transfer brings. `rank` is that of the engine's first worker;
    worker w takes rank + w. `plan`: the manifest's buckets (list[list[TensorMeta]]) as MessagePack.
    """

    host: str
    port: int
    world_size: int
    rank: int
    backend: str
    timeout_seconds: float
    plan: bytes


@dataclass
class UpdateInfo(WeightTransferUpdateInfo):  # type: ignore[misc]
    """What is about to come."""

    version: int


class TorchWeightTransferEngine(WeightTransferEngine[InitInfo, UpdateInfo]):  # type: ignore[misc]
    """Receives broadcasts of a torch process group and reloads the model layer by layer."""

    init_info_cls = InitInfo
    update_info_cls = UpdateInfo
    supports_draft_weight_update: ClassVar[bool] = False

    def __init__(self, config: Any, vllm_config: Any, device: Any, model: Any) -> None:
        super().__init__(config, vllm_config, device, model)
        self._group: wire.TransferGroup | None = None
        self._plan: list[list[TensorMeta]] = []
        self._ties: reload.Ties | None = None

    def init_transfer_engine(self, init_info: InitInfo) -> None:
        self.shutdown()
        self._plan = _BUCKETS.decode(init_info.plan)
        self._group = wire.join(
            init_info.host,
            init_info.port,
            init_info.rank + self.parallel_config.rank,
            init_info.world_size,
            init_info.backend,
            init_info.timeout_seconds,
        )

    def start_weight_update(self) -> None:
        self._ties = reload.find_ties(self.model)
        reload.forget_expert_kernels(self.model)
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        # The base class synchronises an accelerator, which a CPU worker does not have; the wire has waited already.
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: UpdateInfo) -> None:
        if self._group is None:
            raise SyncError("weights were announced before the engine joined a transfer group")
        reloading = reload.Reloading(self.model)
        for tensors in wire.receive_buckets(self._group, update_info.version, self._plan):
            self.model.load_weights(tensors)
            reloading.keep_waiting_tensors()

    def finish_weight_update(self) -> None:
        assert self._ties is not None, "an update is finished that was not started"
        missing = reload.incomplete(self.model, self._ties)
        finalize_layerwise_reload(self.model, self.model_config)
        if missing:
            raise SyncError(f"the transfer left parameters of the engine out: {some(missing)}")
        reload.refresh_tied(self._ties)

    def shutdown(self) -> None:
        if self._group is not None:
            self._group.close()
            self._group = None
