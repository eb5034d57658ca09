"""The order of rows given by a launch script's `sampler` or `batch_sampler`.

Rules:

* The order depends on the run's seed and the epoch alone: the random generators of Python, NumPy and torch (as far as
  they are loaded) are seeded before an epoch is drawn, so a sampler that draws from them repeats itself after a resume.
* A batch of a batch sampler is one step: it has `policy.groups_per_step` rows.
* A sampler that raises, or gives something that isn't a row, is reported as the script's.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator
from typing import SupportsIndex

from rlx.config.schema import Config
from rlx.datasets.open import open_dataset
from rlx.datasets.order import EpochOrder, derive_seed, plain_order
from rlx.datasets.view import DatasetView
from rlx.errors import PluginError, attribute
from rlx.plugins.session import Plugins
from rlx.plugins.signature import accepted
from rlx.script.launch_worker import BatchSampler, Sampler, ScriptParts
from rlx.script.plugins import ScriptPlugins


class ScriptOrder:
    """An `EpochOrder` given by the script's samplers."""

    def __init__(self, parts: ScriptParts, view: DatasetView, config: Config, script: str) -> None:
        part = "sampler" if parts.batch_sampler is None else "batch_sampler"
        self._owner = f"The {part} of the launch script {script}"
        self._size = len(view)
        self._seed = config.run.seed
        self._step_rows = config.policy.groups_per_step
        self._epoch_rows: int | None = None
        with attribute(self._owner, "making it"):
            self._sampler = _sampler(parts.sampler, view, config)
            self._batches = _batch_sampler(parts.batch_sampler, view, self._sampler, config)

    def __call__(self, epoch: int) -> list[int]:
        with attribute(self._owner, f"epoch {epoch}"):
            _seed_all(derive_seed(self._seed, "sampler", epoch))
            for sampler in (self._sampler, self._batches):
                if (set_epoch := getattr(sampler, "set_epoch", None)) is not None:
                    set_epoch(epoch + 1)
            drawn = list(self._sampler) if self._batches is None else self._rows_of_batches(self._batches)
        rows: list[int] = []
        for row in drawn:
            if not isinstance(row, SupportsIndex) or not 0 <= row.__index__() < self._size:
                raise PluginError(
                    f"{self._owner} gave {row!r:.80}, which isn't a row of a dataset of {self._size} rows."
                )
            rows.append(int(row.__index__()))
        self._epoch_rows = len(rows) if self._epoch_rows is None else self._epoch_rows
        if not rows or len(rows) != self._epoch_rows:
            raise PluginError(
                f"{self._owner} gave {len(rows)} rows for epoch {epoch}, and {self._epoch_rows} for the first one. "
                "Every epoch must have the same number of rows, and at least one."
            )
        return rows

    def _rows_of_batches(self, batches: Iterable[Iterable[object]]) -> list[object]:
        rows: list[object] = []
        for batch in map(list, batches):
            if len(batch) != self._step_rows:
                raise PluginError(
                    f"{self._owner}: a batch has {len(batch)} rows, and a step [policy] groups_per_step = "
                    f"{self._step_rows}. They must be equal; leave out a last, smaller batch (drop_last)."
                )
            rows += batch
        return rows


class PlainSampler:
    """rlx's own order as a sampler, for a batch sampler that draws from one."""

    def __init__(self, order: EpochOrder) -> None:
        self._order = order
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch - 1

    def __iter__(self) -> Iterator[int]:
        return iter(self._order(self._epoch))

    def __len__(self) -> int:
        return len(self._order(self._epoch))


def open_order(plugins: Plugins, config: Config, view: DatasetView | None = None) -> EpochOrder | None:
    """Return the order given by the script's samplers; None if the run has no script, or one without samplers.

    view: the training dataset, if this process has it open; else it is opened if the samplers need it.
    """
    source = plugins.script
    if not isinstance(source, ScriptPlugins) or not {"sampler", "batch_sampler"} & set(source.script.record.given):
        return None
    if view is None:
        from rlx.packers.tokenizer import load_tokenizer

        view = open_dataset(plugins, config.dataset, config, load_tokenizer(config.model))
    return ScriptOrder(source.script.parts, view, config, source.script.record.target)


def _sampler(given: Sampler | None, view: DatasetView, config: Config) -> Iterable[object]:
    shuffle = config.dataset.shuffle
    if given is None:
        return PlainSampler(plain_order(len(view), seed=config.run.seed, shuffle=shuffle))
    if not callable(given):
        return given
    offered = {"num_replicas": 1, "rank": 0, "shuffle": shuffle, "drop_last": False}
    return given(view.source, **accepted(given, offered))


def _batch_sampler(
    given: BatchSampler | None, view: DatasetView, sampler: Iterable[object], config: Config
) -> Iterable[Iterable[object]] | None:
    if given is None or not callable(given):
        return given
    offered = {
        "dataset": view.source,
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
    """Seed the random generators that a sampler may draw from, without importing any."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
