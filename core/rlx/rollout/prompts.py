"""Dataset rows as an engine reads them."""

from __future__ import annotations

from dataclasses import dataclass

from rlx.datasets.open import DatasetView
from rlx.names import PROBE_TOKENS, PROBES
from rlx.packers.prompt import prompt_token_ids
from rlx.packers.protocol import Packer
from rlx.packers.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompts:
    """One dataset, packed and tokenised."""

    view: DatasetView
    packer: Packer
    tokenizer: Tokenizer

    def __len__(self) -> int:
        return len(self.view)

    def tokens(self, index: int) -> list[int]:
        """What the engine reads for row `index`. Raises DatasetError or PluginError, with the row."""
        return prompt_token_ids(self.packer, self.view.item(index), self.tokenizer, where=self.view.where(index))

    def probes(self) -> list[list[int]]:
        """The beginnings of the first prompts, for the verification of weights: 2 to PROBE_TOKENS tokens each."""
        heads = [self.tokens(index)[:PROBE_TOKENS] for index in range(min(PROBES, len(self)))]
        return [head for head in heads if len(head) >= 2]
