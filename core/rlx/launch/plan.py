"""What a run is, once everything about it was checked: the launcher starts processes from this and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rlx.config.schema import Config
from rlx.plugins.session import Plugins


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """A checked run. `config.model.plugin` is filled in."""

    config: Config
    base_dir: Path
    """Folder of the config file."""
    plugins: Plugins
    """The launcher's own; `plugins.records` is what plugins.json and every process's boot data hold."""
    rollouts: bool
    """Whether the algorithm learns from samples (RL) or from rows (SFT)."""
    run_dir: Path | None = None
    """`--run-dir`; None: a new folder below `[run] dir`."""
    resume: Path | None = None
    """`--resume`: the run directory to go on in."""
    notes: tuple[str, ...] = ()
    """What the user should know and what stops nothing."""
