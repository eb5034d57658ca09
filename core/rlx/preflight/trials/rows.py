"""Open the datasets and packers of a run, and try rows of each, as the run will.

Rules:

* A few rows go through all that a row goes through: packer, loss mask, rewards. More are tokenised, to learn their
  lengths, for about a second; all of them if the user asks for it (`rlx check --data`).
* A row that is read again is the one that was read first, since reading may take long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rlx.config.schema import Config
from rlx.config.sections.data import DatasetConfig, PackerConfig
from rlx.datasets.open import dataset_options, is_factory, open_dataset
from rlx.datasets.view import DatasetView
from rlx.errors import DatasetError, PluginError, UsageError
from rlx.fingerprint import Fingerprint, Fingerprints, digest, fingerprint, spread
from rlx.packers.batches import owner_of
from rlx.packers.chat_template import NoChatTemplate
from rlx.packers.loss_mask import dry_run_policy_input
from rlx.packers.open import open_packer
from rlx.packers.prompt import prompt_token_ids
from rlx.packers.protocol import Packer
from rlx.packers.sft_rows import has_trained_token, sft_trajectories
from rlx.packers.tokenizer import Tokenizer, load_tokenizer
from rlx.plugins.session import Plugins
from rlx.preflight.checks.model_facts import ModelFacts
from rlx.preflight.checks.plugins import PlacedReward, check_dataset
from rlx.preflight.checks.problems import Problems
from rlx.preflight.trials.lengths import (
    BROKEN_ROWS,
    Lengths,
    Limit,
    engine_limit,
    report_bad,
    report_prompts,
    report_sequences,
    sft_limit,
)
from rlx.preflight.trials.progress import Progress
from rlx.preflight.trials.rewards import RewardTrial, TrialRow
from rlx.preflight.trials.scan import Scan, scan
from rlx.rewards.bound import accepted_offers
from rlx.rewards.serialization import why_unsendable
from rlx.script.row_order import open_order

TRIED_ROWS = 4
"""Rows that go through everything, spread over the dataset, first and last included."""
SENT_ROWS = 16
"""Rows that must fit into a message to a reward process."""
MEASURED_ROWS = 64
"""Rows that are tokenised, spread over the dataset."""
MEASURING_SECONDS = 1.0
"""No further row is tokenised after this time, and none is compared between datasets."""
EVAL_TABLE = "[[eval.rewards]]"
OnAllRows = Callable[[str, Scan, Limit | None], None]
"""Called with a dataset's place in the config, all its rows, and the most tokens that one may have."""


@dataclass(frozen=True)
class Rows:
    """The results of the checks of the datasets."""

    fingerprints: Fingerprints | None = None
    """None if a dataset can't be read."""
    epoch: int | None = None
    """Rows of an epoch of training, which a launch script's sampler decides; None if they can't be read."""
    lengths: dict[str, Lengths] = field(default_factory=dict)
    """Lengths of the rows that were tokenised, by the dataset's place in the config."""


class ReadRows:
    """The rows of a dataset, each read once."""

    def __init__(self, view: DatasetView, limit: int | None, progress: Progress) -> None:
        self.view = view
        self.size = min(len(view), limit or len(view))
        """Rows that the run uses."""
        self._progress = progress
        self._read: dict[int, tuple[object, object]] = {}

    def row(self, index: int) -> tuple[object, object]:
        """Return a row and its reference answer. Raises DatasetError."""
        if index not in self._read:
            with self._progress.doing(f"reading {self.view.where(index)}"):
                self._read[index] = self.view.item(index), self.view.reference(index)
        return self._read[index]

    def has(self, index: int) -> bool:
        """Return whether a row has been read."""
        return index in self._read

    def forget(self, index: int) -> None:
        """Free the memory of a row that is not needed again."""
        del self._read[index]


@dataclass(frozen=True)
class Split:
    """Rows to train or to evaluate on, the packer that makes prompts of them, and the rewards that score those."""

    table: str
    """The dataset's place in the config."""
    section: DatasetConfig
    rows: ReadRows
    packer: Packer
    rewards: Sequence[PlacedReward]
    trained: bool

    def where(self, index: int) -> str:
        return self.rows.view.where(index)

    @property
    def drops(self) -> bool:
        """Whether the run drops rows that can't be used."""
        return self.section.on_bad_row == "drop"


