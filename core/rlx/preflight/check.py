"""Everything that can be found wrong before a process is started: `rlx check`, and the first thing that `rlx run` does.

The rules of this part: what is cheap comes first; nothing is started and nothing is written; each failure is a
UsageError (exit code 2) that names the key or the plugin.

Whether rows reach the rewards, which are in processes of their own: tried before anything is started.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlx.algorithms.make import make_algorithm
from rlx.boot import ScriptRecord
from rlx.config.rules import learning_contradictions
from rlx.config.schema import Config
from rlx.config.sections.data import DatasetConfig, RewardConfig
from rlx.datasets.open import open_dataset
from rlx.datasets.view import DatasetView
from rlx.errors import ConfigError, DatasetError, HookError, PluginError, UsageError
from rlx.fingerprint import Fingerprint, Fingerprints
from rlx.models.select import DEFAULT_MODEL_PLUGIN
from rlx.names import LOOPBACK
from rlx.packers.loss_mask import dry_run_policy_input
from rlx.packers.open import open_packer
from rlx.packers.prompt import prompt_token_ids
from rlx.packers.sft_rows import sft_trajectories
from rlx.platform import PLATFORMS
from rlx.plugins.resolve import model_hint
from rlx.plugins.session import Plugins
from rlx.preflight.engine_args import check_engine_arguments
from rlx.preflight.epochs import with_steps
from rlx.preflight.load import LoadedRun
from rlx.preflight.memory import DevicePlan, MemoryPlan, available_memory, check_memory, plan_devices, plan_memory
from rlx.preflight.model import ModelSize, check_model
from rlx.preflight.model_facts import ModelFacts, model_facts
from rlx.preflight.plugins import Sources, check_components, check_learns
from rlx.rewards.bound import accepted_offers
from rlx.rewards.serialization import why_unsendable
from rlx.script.row_order import open_order

ROWS_READ = 4
"""Rows that are tokenised as a trial, spread over the dataset, first and last included."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that could start, and what was learnt on the way."""

    config: Config
    """With `model.plugin` and `packer.name` filled in, and `run.epochs` in steps."""
    base_dir: Path
    """Folder of the config file."""
    plugins: Plugins
    """The launcher's own; `plugins.records` is what every process loads from."""
    script: ScriptRecord | None
    rollouts: bool
    """Whether the algorithm learns from samples (RL) or from rows (SFT)."""
    notes: tuple[str, ...]
    """What the user should know and what stops nothing."""
    facts: ModelFacts
    size: ModelSize | None
    """None where the model is still on the Hub."""
    memory: MemoryPlan | None
    devices: DevicePlan | None
    available: int
    """Bytes of memory that were free."""
    data: Fingerprints | None
    """Of the datasets; None where there is no tokenizer to read them with."""


def prepare(loaded: LoadedRun) -> Prepared:
    """Check a config completely. Raises UsageError (or one of its kin) with what is wrong."""
    config = loaded.config
    check_port(config.run.port)
    facts = model_facts(config.model)
    sources = Sources.open(config, loaded.base_dir, loaded.script)
    config = _with_model_plugin(config, config.model.plugin or sources.model_plugin(facts.model_type))
    plugins = sources.plugins(config)
    algorithm = make_algorithm(plugins, config)
    rollouts: bool = algorithm.rollouts
    _check_learning(config, plugins, algorithm)
    if rollouts:
        check_engine_arguments(config.rollout.vllm)
        check_parallel(config, facts)
        check_quantised(config, facts)
    needs = {"rollouts": rollouts, "needs_reference": algorithm.needs_reference}
    memory = plan_memory(config, facts, **needs)
    available = available_memory()
    if memory is not None:
        check_memory(memory, available)
    check_components(config, plugins)
    size = check_model(config, plugins, facts)
    config = sources.with_packers(config, plugins)
    plugins = sources.plugins(config)
    blind = facts.only_config and config.model.tokenizer is None
    data = None if blind else _read_rows(config, plugins, rollouts=rollouts)
    config = config if data is None else with_steps(config, _epoch_rows(config, plugins, data))
    _configure(config, plugins)
    return Prepared(
        config=config,
        base_dir=loaded.base_dir,
        plugins=plugins,
        script=loaded.script.record if loaded.script else None,
        rollouts=rollouts,
        notes=tuple(_notes(config, facts, rollouts=rollouts)),
        facts=facts,
        size=size,
        memory=memory,
        devices=plan_devices(config, size, **needs),
        available=available,
        data=data,
    )


def _with_model_plugin(config: Config, name: str) -> Config:
    return config.model_copy(update={"model": config.model.model_copy(update={"plugin": name})})


def check_port(port: int) -> None:
    """Raises UsageError where the controller could not listen."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise UsageError(
                f"[run] port = {port}: can't listen there ({error.strerror}). Choose another, or 0 for any free one."
            ) from error


def _check_learning(config: Config, plugins: Plugins, algorithm: Any) -> None:
    found = learning_contradictions(config, rollouts=algorithm.rollouts)
    if found:
        raise ConfigError("\n".join(found))
    if algorithm.rollouts:
        check_learns(algorithm, config, plugins.owner("algorithms", config.algorithm.name))


def check_parallel(config: Config, facts: ModelFacts) -> None:
    """Raises ConfigError where the engine can't be split so, or a completion would not fit the model."""
    _check_heads(config.rollout.tensor_parallel, facts.attention_heads, facts.kv_heads)
    longest, context = config.rollout.max_tokens, config.rollout.vllm.get("max_model_len") or facts.context
    if isinstance(context, int) and 0 < context <= longest:
        raise ConfigError(
            f"[rollout] max_tokens = {longest} leaves no room for a prompt: the model's context is {context} tokens."
        )


