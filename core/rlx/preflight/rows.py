"""Open the datasets and packers of a run, and try a few rows of each, as the run will."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlx.config.schema import Config
from rlx.config.sections.data import DatasetConfig, PackerConfig, RewardConfig
from rlx.datasets.open import open_dataset
from rlx.datasets.view import DatasetView
from rlx.errors import DatasetError
from rlx.fingerprint import Fingerprint, Fingerprints
from rlx.packers.loss_mask import dry_run_policy_input
from rlx.packers.open import open_packer
from rlx.packers.prompt import prompt_token_ids
from rlx.packers.protocol import Packer
from rlx.packers.sft_rows import sft_trajectories
from rlx.packers.tokenizer import Tokenizer, load_tokenizer
from rlx.plugins.session import Plugins
from rlx.preflight.plugins import PlacedReward, check_dataset
from rlx.preflight.problems import Problems
from rlx.rewards.bound import accepted_offers
from rlx.rewards.serialization import why_unsendable
from rlx.script.row_order import open_order

TOKENIZED_ROWS = 4
"""Rows that are tokenised as a trial, spread over the dataset, first and last included."""


@dataclass(frozen=True)
class Rows:
    """The results of the checks of the datasets."""

    fingerprints: Fingerprints | None = None
    """None if a dataset can't be read."""
    epoch: int | None = None
    """Rows of an epoch of training, which a launch script's sampler decides; None if they can't be read."""


@dataclass(frozen=True)
class Split:
    """Rows to train or to evaluate on, the packer that makes prompts of them, and the rewards that score those."""

    table: str
    """The dataset's place in the config."""
    view: DatasetView
    packer: Packer
    rewards: Sequence[PlacedReward]


def check_rows(
    config: Config, plugins: Plugins, problems: Problems, rewards: Sequence[PlacedReward], *, rollouts: bool
) -> Rows:
    """Open the datasets and try a few rows of each. `rewards` are those that can be called."""
    tokenizer = problems.attempt(load_tokenizer, config.model)
    if tokenizer is None:
        return Rows()
    check = _RowCheck(config, plugins, problems, tokenizer, rollouts)
    packer = check.open_packer(config.packer, "[packer]")
    view = check.open_dataset(config.dataset, "[dataset]")
    epoch = problems.attempt(_epoch_rows, config, plugins, view) if view is not None else None
    own = [placed for placed in rewards if placed.table == "[[eval.rewards]]"]
    train_rewards = [placed for placed in rewards if placed.table != "[[eval.rewards]]"]
    train = held_out = None
    if view is not None and packer is not None:
        train = check.try_rows(Split("[dataset]", view, packer, train_rewards), trained=True)
    if config.eval is not None:
        if config.eval.packer is not None:
            packer = check.open_packer(config.eval.packer, "[eval.packer]")
        view = check.open_dataset(config.eval.dataset, "[eval.dataset]")
        scored_by = train_rewards if config.eval.rewards is None else own
        if view is not None and packer is not None:
            held_out = check.try_rows(Split("[eval.dataset]", view, packer, scored_by), trained=False)
    return Rows(Fingerprints(train, held_out) if train is not None else None, epoch)


def _epoch_rows(config: Config, plugins: Plugins, view: DatasetView) -> int:
    order = open_order(plugins, config, view)
    return len(view) if order is None else len(order(0))


@dataclass(frozen=True)
class _RowCheck:
    """Opens the components that a config names, and tries rows, each with its place in the config."""

    config: Config
    plugins: Plugins
    problems: Problems
    tokenizer: Tokenizer
    rollouts: bool

    def open_packer(self, section: PackerConfig, table: str) -> Packer | None:
        """Return the packer; None, and a problem, if it can't be made."""
        if not self.plugins.has("packers", section.name):
            return None
        return self.problems.attempt(open_packer, self.plugins, section, self.config, self.tokenizer, where=table)

    def open_dataset(self, section: DatasetConfig, table: str) -> DatasetView | None:
        """Return the dataset; None, and a problem, if it can't be opened."""
        if not self.plugins.has("datasets", section.name):
            return None
        if not self.problems.passes(check_dataset, section, self.plugins, f"{table} args"):
            return None
        with self.problems.collecting(table):
            return open_dataset(self.plugins, section, self.config, self.tokenizer)
        return None

    def try_rows(self, split: Split, *, trained: bool) -> Fingerprint | None:
        """Tokenise a few rows, check that their references can be sent, and return the dataset's fingerprint."""
        with self.problems.collecting(split.table):
            for index in split.view.sample(TOKENIZED_ROWS):
                self._tokenize(split, index, trained=trained)
        if self.rollouts:
            with self.problems.collecting(split.table):
                check_sendable(split.view, [placed.reward for placed in split.rewards], self.plugins)
        with self.problems.collecting(split.table):
            return split.view.fingerprint()
        return None

    def _tokenize(self, split: Split, index: int, *, trained: bool) -> None:
        view, packer, tokenizer = split.view, split.packer, self.tokenizer
        item, reference, where = view.item(index), view.reference(index), view.where(index)
        if self.rollouts:
            prompt = prompt_token_ids(packer, item, tokenizer, where=where)
            if trained:
                dry_run_policy_input(packer, item, prompt, tokenizer, where=where)
        else:
            sft_trajectories(packer, item, reference, tokenizer, where=where)


def check_sendable(view: DatasetView, rewards: Sequence[RewardConfig], plugins: Plugins) -> None:
    """Raise DatasetError if a row can't be sent to the reward processes.

    The row's reference answer is sent, and its item if a reward takes it as `example`.
    """
    takes_item = any("example" in accepted_offers(plugins.load("rewards", reward.name)) for reward in rewards)
    for index in view.sample():
        sent = {"reference": view.reference(index), **({"item": view.item(index)} if takes_item else {})}
        if found := why_unsendable(sent):
            raise DatasetError(f"{view.where(index)}: {found}.")
