"""`ModelRegistry.register_model`: registers a launch script's models.

    from rlx import ModelRegistry, launch_worker

    if __name__ == "__main__":
        ModelRegistry.register_model(MyModel, MyWeightMapper)
        launch_worker()

Rules:

* The registry holds the models that a script registers until rlx has run the script. It doesn't hold installed plugins,
  or those that a config names.
* A model_type belongs to one model; registering another is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from rlx.errors import PluginError
from rlx.models.plugin import ModelPlugin, WeightMapper, supported_model_types

if TYPE_CHECKING:
    from rlx.models.base_model import BaseModel, HFConfig


class ModelRegistry:
    """The models that this process's launch script registered."""

    _models: ClassVar[dict[str, tuple[type[BaseModel], ModelPlugin]]] = {}

    @classmethod
    def register_model(
        cls,
        model_cls: type[BaseModel],
        weight_mapper_cls: Callable[[HFConfig], WeightMapper],
        data_packer_cls: Callable[..., object] | None = None,
    ) -> None:
        """Use this model, mapper and (if given) packer for each of `model_cls.supported_model_types()`.

        Raises PluginError if a model_type is taken.
        """
        plugin = ModelPlugin.of(model_cls, weight_mapper_cls, data_packer_cls)
        for model_type in supported_model_types(model_cls):
            taken = cls._models.get(model_type)
            if taken is not None:
                raise PluginError(
                    f"ModelRegistry: model_type {model_type!r} is registered twice, by {_qualified(taken[0])} and by "
                    f"{_qualified(model_cls)}. Register one of them."
                )
            cls._models[model_type] = (model_cls, plugin)

    @classmethod
    def plugins(cls) -> dict[str, ModelPlugin]:
        """Return the registered plugins by `model_type`."""
        return {model_type: plugin for model_type, (_, plugin) in cls._models.items()}

    @classmethod
    def clear(cls) -> None:
        """Remove all models."""
        cls._models.clear()


def _qualified(model: type[BaseModel]) -> str:
    return f"{model.__module__}.{model.__qualname__}"