def check_quantised(config: Config, facts: ModelFacts) -> None:
    """Raises ConfigError where engines would start on quantised weights: the trainer's do not fit into those."""
    if facts.quantised:
        raise ConfigError(
            f"[model] path {config.model.path!r} holds quantised weights, by its config.json. Engines started on them "
            "can't take the policy's, which are not. Name a folder with the model in bfloat16; SFT makes one on export."
        )


def _check_heads(ways: int, heads: int | None, kv_heads: int | None) -> None:
    """Each worker gets as many heads as the others; those of keys and values are shared out, or repeated, evenly."""
    if heads is None or kv_heads is None:
        return
    possible = [n for n in range(1, heads + 1) if heads % n == 0 and (kv_heads % n == 0 or n % kv_heads == 0)]
    if ways not in possible:
        raise ConfigError(
            f"[rollout] tensor_parallel = {ways} does not divide the model's {heads} attention heads "
            f"({kv_heads} of keys and values). Possible: {', '.join(map(str, possible))}."
        )


def _read_rows(config: Config, plugins: Plugins, *, rollouts: bool) -> Fingerprints:
    """Opens the datasets and tokenises a few rows of each."""
    from rlx.packers.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(config.model)
    packer = open_packer(plugins, config.packer, config, tokenizer)
    if (order := open_order(plugins, config)) is not None:
        order(0)
    train = _tried(config.dataset, packer, config, plugins, tokenizer, rollouts=rollouts)
    if config.eval is None:
        return Fingerprints(train)
    if config.eval.packer is not None:
        packer = open_packer(plugins, config.eval.packer, config, tokenizer, where="[eval.packer]")
    return Fingerprints(train, _tried(config.eval.dataset, packer, config, plugins, tokenizer, rollouts=rollouts))


def _epoch_rows(config: Config, plugins: Plugins, data: Fingerprints) -> int:
    order = open_order(plugins, config)
    return data.train.size if order is None else len(order(0))


def _tried(
    dataset: DatasetConfig, packer: Any, config: Config, plugins: Plugins, tokenizer: Any, *, rollouts: bool
) -> Fingerprint:
    view = open_dataset(plugins, dataset, config, tokenizer)
    _try_rows(view, packer, tokenizer, rollouts=rollouts, trained=dataset is config.dataset)
    if rollouts:
        own = config.eval.rewards if config.eval is not None and dataset is config.eval.dataset else None
        check_sendable(view, [*config.rewards, *config.filter_rewards] if own is None else own, plugins)
    return view.fingerprint()


def _try_rows(view: DatasetView, packer: Any, tokenizer: Any, *, rollouts: bool, trained: bool) -> None:
    for index in view.sample(ROWS_READ):
        item, reference, where = view.item(index), view.reference(index), view.where(index)
        if rollouts:
            prompt = prompt_token_ids(packer, item, tokenizer, where=where)
            if trained:
                dry_run_policy_input(packer, item, prompt, tokenizer, where=where)
        else:
            sft_trajectories(packer, item, reference, tokenizer, where=where)


def _configure(config: Config, plugins: Plugins) -> None:
    try:
        plugins.hooks.rlx_configure(config=config)
    except HookError as error:
        # Nothing was started yet: to the user this is a plugin that is not fit, not a run that failed.
        raise PluginError(str(error)) from error


def _notes(config: Config, facts: ModelFacts, *, rollouts: bool) -> list[str]:
    ranks = config.policy.parallel.world_size
    engines = config.rollout.replicas * config.rollout.tensor_parallel if rollouts else 0
    cores = os.cpu_count() or 1
    notes = []
    hint = model_hint(facts.model_type)
    if hint is not None and config.model.plugin == DEFAULT_MODEL_PLUGIN:
        notes.append(f"The model is built by transformers. {hint}")
    if facts.only_config:
        notes.append(f"The weights and the tokenizer of {config.model.path} are not here yet: `rlx run` needs them.")
    if PLATFORMS[config.run.device].host_memory and ranks + engines > 2 * cores:
        notes.append(f"{ranks} policy ranks and {engines} engine workers share {cores} cores: expect them to wait.")
    shares = config.policy.parallel.data_size
    if config.policy.groups_per_step < shares:
        notes.append(
            f"[policy] groups_per_step = {config.policy.groups_per_step} is less than {shares} ranks: some idle."
        )
    return notes


def check_sendable(view: DatasetView, rewards: Sequence[RewardConfig], plugins: Plugins) -> None:
    """Raises DatasetError where a reference answer, or an item that a reward takes as `example`, can't be sent."""
    takers = [reward.name for reward in rewards if "example" in accepted_offers(plugins.load("rewards", reward.name))]
    for index in view.sample():
        parts = {"reference": view.reference(index), **({"item": view.item(index)} if takers else {})}
        if found := why_unsendable(parts):
            raise DatasetError(f"{view.where(index)}: {found}.")
