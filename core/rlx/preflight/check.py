"""Checks of the machine, the engine's parallel layout, dataset rows and the `rlx_configure` hooks."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from rlx.config.schema import Config
from rlx.config.sections.data import RewardConfig
from rlx.datasets.open import open_dataset
from rlx.datasets.view import DatasetView
from rlx.errors import ConfigError, DatasetError, HookError, PluginError, UsageError
from rlx.fingerprint import Fingerprint, Fingerprints
from rlx.names import LOOPBACK
from rlx.packers.loss_mask import dry_run_policy_input
from rlx.packers.open import open_packer
from rlx.packers.prompt import prompt_token_ids
from rlx.packers.protocol import Packer
from rlx.packers.sft_rows import sft_trajectories
from rlx.packers.tokenizer import Tokenizer, load_tokenizer
from rlx.plugins.session import Plugins
from rlx.preflight.model_facts import ModelFacts
from rlx.rewards.bound import accepted_offers
from rlx.rewards.serialization import why_unsendable
from rlx.script.row_order import open_order

TOKENIZED_ROWS = 4
"""Rows that are tokenised as a trial, spread over the dataset, first and last included."""


def check_port(port: int) -> None:
    """Raise UsageError if the controller can't listen on `port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise UsageError(
                f"[run] port = {port}: can't listen there ({error.strerror}). Choose another, or 0 for any free one."
            ) from error


def check_engine_fit(config: Config, facts: ModelFacts) -> None:
    """Raise ConfigError if the engine can't be split this way, or if a completion does not fit the model's context."""
    ways, heads, kv_heads = config.rollout.tensor_parallel, facts.attention_heads, facts.kv_heads
    if heads is not None and kv_heads is not None:
        # All workers get the same number of attention heads, and share or repeat key-value heads evenly.
        possible = [n for n in range(1, heads + 1) if heads % n == 0 and (kv_heads % n == 0 or n % kv_heads == 0)]
        if ways not in possible:
            raise ConfigError(
                f"[rollout] tensor_parallel = {ways} does not divide the model's {heads} attention heads "
                f"({kv_heads} of keys and values). Possible: {', '.join(map(str, possible))}."
            )
    longest, context = config.rollout.max_tokens, config.rollout.vllm.get("max_model_len") or facts.context
    if isinstance(context, int) and 0 < context <= longest:
        raise ConfigError(
            f"[rollout] max_tokens = {longest} leaves no room for a prompt: the model's context is {context} tokens."
        )


def check_quantised(config: Config, facts: ModelFacts) -> None:
    """Raise ConfigError if engines would start with quantised weights, which the policy's can't replace."""
    if facts.quantised:
        raise ConfigError(
            f"[model] path {config.model.path!r} holds quantised weights, by its config.json. Engines that start with "
            "them can't receive the policy's, which aren't quantised. Name a folder with the model in bfloat16; SFT "
            "makes one on export."
        )


def check_rows(config: Config, plugins: Plugins, *, rollouts: bool) -> tuple[Fingerprints, int]:
    """Open the datasets and read a few rows of each, as the run will.

    Returns the datasets' fingerprints, and the number of rows in an epoch, which a launch script's sampler decides.
    """
    tokenizer = load_tokenizer(config.model)
    packer = open_packer(plugins, config.packer, config, tokenizer)
    view = open_dataset(plugins, config.dataset, config, tokenizer)
    order = open_order(plugins, config, view)
    epoch = None if order is None else len(order(0))
    _tokenize_rows(view, packer, tokenizer, rollouts=rollouts, trained=True)
    if rollouts:
        check_sendable(view, [*config.rewards, *config.filter_rewards], plugins)
    data = Fingerprints(view.fingerprint(), _check_eval_rows(config, plugins, packer, tokenizer, rollouts=rollouts))
    return data, data.train.size if epoch is None else epoch


def _check_eval_rows(
    config: Config, plugins: Plugins, packer: Packer, tokenizer: Tokenizer, *, rollouts: bool
) -> Fingerprint | None:
    if config.eval is None:
        return None
    if config.eval.packer is not None:
        packer = open_packer(plugins, config.eval.packer, config, tokenizer, where="[eval.packer]")
    view = open_dataset(plugins, config.eval.dataset, config, tokenizer)
    _tokenize_rows(view, packer, tokenizer, rollouts=rollouts, trained=False)
    if rollouts:
        rewards = config.eval.rewards
        check_sendable(view, [*config.rewards, *config.filter_rewards] if rewards is None else rewards, plugins)
    return view.fingerprint()


def _tokenize_rows(view: DatasetView, packer: Packer, tokenizer: Tokenizer, *, rollouts: bool, trained: bool) -> None:
    for index in view.sample(TOKENIZED_ROWS):
        item, reference, where = view.item(index), view.reference(index), view.where(index)
        if rollouts:
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


def call_configure(config: Config, plugins: Plugins) -> None:
    """Call the `rlx_configure` hooks with the resolved config. Raises PluginError if one fails."""
    try:
        plugins.hooks.rlx_configure(config=config)
    except HookError as error:
        # No process is running yet, so this is an unfit plugin (exit code 2), not a failed run.
        raise PluginError(str(error)) from error
