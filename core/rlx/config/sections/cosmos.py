"""Parts of the config that datasets written for cosmos-rl read, under cosmos-rl's names.

They are those of its customisation page: `config.train.train_policy.dataset.name`, `.subset`, `.split`.
docs/migrating-from-cosmos-rl.md has rlx's names of other keys.
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
