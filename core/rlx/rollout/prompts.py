"""Turns dataset rows into the token ids that an engine reads."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from rlx.config.schema import Config
from rlx.datasets.open import open_dataset
from rlx.datasets.view import DatasetView
from rlx.errors import BadRowError, bad_row
from rlx.names import PROBE_TOKENS, PROBES
from rlx.packers.open import open_packer
from rlx.packers.prompt import prompt_token_ids
from rlx.packers.protocol import Packer
from rlx.packers.tokenizer import Tokenizer, load_tokenizer
from rlx.plugins.session import Plugins

PROBED_ROWS = 1024
"""Rows that are looked at for probes, if the first ones can't be used."""


@dataclass(frozen=True)
class Prompts:
    """One dataset, with the packer and the tokenizer that turn its rows into prompts."""

    view: DatasetView
    packer: Packer
    tokenizer: Tokenizer

    def __len__(self) -> int:
        return len(self.view)

    def tokens(self, index: int) -> list[int]:
        """Return the prompt of row `index`. Raises BadRowError that names the row."""
        with bad_row("dataset"):
            item, where = self.view.item(index), self.view.where(index)
        with bad_row("packer"):
            return prompt_token_ids(self.packer, item, self.tokenizer, where=where)

    def probes(self) -> list[list[int]]:
        """Return the first 2 to PROBE_TOKENS tokens of the first usable prompts, to verify weights with."""
        heads: list[list[int]] = []
        for index in range(min(PROBED_ROWS, len(self))):
            with suppress(BadRowError):  # it is reported when its turn comes
                heads.append(self.tokens(index)[:PROBE_TOKENS])
            if len(heads) == PROBES:
                break
        return [head for head in heads if len(head) >= 2]


def open_prompts(plugins: Plugins, config: Config) -> tuple[Prompts, Prompts | None]:
    """Open the training dataset, and the evaluation dataset if the config has one."""
    tokenizer = load_tokenizer(config.model)
    packer = open_packer(plugins, config.packer, config, tokenizer)
    train = Prompts(open_dataset(plugins, config.dataset, config, tokenizer), packer, tokenizer)
    if config.eval is None:
        return train, None
    if config.eval.packer is not None:
        packer = open_packer(plugins, config.eval.packer, config, tokenizer, where="[eval.packer]")
    return train, Prompts(open_dataset(plugins, config.eval.dataset, config, tokenizer), packer, tokenizer)
