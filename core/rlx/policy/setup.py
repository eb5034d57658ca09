"""Builds a rank's worker from the boot data.

Rule: all ranks build the same objects in the same order, since building runs collectives.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch
from torch.distributed.tensor import DTensor

from rlx.algorithms.make import make_algorithm
from rlx.datasets.open import open_dataset
from rlx.errors import RunError
from rlx.fingerprint import Fingerprints, differences, mismatch_message
from rlx.models.plugin import torch_dtype
from rlx.models.rope import rope_limit
from rlx.models.select import model_plugin
from rlx.packers.open import open_packer
from rlx.packers.tokenizer import load_tokenizer
from rlx.platform import PLATFORMS
from rlx.policy.build import build_policy, freeze
from rlx.policy.model.built import Built
from rlx.policy.parallel.mesh import rendezvous_store
from rlx.policy.parallel.pipeline import stage_parameters
from rlx.policy.train.optimizer import Optimizer
from rlx.policy.train.sft_data import SFTRows
from rlx.policy.train.trainer import Trainer
from rlx.policy.weights import checkpoint
from rlx.policy.weights.full_weights import FullWeights
from rlx.policy.weights.hf_folder import load_hf_config, model_folder
from rlx.policy.weights.staging import Staging
from rlx.policy.weights.writer import Writer, Written
from rlx.policy.worker import Worker
from rlx.sync.buckets import manifest_of
from rlx.sync.sender import Sender

if TYPE_CHECKING:
    from torch import nn

    from rlx.boot import Boot
    from rlx.config.schema import Config
    from rlx.config.sections.data import DatasetConfig, PackerConfig
    from rlx.plugins.session import Plugins
    from rlx.policy.parallel.mesh import Ranks


def make_worker(
    boot: Boot,
    config: Config,
    plugins: Plugins,
    ranks: Ranks,
    doing: Callable[[str], None] = lambda _: None,
    report: Callable[[int, Written], None] = lambda _step, _written: None,
) -> Worker:
    """Build the policy, load its weights and (in a resumed run) its checkpoint. All ranks call it.

    `doing` is called with each activity as it begins, for the display: `loads the weights`. `report` is called on rank
    0, by a thread, when a checkpoint is written: see `Writer`.
    """
    torch.manual_seed(config.run.seed * ranks.data_size + ranks.data_rank)
    algorithm = make_algorithm(plugins, config)
    doing("builds the model and loads its weights")
    built = _build(config, plugins, ranks)
    if plugins.enabled_hooks.implementing("rlx_model_built"):
        doing("calls the hooks rlx_model_built")
    plugins.hooks.rlx_model_built(model=built.network)
    # After the hook: it may have frozen parameters.
    optimizer = Optimizer(_trainable(built), config.policy.optimizer, config.run.steps, built.stage, built.tied)
    reference = None
    if algorithm.needs_reference:
        doing("builds the reference model and loads its weights")
        reference = freeze(_build(config, plugins, ranks)).model
    trainer = Trainer(ranks, built.model, optimizer, algorithm, config.policy, reference=reference)
    if boot.resume_from is not None:
        doing(f"loads the checkpoint {Path(boot.resume_from).name}")
        trainer.step = checkpoint.load(Path(boot.resume_from) / "policy", ranks, built.network, optimizer)
    rows = eval_rows = fingerprints = None
    if not boot.rollouts:
        doing("opens the dataset")
        rows, eval_rows = _open_rows(config, plugins, built)
        fingerprints = _fingerprints(rows, eval_rows, ranks)
    weights = FullWeights(built, torch_dtype(config.rollout.dtype or config.policy.dtype))
    return Worker(
        ranks=ranks,
        model=config.model,
        built=built,
        optimizer=optimizer,
        trainer=trainer,
        weights=weights,
        sender=Sender(manifest_of(weights.meta_buckets()), ranks.rank, PLATFORMS[config.run.device].collectives),
        writer=Writer(ranks, Staging(ranks, built, optimizer), rendezvous_store, report),
        rows=rows,
        eval_rows=eval_rows,
        fingerprints=fingerprints,
    )


def _trainable(built: Built) -> dict[str, nn.Parameter]:
    """Return the parameters of this rank's stage.

    Raises RunError if one isn't sharded: a gathered parameter gets no gradient, and would silently stay as it is.
    """
    parameters = stage_parameters(built.network)
    gathered = [name for name, parameter in parameters.items() if not isinstance(parameter, DTensor)]
    if gathered:
        raise RunError(
            f"the policy's {', '.join(gathered)} would not be trained, since FSDP has not resharded them. "
            "Does an rlx_model_built hook run the model's forward?"
        )
    return parameters


def _build(config: Config, plugins: Plugins, ranks: Ranks) -> Built:
    # Rank 0 downloads from the Hub; the others then find the snapshot.
    if ranks.rank == 0:
        model_folder(config.model)
    ranks.barrier()
    folder = model_folder(config.model)
    # Before the config: the plugin's module may register a config class of its own with transformers.
    plugin = model_plugin(plugins)
    hf_config = load_hf_config(config.model, folder)
    return build_policy(plugin, hf_config, folder, ranks, config.policy, config.rollout.temperature)


def _open_rows(config: Config, plugins: Plugins, built: Built) -> tuple[SFTRows, SFTRows | None]:
    """Open the training dataset, and the evaluation dataset if the config has one."""
    tokenizer = load_tokenizer(config.model)
    limit = rope_limit(built.hf_config)
    context = getattr(built.hf_config, "max_position_embeddings", None) if limit is None else limit.tokens
    max_tokens = config.policy.max_sequence_tokens or context

    def open_rows(dataset: DatasetConfig, packer: PackerConfig, where: str) -> SFTRows:
        view = open_dataset(plugins, dataset, config, tokenizer)
        made = open_packer(plugins, packer, config, tokenizer, where=where)
        return SFTRows(view, made, tokenizer, max_tokens, drop=dataset.on_bad_row == "drop")

    rows = open_rows(config.dataset, config.packer, "[packer]")
    if config.eval is None:
        return rows, None
    if config.eval.packer is None:
        return rows, open_rows(config.eval.dataset, config.packer, "[packer]")
    return rows, open_rows(config.eval.dataset, config.eval.packer, "[eval.packer]")


def _fingerprints(rows: SFTRows, eval_rows: SFTRows | None, ranks: Ranks) -> Fingerprints:
    """Return the datasets' fingerprints. Raises RunError, on all ranks, if ranks see different datasets."""
    own = Fingerprints(rows.fingerprint(), None if eval_rows is None else eval_rows.fingerprint())
    gathered = ranks.gather_bytes(msgspec.msgpack.encode(own))
    first, *others = [msgspec.msgpack.decode(data, type=Fingerprints) for data in gathered]
    for rank, other in enumerate(others, start=1):
        if found := differences(first, other):
            raise RunError(mismatch_message(f"policy ranks 0 and {rank}", found))
    return own
