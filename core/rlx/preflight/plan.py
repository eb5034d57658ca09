"""What `run` is asked to do: a run that has been checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rlx.boot import ScriptRecord
from rlx.config.schema import Config
from rlx.fingerprint import Fingerprints
from rlx.plugins.session import Plugins


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """The config holds, and its plugins are resolved."""

    config: Config
    """With `model.plugin` filled in."""
    base_dir: Path
    """Folder of the config file."""
    plugins: Plugins
    """The launcher's own; its `records` are what plugins.json and every process's boot data hold."""
    rollouts: bool
    """Whether the algorithm learns from samples (RL) or from rows (SFT)."""
    data: Fingerprints | None = None
    """The datasets as the launcher saw them; None where it did not look."""
    script: ScriptRecord | None = None
    """The launch script, for the processes that need something of it."""
