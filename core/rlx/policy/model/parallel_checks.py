"""Which layouts of `[policy.parallel]` a model can have.

The rule of this part: what cannot be computed is refused with its reason, by `rlx check` and by every rank, before any
weight is read. Nothing is computed in another layout than the one that was asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlx.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rlx.config.sections.policy import PolicyConfig
    from rlx.policy.model.adapters import Network
    from rlx.policy.model.forward import PolicyModel


def check_layout(network: Network, config: PolicyConfig) -> None:
    """Raises ConfigError where the network can't be shared by ranks as the config says."""
    reason = _refusal(network, config)
    if reason is not None:
        raise ConfigError(f"[policy.parallel] does not fit the model: {reason}.")


def check_packed(model: PolicyModel, config: PolicyConfig, findings: Sequence[str]) -> None:
    """Raises ConfigError where ranks should share rows, and the model was measured not to allow packed ones."""
    shared = _shared(config)
    if shared and not model.packing:
        raise ConfigError(f"[policy.parallel] {shared} needs packed rows, and for this model {'; '.join(findings)}.")


def _refusal(network: Network, config: PolicyConfig) -> str | None:
    parallel = config.parallel
    if shared := _shared(config):
        packs = config.packing and config.attention is None
        why = network.packing_refusal() if packs else "[policy] packing = false, or an attention of one's own, is set"
        if why is not None:
            return f"{shared} needs packed rows, and {why}"
    return network.parallel_refusal(parallel)


def _shared(config: PolicyConfig) -> str | None:
    """How ranks share rows, if they do."""
    used = [f"{name} = {config.parallel.sizes[name]}" for name in ("cp", "pp") if config.parallel.sizes[name] > 1]
    return " with ".join(used) or None
