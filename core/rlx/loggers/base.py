"""The contract of a logger: a class (entry-point group `rlx.loggers`) that gets every step's metrics.

Loggers run in the launcher's process. Each is made in its main thread, and called in a thread of its own, one method at
a time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

READY = "is ready"
"""The activity of a process that has started."""


@dataclass(frozen=True)
class RunStatus:
    """The state of a run at one moment."""

    state: str
    """`starting`, `running`, `draining` ..."""
    step: int
    """Optimizer steps done."""
    steps: int
    """Steps of the whole run."""
    seconds: float
    """Seconds since the start."""
    waiting_for: str
    """The event that the controller waits for; empty if it doesn't wait."""
    metrics: dict[str, float]
    """Metrics of the last step."""
    processes: dict[str, str] = field(default_factory=dict)
    """While the run starts: name of a process -> its activity (`loads the weights`); empty afterwards."""
    elapsed: float = 0.0
    """Seconds since the command was given."""


@dataclass(frozen=True)
class Sample:
    """One completion, for people to read. Texts are those of the model and the dataset: they may hold anything."""

    prompt: str
    completion: str
    reward: float | None
    """Total reward; None if it was not scored."""
    rewards: dict[str, float | None] = field(default_factory=dict)
    """Value of each reward, by its label."""
    reference: str | None = None
    """The row's reference answer: text as it is, anything else as JSON; None if the row has none."""
    group_id: int = 0
    """Completions of one prompt share it; in an evaluation, the row of the evaluation dataset."""
    dataset_index: int = 0
    """Row of the dataset."""


class Logger(Protocol):
    """Made once, as `cls(config, run_dir, steps)`."""

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:
        """Take the metrics of a step (`kind` is `train`) or of an evaluation (`eval`)."""

    def close(self, summary: Mapping[str, object]) -> None:
        """Finish, once, at the run's end. `summary` is the content of summary.json."""


@runtime_checkable
class SampleLogger(Logger, Protocol):
    """A logger that also takes completions: one that has a `log_samples` method."""

    def log_samples(self, step: int, samples: Sequence[Sample], kind: str) -> None:
        """Take up to 8 completions of one prompt, before the `log` of the same step or evaluation.

        The prompt is the first one of the step whose completions have different rewards; if there is none, the first.
        Texts are at most 4,000 characters long: their middle is left out. `step` and `kind` are as in `log`.
        """


@runtime_checkable
class RevisingLogger(Logger, Protocol):
    """A logger that learns when a run goes back to a checkpoint: one that has a `went_back` method."""

    def went_back(self, step: int, evaluated: Collection[int]) -> None:
        """Forget the metrics of the steps from `step` on, and of evaluations of versions other than `evaluated`.

        The policy was restarted from the checkpoint of `step`, and these steps follow once more.
        """


@runtime_checkable
class LiveLogger(Logger, Protocol):
    """A logger that also follows the state of the run: one that has a `status` method."""

    def status(self, status: RunStatus) -> None:
        """Take the run's state, a few times a second."""