@dataclass(frozen=True)
class RowCheck:
    """Opens the datasets and packers of a run and tries rows."""

    config: Config
    plugins: Plugins
    facts: ModelFacts
    problems: Problems
    progress: Progress
    trial: RewardTrial | None
    """None for SFT."""
    on_all_rows: OnAllRows | None = None
    """If given, all rows are tokenised, and this is called with what was found."""

    def check(self, rewards: Sequence[PlacedReward]) -> Rows:
        """Check the datasets and packers; `rewards` are those that can be called."""
        tokenizer = self.problems.attempt(load_tokenizer, self.config.model)
        if tokenizer is None:
            return Rows()
        packer = self._open_packer(self.config.packer, tokenizer, "[packer]")
        own = [placed for placed in rewards if placed.table == EVAL_TABLE]
        others = [placed for placed in rewards if placed.table != EVAL_TABLE]
        train = self._open_split("[dataset]", self.config.dataset, tokenizer, packer, others)
        held_out = None
        if (section := self.config.eval) is not None:
            if section.packer is not None:
                packer = self._open_packer(section.packer, tokenizer, "[eval.packer]")
            scored_by = others if section.rewards is None else own
            held_out = self._open_split("[eval.dataset]", section.dataset, tokenizer, packer, scored_by)
        splits = [split for split in (train, held_out) if split is not None]
        # Made before a packer has seen a row, which it might change.
        prints: dict[str, Fingerprint] = {}
        for split in splits:
            with self.problems.collecting(split.table):
                prints[split.table] = fingerprint(len(split.rows.view), split.rows.row)
        lengths = {split.table: self._try(split, tokenizer) for split in splits if split.table in prints}
        if train is not None and held_out is not None and len(lengths) == len(splits):
            found = self._common_rows(train, held_out)
            if found:
                self.problems.note(
                    f"[eval.dataset] is, or holds, rows of [dataset]: {found}. An evaluation on rows that are trained "
                    "on says little about others."
                )
        first = prints.get("[dataset]")
        return Rows(
            Fingerprints(first, prints.get("[eval.dataset]")) if first is not None else None,
            self.problems.attempt(self._epoch_rows, train.rows.view) if train is not None else None,
            lengths,
        )

    def _open_packer(self, section: PackerConfig, tokenizer: Tokenizer, table: str) -> Packer | None:
        if not self.plugins.has("packers", section.name):
            return None
        with self.problems.collecting(table):
            return open_packer(self.plugins, section, self.config, tokenizer, where=table)
        return None

    def _open_split(
        self,
        table: str,
        section: DatasetConfig,
        tokenizer: Tokenizer,
        packer: Packer | None,
        rewards: Sequence[PlacedReward],
    ) -> Split | None:
        """Open a dataset; None, and a problem, if it can't be used."""
        if not self.plugins.has("datasets", section.name):
            return None
        if not self.problems.passes_at(table, check_dataset, section, self.plugins, f"{table} args"):
            return None
        with self.problems.collecting(table):
            with self.progress.doing(f"opening {table} {section.name!r}"):
                view = open_dataset(self.plugins, section, self.config, tokenizer)
            if packer is None:
                return None
            trained = table == "[dataset]"
            limit = None if trained or self.config.eval is None else self.config.eval.limit
            return Split(table, section, ReadRows(view, limit, self.progress), packer, rewards, trained)
        return None

    def _epoch_rows(self, view: DatasetView) -> int:
        order = open_order(self.plugins, self.config, view)
        return len(view) if order is None else len(order(0))

    def _try(self, split: Split, tokenizer: Tokenizer) -> Lengths:
        """Tokenise rows, try the packer's loss mask and the rewards on some of them, and return the lengths."""
        lengths, tokens, tried = Lengths(split.rows.size), dict[int, int](), []
        lengths.tokens = tokens
        for index in spread(split.rows.size, TRIED_ROWS):
            try:
                item, reference = split.rows.row(index)
                sequences = self._sequences(split, index, tokenizer)
                if self.trial is not None and split.trained:
                    dry_run_policy_input(split.packer, item, sequences[0], tokenizer, where=split.where(index))
            except UsageError as error:
                lengths.bad[index] = error
                if not split.drops:
                    break
                continue
            tokens[index] = max(map(len, sequences))
            tried.append(TrialRow(split.where(index), item, reference, sequences[0]))
        if self.trial is not None and self.problems.passes(check_sendable, split, self.plugins):
            self.trial.call(split.rewards, tried, tokenizer)
        if self.on_all_rows is not None:
            self._scan(split, lengths, tokenizer, self.on_all_rows)
        elif tried and (split.drops or not lengths.bad):
            self._measure(split, lengths, tokens, tokenizer)
        self._report(split, lengths)
        return lengths

    def _sequences(self, split: Split, index: int, tokenizer: Tokenizer) -> list[list[int]]:
        """Return the token ids of a row's prompt (RL), or of its trajectories (SFT). Raises UsageError."""
        item, reference = split.rows.row(index)
        where, packer = split.where(index), split.packer
        try:
            if self.trial is not None:
                sequences = [prompt_token_ids(packer, item, tokenizer, where=where)]
            else:
                trajectories = sft_trajectories(packer, item, reference, tokenizer, where=where)
                if not any(map(has_trained_token, trajectories)):
                    raise DatasetError(f"{where} has no token to train on")
                sequences = [trajectory.tokens for trajectory in trajectories]
        except NoChatTemplate as error:
            factory = self.plugins.load("datasets", split.section.name)
            options = dataset_options(factory).shown() if is_factory(factory) else []
            chat = any(option.name == "chat" for option in options)
            way_out = " The dataset gives text with args = { chat = false }." if chat else ""
            raise UsageError(f"{error}{way_out}") from error
        vocabulary = self.facts.vocabulary
        for token in (token for sequence in sequences for token in sequence):
            if token < 0 or (vocabulary is not None and token >= vocabulary):
                raise PluginError(
                    f"{where}: {owner_of(packer)} made the token id {token}, and the model's vocabulary has "
                    f"{'no negative ids' if vocabulary is None else f'{vocabulary:,} entries, from 0'}. Correct the "
                    "packer, or use the model's own tokenizer."
                )
        return sequences

    def _scan(self, split: Split, lengths: Lengths, tokenizer: Tokenizer, on_all_rows: OnAllRows) -> None:
        """Tokenise all rows. Those of the trial that failed otherwise stay bad."""

        def sequences(index: int) -> list[list[int]]:
            kept = split.rows.has(index)
            try:
                if index in lengths.bad:
                    raise lengths.bad[index]
                return self._sequences(split, index, tokenizer)
            finally:
                if not kept and split.rows.has(index):
                    split.rows.forget(index)

        found = scan(split.rows.size, split.table, sequences, self.progress.say)
        if lengths.tokens:  # else no row of the trial could be used, whatever became of the others here
            lengths.tokens, lengths.bad = found.tokens, found.bad
            lengths.further_bad = found.bad_rows - len(found.bad)
        on_all_rows(split.table, found, self._limit())

    def _limit(self) -> Limit | None:
        """Return the most tokens of a prompt (RL), or of a row (SFT)."""
        if self.trial is None:
            return sft_limit(self.config, self.facts)
        limit = engine_limit(self.config, self.facts)
        return limit and Limit(limit.tokens - 1, limit.named)

    def _measure(self, split: Split, lengths: Lengths, tokens: dict[int, int], tokenizer: Tokenizer) -> None:
        """Tokenise further rows, for a while."""
        began, rows = time.monotonic(), split.rows
        with self.progress.doing(f"tokenising the {rows.size:,} rows of {split.table}"):
            for index in spread(rows.size, MEASURED_ROWS):
                slow = time.monotonic() - began > MEASURING_SECONDS
                if slow or (len(lengths.bad) >= BROKEN_ROWS and not split.drops):
                    return
                if index in lengths.tokens or index in lengths.bad:
                    continue
                kept = rows.has(index)
                try:
                    tokens[index] = max(map(len, self._sequences(split, index, tokenizer)))
                except UsageError as error:
                    lengths.bad[index] = error
                if not kept and rows.has(index):
                    rows.forget(index)

    def _report(self, split: Split, lengths: Lengths) -> None:
        config, facts = self.config, self.facts
        report_bad(lengths, self.problems, table=split.table, drop=split.drops)
        if self.trial is None:
            limit = sft_limit(config, facts)
            report_sequences(lengths, limit, self.problems, table=split.table, drop=split.drops)
            return
        key, tokens = "[rollout] max_tokens", config.rollout.max_tokens
        if not split.trained and config.eval is not None and config.eval.max_tokens is not None:
            key, tokens = "[eval] max_tokens", config.eval.max_tokens
        report_prompts(
            lengths, engine_limit(config, facts), tokens, self.problems, table=split.table, key=key, drop=split.drops
        )

    def _common_rows(self, train: Split, held_out: Split) -> str:
        """Return what is both trained and evaluated on; "" if nothing was found.

        Rows of the same number are compared, counted from the first and from the last: files are split at an end.
        """
        if (train.section.name, train.section.args) == (held_out.section.name, held_out.section.args):
            return "the same dataset"
        began, equal, compared = time.monotonic(), 0, 0
        size, ahead = len(train.rows.view), len(train.rows.view) - len(held_out.rows.view)
        for index in spread(held_out.rows.size, TRIED_ROWS**2):
            for other in {index, ahead + index}:
                if not 0 <= other < size or time.monotonic() - began > MEASURING_SECONDS:
                    continue
                try:
                    pair = held_out.rows.row(index), train.rows.row(other)
                except DatasetError:
                    return ""  # reported when the row was tried, or the first thing that a run would report
                compared += 1
                equal += digest(list(pair[0])) == digest(list(pair[1]))
        return f"{equal} of {compared} rows compared are equal" if equal else ""


def check_sendable(split: Split, plugins: Plugins) -> None:
    """Raise DatasetError if a row can't be sent to the reward processes.

    The row's reference answer is sent, and its item if a reward takes it as `example`.
    """
    rewards = [placed.reward.name for placed in split.rewards]
    takes_item = any("example" in accepted_offers(plugins.load("rewards", name)) for name in rewards)
    for index in spread(split.rows.size, SENT_ROWS):
        try:
            item, reference = split.rows.row(index)
        except DatasetError:
            if split.drops:
                continue
            raise
        if found := why_unsendable({"reference": reference, **({"item": item} if takes_item else {})}):
            raise DatasetError(f"{split.table}: {split.where(index)}: {found}.")
