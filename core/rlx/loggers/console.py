"""Show the run on the screen: a live display on a terminal, one plain line per step everywhere else.

Text from configs, plugins and data is shown verbatim, never read as markup. Steps are counted as they are done:
`step 12/40` follows the step that files number 11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.text import Text

from rlx.config.schema import Config
from rlx.loggers.base import RunStatus, Sample
from rlx.loggers.live import LiveScreen
from rlx.loggers.text import Pace, Throughput, elapsed, eval_line, status_line, step_line
from rlx.terminal import visible

SECONDS_BETWEEN_LINES = 1.0
"""Of lines about processes that start."""


class _Screen(Protocol):
    def log(self, step: int, metrics: dict[str, float], kind: str) -> None: ...

    def log_samples(self, step: int, samples: Sequence[Sample], kind: str) -> None: ...

    def status(self, status: RunStatus) -> None: ...

    def close(self, outcome: str) -> None: ...


class ConsoleLogger:
    """Shows the run on a `LiveScreen` if the console is a terminal, else as `Lines`."""

    def __init__(self, config: Config, run_dir: Path, steps: int, *, console: Console | None = None) -> None:
        console = console or Console(highlight=False)
        title = f"{config.run.name} in {run_dir}"
        self._screen: _Screen = (
            LiveScreen(console, title, steps) if console.is_terminal else Lines(console, title, steps)
        )

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:
        self._screen.log(step, metrics, kind)

    def log_samples(self, step: int, samples: Sequence[Sample], kind: str) -> None:
        self._screen.log_samples(step, samples, kind)

    def status(self, status: RunStatus) -> None:
        self._screen.status(status)

    def close(self, summary: Mapping[str, object]) -> None:
        self._screen.close(str(summary["status"]))


class Lines:
    """Prints one line for each step, each evaluation, each change of the run's state, and while the run starts."""

    def __init__(self, console: Console, title: str, steps: int) -> None:
        self._console = console
        self._steps = steps
        self._pace = Pace()
        self._throughput = Throughput()
        self._state = ""
        self._doing: dict[str, str] = {}
        self._said_at = float("-inf")
        self._say(title)

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:
        if kind == "eval":
            self._say(eval_line(step, metrics))
            return
        self._pace.step(metrics)
        left = self._pace.seconds_left(self._steps - step - 1)
        self._say(step_line(step, self._steps, self._throughput.smoothed(metrics), left))

    def log_samples(self, step: int, samples: Sequence[Sample], kind: str) -> None:
        """Print nothing: a line for each step leaves no room, and `trajectories/` has every completion."""

    def status(self, status: RunStatus) -> None:
        changed = {name: doing for name, doing in status.processes.items() if self._doing.get(name) != doing}
        new_state = status.state != self._state
        soon = elapsed(status) - self._said_at < SECONDS_BETWEEN_LINES
        if not new_state and (soon or not changed):
            return
        self._state, self._doing, self._said_at = status.state, {**self._doing, **changed}, elapsed(status)
        doing = "; ".join(f"{name} {visible(doing)}" for name, doing in changed.items())
        self._say(f"{status_line(status).partition(': ')[0]}: {doing}" if doing else status_line(status))

    def close(self, outcome: str) -> None:
        """Print nothing: the launcher reports the outcome."""

    def _say(self, line: str) -> None:
        self._console.print(Text(visible(line)), soft_wrap=True)
