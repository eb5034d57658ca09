"""Selects the model plugin of a run."""

from __future__ import annotations

from rlx.errors import PluginError
from rlx.models.plugin import ModelPlugin
from rlx.plugins.session import Plugins

DEFAULT_MODEL_PLUGIN = "hf"
"""The plugin for models that no other plugin supports."""


def model_plugin(plugins: Plugins) -> ModelPlugin:
    """Return the model plugin that the config names. Raises PluginError if that component isn't a ModelPlugin."""
    (name,) = plugins.names("models")
    plugin = plugins.load("models", name)
    if not isinstance(plugin, ModelPlugin):
        raise PluginError(f"{plugins.owner('models', name)} is a {type(plugin).__name__}, not an rlx.ModelPlugin.")
    return plugin
