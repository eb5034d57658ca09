"""What datasets written for cosmos-rl read of the config, under the names that they have there.

Only what its customisation page shows: `config.train.train_policy.dataset.name`, `.subset`, `.split`. What other keys
are called is in docs/migrating-from-cosmos-rl.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from rlx.config.sections.data import DatasetConfig


@dataclass(frozen=True, slots=True)
class CosmosDataset:
    """`[dataset] name`; subset and split are its `args`."""

    name: str
    subset: Any
    split: Any


@dataclass(frozen=True, slots=True)
class CosmosTrainPolicy:
    dataset: CosmosDataset


@dataclass(frozen=True, slots=True)
class CosmosTrain:
    train_policy: CosmosTrainPolicy

    @classmethod
    def of(cls, dataset: DatasetConfig) -> Self:
        args = dataset.args
        return cls(CosmosTrainPolicy(CosmosDataset(dataset.name, args.get("subset"), args.get("split"))))
