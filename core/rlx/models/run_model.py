"""The model plugin of a run; every process that asks gets the same one."""

from __future__ import annotations

from rlx.errors import PluginError
from rlx.models.plugin import ModelPlugin
from rlx.plugins.session import Plugins

DEFAULT_MODEL_PLUGIN = "hf"
"""What builds models that nothing else claims."""


def model_plugin(plugins: Plugins) -> ModelPlugin:
    """Raises PluginError where what the config names is something else."""
    (name,) = plugins.names("models")
    plugin = plugins.load("models", name)
    if not isinstance(plugin, ModelPlugin):
        raise PluginError(f"{plugins.owner('models', name)} is a {type(plugin).__name__}, not an rlx.ModelPlugin.")
    return plugin
