"""Make and set up the packer that a config names."""

from __future__ import annotations

from rlx.config.schema import Config
from rlx.config.sections.data import PackerConfig
from rlx.errors import attribute
from rlx.packers.protocol import Packer
from rlx.packers.tokenizer import Tokenizer
from rlx.plugins.session import Plugins


def open_packer(
    plugins: Plugins, section: PackerConfig, config: Config, tokenizer: Tokenizer, *, where: str = "[packer]"
) -> Packer:
    """Make the packer and call its `setup`. `where` is the section's place in the config.

    Raises ConfigError if the section's `args` do not fit, and PluginError if the packer raises.
    """
    packer: Packer = plugins.make("packers", section.name, section.args, where=f"{where} args")
    with attribute(plugins.owner("packers", section.name), "its setup"):
        packer.setup(config, tokenizer)
    return packer
