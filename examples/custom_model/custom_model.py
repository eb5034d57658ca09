"""Registers the toy model in a launch script, in place of `plugin`: `rlx run --config sft.toml custom_model.py`."""

from __future__ import annotations

from toy_model import ToyMapper, ToyModel

from rlx import ModelRegistry, launch_worker

if __name__ == "__main__":
    # Register the model into the registry
    ModelRegistry.register_model(
        # Model class to register
        ToyModel,
        # Weight mapper for this model
        ToyMapper,
    )

    launch_worker()
