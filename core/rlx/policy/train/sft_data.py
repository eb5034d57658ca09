"""Dataset rows as the episodes that supervised fine-tuning trains on.

Rules:

* A row becomes one group of one episode. Its answers are segments without log-probabilities, since no sampler made
  them.
* Nothing is truncated: a row longer than `policy.max_sequence_tokens` can't be used.
* A row that can't be used is left out and reported, or ends the run: `on_bad_row`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlx.episodes import Episode
from rlx.errors import BadRowError, bad_row
from rlx.packers.sft_rows import has_trained_token, sft_trajectories
from rlx.transport.messages import BadRow

if TYPE_CHECKING:
    from rlx.datasets.view import DatasetView
    from rlx.fingerprint import Fingerprint
    from rlx.packers.protocol import Packer
    from rlx.packers.tokenizer import Tokenizer


class SFTRows:
    """The rows of a dataset, made into episodes by a packer.

    max_tokens: limit on the tokens of a row; None for no limit. drop: whether rows that can't be used are left out.
    """

    def __init__(
        self,
        dataset: DatasetView,
        packer: Packer,
        tokenizer: Tokenizer,
        max_tokens: int | None,
        *,
        drop: bool = True,
    ) -> None:
        self._dataset = dataset
        self._packer = packer
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._drop = drop
        self._ready: dict[int, Episode] = {}
        """Episodes of rows that were read beside bad ones: they are asked for again, with others."""

    def __len__(self) -> int:
        return len(self._dataset)

    def fingerprint(self) -> Fingerprint:
        """Return the dataset's fingerprint."""
        return self._dataset.fingerprint()

    def read(self, rows: Sequence[int]) -> tuple[list[list[Episode]], list[BadRow]]:
        """Return one group for each row that can be used, and the rows that can't be.

        Raises BadRowError for the first of these if they are not to be left out.
        """
        episodes: dict[int, Episode] = {}
        bad: dict[int, BadRow] = {}
        for row in dict.fromkeys(rows):
            try:
                episodes[row] = self._ready.get(row) or self.episode(row)
            except BadRowError as error:
                if not self._drop:
                    raise
                bad[row] = BadRow(row, error.reason, str(error))
        self._ready = episodes if bad else {}
        return [[episodes[row]] for row in rows if row in episodes], list(bad.values())

    def episode(self, row: int) -> Episode:
        """Return the episode of a row. Raises BadRowError that names the row."""
        with bad_row("dataset"):
            where = self._dataset.where(row)
            item, reference = self._dataset.item(row), self._dataset.reference(row)
        with bad_row("packer"):
            trajectories = sft_trajectories(self._packer, item, reference, self._tokenizer, where=where)
        longest = max(map(len, trajectories))
        if self._max_tokens is not None and longest > self._max_tokens:
            raise BadRowError(
                f"{where} has {longest} tokens; the limit is {self._max_tokens}. "
                "Shorten it, or raise policy.max_sequence_tokens if the model can read that much.",
                reason="too_long",
            )
        if not any(map(has_trained_token, trajectories)):
            raise BadRowError(f"{where} has no token to train on", reason="untrained")
        return Episode(group_id=row, sample=0, dataset_index=row, trajectories=trajectories)
