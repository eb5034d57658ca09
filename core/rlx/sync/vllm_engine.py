"""The entry point that every process of a vLLM engine calls first: registers rlx's weight-transfer engine, allows AMX.

vLLM calls `register` from the `vllm.general_plugins` entry point, in the front end, the engine core and each worker. It
must be cheap and may be called twice; the receiver's module is imported only by a worker that uses it.
"""

from __future__ import annotations

BACKEND = "rlx_torch"
"""Name of the weight-transfer engine in vLLM's `weight_transfer_config`."""


def register() -> None:
    """Register the weight-transfer engine with vLLM, and request AMX from the kernel."""
    import torch

    # Linux grants a process AMX tiles only on request, and kills it at its first tile instruction otherwise. vLLM's
    # bfloat16 attention uses tiles on any processor that has them, without the request. oneDNN makes the request, but
    # only for a matrix large enough for tiles, which a small model doesn't have. No effect without AMX.
    torch.cpu._init_amx()  # noqa: SLF001 - torch has no public name for it

    from vllm.distributed.weight_transfer import WeightTransferEngineFactory

    if BACKEND not in WeightTransferEngineFactory._registry:  # noqa: SLF001 - registering twice is an error there
        WeightTransferEngineFactory.register_engine(BACKEND, "rlx.sync.receiver", "TorchWeightTransferEngine")
