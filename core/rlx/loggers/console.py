"""Show the run on the screen: a live display on a terminal, one plain line per step everywhere else.

Text from configs, plugins and data is shown verbatim, never read as markup, nor printed raw (`rlx.terminal`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rlx.config.schema import Config
from rlx.loggers.base import RunStatus
from rlx.loggers.text import Pace, eval_line, format_seconds, labelled_metrics, status_line, step_line
from rlx.terminal import visible


class _Screen(Protocol):
    def log(self, step: int, metrics: dict[str, float], kind: str) -> None: ...

    def status(self, status: RunStatus) -> None: ...

    def close(self, outcome: str) -> None: ...


class ConsoleLogger:
    """Shows the run on a `LiveScreen` if the console is a terminal, else as `Lines`."""

    def __init__(self, config: Config, run_dir: Path, steps: int, *, console: Console | None = None) -> None:
        console = console or Console()
        title = f"{config.run.name} in {run_dir}"
        self._screen: _Screen = (
            LiveScreen(console, title, steps) if console.is_terminal else Lines(console, title, steps)
        )

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:
        self._screen.log(step, metrics, kind)

    def status(self, status: RunStatus) -> None:
        self._screen.status(status)

    def close(self, summary: Mapping[str, object]) -> None:
        self._screen.close(str(summary["status"]))


class Lines:
    """Prints one line for each step, each evaluation, and each change of the run's state."""

    def __init__(self, console: Console, title: str, steps: int) -> None:
        self._console = console
        self._steps = steps
        self._pace = Pace()
        self._state = ""
        self._say(title)

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:
        if kind == "eval":
            self._say(eval_line(step, metrics))
            return
        self._pace.step(metrics)
        self._say(step_line(step, self._steps, metrics, self._pace.seconds_left(self._steps - step - 1)))

    def status(self, status: RunStatus) -> None:
        if status.state != self._state:
            self._state = status.state
            self._say(status_line(status))

    def close(self, outcome: str) -> None:
        """Print nothing: the launcher reports the outcome."""

    def _say(self, line: str) -> None:
        self._console.print(Text(visible(line)), soft_wrap=True)


class LiveScreen:
    """A panel that is redrawn in place; other output appears above it."""

    def __init__(self, console: Console, title: str, steps: int) -> None:
        self._title = title
        self._steps = steps
        self._pace = Pace()
        self._metrics: dict[str, float] = {}
        self._status = RunStatus("starting", 0, steps, 0.0, "", {})
        self._live = Live(self._draw(), console=console, auto_refresh=False, transient=False)
        self._live.start()

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:
        self._metrics |= metrics
        if kind == "eval":
            self._live.console.print(Text(visible(eval_line(step, metrics))))
        else:
            self._pace.step(metrics)
        self._refresh()

    def status(self, status: RunStatus) -> None:
        self._status = status
        self._refresh()

    def close(self, outcome: str) -> None:
        """Leave the outcome on the screen, in place of the last wait."""
        self.status(replace(self._status, state=outcome, waiting_for=""))
        self._live.stop()

    def _refresh(self) -> None:
        self._live.update(self._draw(), refresh=True)

    def _draw(self) -> Group:
        status = self._status
        left = self._pace.seconds_left(self._steps - status.step)
        head = f"step {status.step}/{self._steps}  {format_seconds(status.seconds)}"
        head += f"  {format_seconds(left)} left" if left else ""
        table = Table.grid(padding=(0, 2))
        for label, text in labelled_metrics(self._metrics):
            table.add_row(Text(visible(label), style="dim"), Text(visible(text)))
        table.add_row(Text("state", style="dim"), Text(status.state))
        table.add_row(Text("waiting", style="dim"), Text(visible(status.waiting_for or "-")))
        # In a grid, since a bare ProgressBar does not end its line.
        bar = Table.grid()
        bar.add_row(ProgressBar(total=max(self._steps, 1), completed=status.step, width=40))
        return Group(Text(visible(self._title), style="bold"), Text(head), bar, table)
