"""Dataset rows as the episodes that supervised fine-tuning trains on.

Rules:

* A row becomes one group of one episode. Its answers are segments without log-probabilities, since no sampler made
  them.
* Nothing is truncated: a row longer than `policy.max_sequence_tokens` is an error that names the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlx.episodes import Episode
from rlx.errors import DatasetError
from rlx.packers.sft_rows import sft_trajectories

if TYPE_CHECKING:
    from rlx.datasets.view import DatasetView
    from rlx.fingerprint import Fingerprint
    from rlx.packers.protocol import Packer
    from rlx.packers.tokenizer import Tokenizer


class SFTRows:
    """The rows of a dataset, made into episodes by a packer.

    max_tokens: limit on the tokens of a row; None for no limit.
    """

    def __init__(self, dataset: DatasetView, packer: Packer, tokenizer: Tokenizer, max_tokens: int | None) -> None:
        self._dataset = dataset
        self._packer = packer
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens

    def __len__(self) -> int:
        return len(self._dataset)

    def fingerprint(self) -> Fingerprint:
        """Return the dataset's fingerprint."""
        return self._dataset.fingerprint()

    def groups(self, rows: Sequence[int]) -> list[list[Episode]]:
        """Return one group for each row."""
        return [[self.episode(row)] for row in rows]

    def episode(self, row: int) -> Episode:
        """Return the episode of a row. Raises DatasetError or PluginError that names the row."""
        where = self._dataset.where(row)
        item, reference = self._dataset.item(row), self._dataset.reference(row)
        trajectories = sft_trajectories(self._packer, item, reference, self._tokenizer, where=where)
        longest = max(map(len, trajectories))
        if self._max_tokens is not None and longest > self._max_tokens:
            raise DatasetError(
                f"{where} has {longest} tokens; the limit is {self._max_tokens}. "
                "Shorten it, or raise policy.max_sequence_tokens if the model can read that much."
            )
        return Episode(group_id=row, sample=0, dataset_index=row, trajectories=trajectories)
