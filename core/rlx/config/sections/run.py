"""`[run]`: name, length, output folder and processes of a run."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

from pydantic import Field

from rlx.config.sections.base import MANY_STEPS, Seconds, Section

PATIENCE = 12
"""A run fails if nothing moves for this many times `run.stall_seconds`; so do a hook and a logger that take longer."""


class RunConfig(Section):
    """Name, length, output folder and processes of a run."""

    REASONS: ClassVar[Mapping[tuple[str, str], str]] = MappingProxyType(
        {
            ("name", "max_length"): "it names a folder",
            ("heartbeat_seconds", "ge"): "processes send a heartbeat every 2 s",
        }
    )

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)
    """Names the run directory and the TensorBoard run."""
    steps: int = Field(100, ge=0, le=MANY_STEPS)
    """Optimizer updates. 0 evaluates and exports only."""
    epochs: float | None = Field(None, gt=0, le=1e6)
    """In place of `steps`: passes over the training dataset, in whole steps (the last one is filled up with rows of the
    next pass)."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Every random choice of the run comes from it: data order, sampling, initialisation."""
    dir: str = Field("runs", min_length=1)
    """Run directories are made below this folder, relative to where `rlx run` is called."""
    resume: Literal["auto"] | None = None
    """`"auto"`: go on from the newest checkpoint of `dir`/`name`, or start there if there is none, like
    `rlx run --resume auto`."""
    mode: Literal["disaggregated"] = "disaggregated"
    """Engines and policy in processes (and on devices) of their own."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Device that policy and engines compute on."""
    launcher: str = "local"
    """The `rlx.launchers` plugin that starts the processes."""
    loggers: list[str] = ["console", "jsonl", "tensorboard"]
    """`rlx.loggers` plugins that get every step's metrics."""
    stall_seconds: Seconds = 300.0
    """If nothing has progressed for this long, report which stage waits for what."""
    start_seconds: Seconds = 600.0
    """Longest time for engines and policy to start."""
    heartbeat_seconds: float = Field(60.0, ge=3, le=1e9)
    """A process that was silent for this long is considered dead."""
    port: int = Field(0, ge=0, le=65535)
    """The controller's port on the loopback interface; 0 takes a free one."""

    @property
    def patience(self) -> float:
        """Longest time for anything that has no limit of its own, in seconds."""
        return PATIENCE * self.stall_seconds
