"""From boot data to a worker: what a rank is made of.

The rule of this part: all ranks make the same things in the same order, since building is full of collectives.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch
from torch.distributed.tensor import DTensor

from rlx.datasets.open import open_dataset
from rlx.errors import RunError
from rlx.fingerprint import Fingerprints, differences, mismatch_message
from rlx.models.plugin import torch_dtype
from rlx.models.run_model import model_plugin
from rlx.packers.open import open_packer
from rlx.packers.tokenizer import load_tokenizer
from rlx.platform import PLATFORMS
from rlx.policy.build import build_policy, freeze
from rlx.policy.model.built import Built
from rlx.policy.parallel.pipeline import stage_parameters
from rlx.policy.train.optimizer import Optimizer
from rlx.policy.train.sft_data import SFTRows
from rlx.policy.train.trainer import Trainer
from rlx.policy.weights import checkpoint
from rlx.policy.weights.full_weights import Gatherer
from rlx.policy.weights.hf_folder import load_config, model_folder
from rlx.policy.worker import Worker
from rlx.sync.buckets import manifest_of
from rlx.sync.sender import Sender

if TYPE_CHECKING:
    from torch import nn

    from rlx.algorithms.base import Algorithm
    from rlx.boot import Boot
    from rlx.config.schema import Config
    from rlx.config.sections.data import DatasetConfig, PackerConfig
    from rlx.plugins.session import Plugins
    from rlx.policy.parallel.mesh import Ranks


def make_worker(boot: Boot, config: Config, plugins: Plugins, world: Ranks) -> Worker:
    """Build, load and (where the run goes on) restore the policy. All ranks call it."""
    torch.manual_seed(config.run.seed * world.data_size + world.data_rank)
    algorithm: Algorithm = plugins.make("algorithms", config.algorithm.name, config.algorithm.args)
    built = _build(config, plugins, world)
    plugins.hooks.rlx_model_built(model=built.network)
    # After the hook: it may have frozen parameters.
    optimizer = Optimizer(_shards(built), config.policy.optimizer, config.run.steps, built.stage, built.tied)
    reference = freeze(_build(config, plugins, world)).model if algorithm.needs_reference else None
    trainer = Trainer(world, built.model, optimizer, algorithm, config.policy, reference=reference)
    if boot.resume_from is not None:
        trainer.step = checkpoint.load(Path(boot.resume_from) / "policy", world, built.network, optimizer)
    rows, eval_rows = (None, None) if boot.rollouts else _feeds(config, plugins, built)
    data = None if rows is None else _fingerprints(rows, eval_rows, world)
    gatherer = Gatherer(built, torch_dtype(config.rollout.dtype or config.policy.dtype))
    return Worker(
        world=world,
        model=config.model,
        built=built,
        optimizer=optimizer,
        trainer=trainer,
        gatherer=gatherer,
        sender=Sender(manifest_of(gatherer.shapes()), world.rank, PLATFORMS[config.run.device].collectives),
        rows=rows,
        eval_rows=eval_rows,
        data=data,
    )


def _shards(built: Built) -> dict[str, nn.Parameter]:
    """What this rank trains. Gathered tensors get no gradient, and would stay as they are without a word."""
    parameters = stage_parameters(built.network)
    gathered = [name for name, parameter in parameters.items() if not isinstance(parameter, DTensor)]
    if gathered:
        raise RunError(f"the policy's {', '.join(gathered)} would not be trained: not sharded. Does a hook forward it?")
    return parameters


def _build(config: Config, plugins: Plugins, world: Ranks) -> Built:
    # One rank fetches from the Hub; the others find it fetched.
    if world.rank == 0:
        model_folder(config.model)
    world.barrier()
    folder = model_folder(config.model)
    # First, since its module may make a config class of its own known to transformers.
    plugin = model_plugin(plugins)
    hf_config = load_config(config.model, folder)
    return build_policy(plugin, hf_config, folder, world, config.policy, config.rollout.temperature)


def _feeds(config: Config, plugins: Plugins, built: Built) -> tuple[SFTRows, SFTRows | None]:
    tokenizer = load_tokenizer(config.model)
    longest = config.policy.max_sequence_tokens or getattr(built.hf_config, "max_position_embeddings", None)

    def feed(dataset: DatasetConfig, packer: PackerConfig) -> SFTRows:
        view = open_dataset(plugins, dataset, config, tokenizer)
        return SFTRows(view, open_packer(plugins, packer, config, tokenizer), tokenizer, longest)

    held_out = config.eval
    return feed(config.dataset, config.packer), (
        feed(held_out.dataset, held_out.packer or config.packer) if held_out is not None else None
    )


def _fingerprints(rows: SFTRows, eval_rows: SFTRows | None, world: Ranks) -> Fingerprints:
    """Of the datasets. Raises RunError, on all ranks, where ranks do not see the same."""
    mine = Fingerprints(rows.fingerprint(), None if eval_rows is None else eval_rows.fingerprint())
    ranks = [
        msgspec.msgpack.decode(data, type=Fingerprints) for data in world.gather_bytes(msgspec.msgpack.encode(mine))
    ]
    for rank, other in enumerate(ranks):
        if found := differences(ranks[0], other):
            raise RunError(mismatch_message(f"policy ranks 0 and {rank}", found))
    return mine
