"""Makes rlx's weight-transfer engine known to vLLM, in every process of an engine.

vLLM calls `register` from the `vllm.general_plugins` entry point, in the front end, the engine core and each worker. It
must be cheap and may be called twice: it hands over a name, and the module is imported by the worker that uses it.
"""

from __future__ import annotations

BACKEND = "rlx_torch"
"""What `weight_transfer_config` calls the engine."""


def register() -> None:
    from vllm.distributed.weight_transfer import WeightTransferEngineFactory

    if BACKEND not in WeightTransferEngineFactory._registry:  # noqa: SLF001 - registering twice is an error there
        WeightTransferEngineFactory.register_engine(BACKEND, "rlx.sync.receiver", "TorchWeightTransferEngine")
