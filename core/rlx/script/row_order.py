"""The order of rows where a launch script gives a `sampler` or a `batch_sampler`.

The rules of this part:

* It depends on the run's seed and the epoch alone: the random generators of Python, NumPy and torch (as far as they are
  loaded) are seeded before an epoch is drawn, so a sampler that draws from them repeats itself after a resume.
* A batch of a batch sampler is one step: as many rows as `policy.groups_per_step`.
* What a sampler raises, or gives that is no row, is reported as the script's.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from typing import Any

from rlx.config.schema import Config
from rlx.datasets.open import open_dataset
from rlx.datasets.order import EpochOrder, derive_seed, plain_order
from rlx.datasets.view import DatasetView
from rlx.errors import PluginError, attribute
from rlx.plugins.session import Plugins
from rlx.plugins.signature import accepted
from rlx.script.launch_worker import ScriptParts
from rlx.script.plugins import ScriptPlugins


class ScriptOrder:
    """An `EpochOrder` by the script's samplers."""

    def __init__(self, parts: ScriptParts, view: DatasetView, config: Config, script: str) -> None:
        self._script = script
        self._size = len(view)
        self._seed = config.run.seed
        self._step = config.policy.groups_per_step
        self._length: int | None = None
        owner = f"The sampler of the launch script {script}"
        with attribute(owner, "making it"):
            self._sampler = _sampler(parts.sampler, view.source, config)
            self._batches = _batch_sampler(parts.batch_sampler, view.source, self._sampler, config)

    def __call__(self, epoch: int) -> list[int]:
        with attribute(f"The sampler of the launch script {self._script}", f"epoch {epoch}"):
            _seed_all(derive_seed(self._seed, "sampler", epoch))
            for sampler in (self._sampler, self._batches):
                if hasattr(sampler, "set_epoch"):
                    sampler.set_epoch(epoch + 1)
            rows = self._flat() if self._batches is not None else list(self._sampler)
        return self._checked([self._row(row) for row in rows], epoch)

    def _flat(self) -> list[Any]:
        batches = [list(batch) for batch in self._batches]
        wrong = [len(batch) for batch in batches if len(batch) != self._step]
        if wrong:
            raise PluginError(
                f"{self._owner}: a batch has {wrong[0]} rows, and a step [policy] groups_per_step = {self._step}. "
                "They must be equal; leave out a last, smaller batch (drop_last)."
            )
        return [row for batch in batches for row in batch]

    def _row(self, row: Any) -> int:
        if not hasattr(row, "__index__") or not 0 <= row.__index__() < self._size:
            raise PluginError(f"{self._owner} gave {row!r:.80}, which is no row of a dataset of {self._size} rows.")
        return int(row.__index__())

    def _checked(self, rows: list[int], epoch: int) -> list[int]:
        self._length = len(rows) if self._length is None else self._length
        if not rows or len(rows) != self._length:
            raise PluginError(
                f"{self._owner} gave {len(rows)} rows for epoch {epoch}, and {self._length} for the first one. Every "
                "epoch must have as many, and at least one."
            )
        return rows

    @property
    def _owner(self) -> str:
        return f"The {'sampler' if self._batches is None else 'batch_sampler'} of the launch script {self._script}"


class PlainSampler:
    """rlx's own order, for a batch sampler that wants a sampler to draw from."""

    def __init__(self, order: EpochOrder) -> None:
        self._order = order
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch - 1

    def __iter__(self) -> Iterator[int]:
        return iter(self._order(self._epoch))

    def __len__(self) -> int:
        return len(self._order(self._epoch))


def open_order(plugins: Plugins, config: Config) -> EpochOrder | None:
    """None where the run has no script, or one that leaves the order to rlx."""
    source = plugins.script
    if not isinstance(source, ScriptPlugins) or not {"sampler", "batch_sampler"} & set(source.script.record.given):
        return None
    from rlx.packers.tokenizer import load_tokenizer

    view = open_dataset(plugins, config.dataset, config, load_tokenizer(config.model))
    return ScriptOrder(source.script.parts, view, config, source.script.record.target)


def _sampler(given: Any, dataset: Any, config: Config) -> Any:
    shuffle = config.dataset.shuffle
    if given is None:
        return PlainSampler(plain_order(len(dataset), seed=config.run.seed, shuffle=shuffle))
    if not callable(given):
        return given
    offered = {"num_replicas": 1, "rank": 0, "shuffle": shuffle, "drop_last": False}
    return given(dataset, **accepted(given, offered))


def _batch_sampler(given: Any, dataset: Any, sampler: Any, config: Config) -> Any:
    if given is None or not callable(given):
        return given
    offered = {
        "dataset": dataset,
        "num_replicas": 1,
        "rank": 0,
        "num_workers": 0,
        "config": config,
        "sampler": sampler,
        "batch_size": config.policy.groups_per_step,
        "drop_last": True,
    }
    return given(**accepted(given, offered))


def _seed_all(seed: int) -> None:
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
