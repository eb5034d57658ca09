"""What every process of a vLLM engine does first: it learns of rlx's weight-transfer engine, and may use AMX.

vLLM calls `register` from the `vllm.general_plugins` entry point, in the front end, the engine core and each worker. It
must be cheap and may be called twice: it hands over a name, and the module is imported by the worker that uses it.
"""

from __future__ import annotations

BACKEND = "rlx_torch"
"""What `weight_transfer_config` calls the engine."""


def register() -> None:
    _allow_amx()
    from vllm.distributed.weight_transfer import WeightTransferEngineFactory

    if BACKEND not in WeightTransferEngineFactory._registry:  # noqa: SLF001 - registering twice is an error there
        WeightTransferEngineFactory.register_engine(BACKEND, "rlx.sync.receiver", "TorchWeightTransferEngine")


def _allow_amx() -> None:
    """Linux grants a process AMX tiles on request only, and kills it at its first tile instruction otherwise. vLLM's
    bfloat16 attention uses tiles wherever the processor has them, without the request; oneDNN makes it, but not before
    a matrix large enough for tiles, which a small model has none of. Without AMX nothing happens.
    """
    import torch

    torch.cpu._init_amx()  # noqa: SLF001 - there is no public name
