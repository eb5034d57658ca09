"""The packer that a section of the config names, ready for use in this process."""

from __future__ import annotations

from typing import Any

from rlx.config.schema import Config
from rlx.config.sections.data import PackerConfig
from rlx.errors import attribute
from rlx.plugins.session import Plugins


def open_packer(
    plugins: Plugins, section: PackerConfig, config: Config, tokenizer: Any, *, where: str = "[packer]"
) -> Any:
    """Make the packer and call its `setup`. `where` is the section's place in the config.

    Raises ConfigError if the section's `args` do not fit, and PluginError for whatever the packer raises.
    """
    packer = plugins.make("packers", section.name, section.args, where=f"{where} args")
    with attribute(plugins.owner("packers", section.name), "its setup"):
        packer.setup(config, tokenizer)
    return packer
