"""Checks whether a model supports the run's `[policy.parallel]`.

Rule: a setting that the model doesn't support is refused with the reason, by `rlx check` and by every rank before it
reads any weight. It is never replaced by another setting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlx.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rlx.config.sections.policy import PolicyConfig
    from rlx.policy.model.adapters import ModelAdapter
    from rlx.policy.model.forward import PolicyModel


def check_parallel(adapter: ModelAdapter, config: PolicyConfig) -> None:
    """Raise ConfigError if ranks can't share the model as the config says."""
    reason = None
    if sharing := _row_sharing(config):
        packs = config.packing and config.attention is None
        reason = adapter.packing_refusal() if packs else "[policy] packing = false or attention is set"
        reason = reason and f"{sharing} needs packed rows, and {reason}"
    reason = reason or adapter.parallel_refusal(config.parallel)
    if reason is not None:
        raise ConfigError(f"[policy.parallel] does not fit the model: {reason}.")


def check_packing(model: PolicyModel, config: PolicyConfig, findings: Sequence[str]) -> None:
    """Raise ConfigError if ranks are to share rows, but the self-check, with these findings, ruled out packing."""
    sharing = _row_sharing(config)
    if sharing and not model.packing:
        raise ConfigError(f"[policy.parallel] {sharing} needs packed rows, and for this model {'; '.join(findings)}.")


def _row_sharing(config: PolicyConfig) -> str | None:
    """Return the settings by which ranks share rows, or None."""
    used = [f"{name} = {config.parallel.sizes[name]}" for name in ("cp", "pp") if config.parallel.sizes[name] > 1]
    return " with ".join(used) or None
