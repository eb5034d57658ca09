"""Checks of the port, the engine's parallel layout, quantised weights and the `rlx_configure` hooks."""

from __future__ import annotations

import socket

from rlx.config.schema import Config
from rlx.errors import ConfigError, HookError, PluginError, UsageError
from rlx.names import LOOPBACK
from rlx.plugins.session import Plugins
from rlx.preflight.checks.model_facts import ModelFacts


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


def check_tensor_parallel(config: Config, facts: ModelFacts) -> None:
    """Raise ConfigError if the engine can't be split this way."""
    ways, heads, kv_heads = config.rollout.tensor_parallel, facts.attention_heads, facts.kv_heads
    if heads is not None and kv_heads is not None:
        # All workers get the same number of attention heads, and share or repeat key-value heads evenly.
        possible = [n for n in range(1, heads + 1) if heads % n == 0 and (kv_heads % n == 0 or n % kv_heads == 0)]
        if ways not in possible:
            raise ConfigError(
                f"[rollout] tensor_parallel = {ways} does not divide the model's {heads} attention heads "
                f"({kv_heads} of keys and values). Possible: {', '.join(map(str, possible))}."
            )


def check_quantised(config: Config, facts: ModelFacts) -> None:
    """Raise ConfigError if engines would start with quantised weights, which the policy's can't replace."""
    if facts.quantised:
        raise ConfigError(
            f"[model] path {config.model.path!r} holds quantised weights, by its config.json. Engines that start with "
            "them can't receive the policy's, which aren't quantised. Name a folder with the model in bfloat16; SFT "
            "makes one on export."
        )


def call_configure(config: Config, plugins: Plugins) -> None:
    """Call the `rlx_configure` hooks with the resolved config. Raises PluginError if one fails."""
    try:
        plugins.hooks.rlx_configure(config=config)
    except HookError as error:
        # No process is running yet, so this is an unfit plugin (exit code 2), not a failed run.
        raise PluginError(str(error)) from error
