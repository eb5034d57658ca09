"""The console's display on a terminal: a picture that is redrawn in place; other output appears above it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from rlx.loggers.base import RunStatus, Sample
from rlx.loggers.frame import View, frame
from rlx.loggers.text import Pace, Throughput, elapsed, eval_line

_CURVES = ("reward/mean", "loss", "eval/accuracy", "eval/loss")


class LiveScreen:
    """Draws the run's `View` several times a second."""

    def __init__(self, console: Console, title: str, steps: int) -> None:
        self._steps = steps
        self._pace = Pace()
        self._throughput = Throughput()
        self._view = View(title, RunStatus("starting", 0, steps, 0.0, "", {}))
        self._live = Live(
            _Picture(self._view),
            console=console,
            auto_refresh=False,
            transient=False,
            # Errors that go to a file stay there.
            redirect_stderr=sys.stderr is not None and sys.stderr.isatty(),
        )
        self._live.start()

    def log(self, step: int, metrics: dict[str, float], kind: str) -> None:
        view = self._view
        if kind == "eval":
            self._live.console.print(Text(eval_line(step, metrics)))
        else:
            self._pace.step(metrics)
            metrics = self._throughput.smoothed(metrics)
        view.metrics |= metrics
        for name in _CURVES:
            if name in metrics:
                view.history.setdefault(name, []).append(metrics[name])
        self._live.refresh()

    def log_samples(self, step: int, samples: Sequence[Sample], kind: str) -> None:
        self._view.samples = samples
        self._view.sampled_at = f"the evaluation after {step} steps" if kind == "eval" else f"step {step + 1}"

    def status(self, status: RunStatus) -> None:
        view = self._view
        before = view.status.processes
        for name, doing in status.processes.items():
            if before.get(name) != doing:
                view.since[name] = elapsed(status)
        view.status = status
        view.seconds_left = self._pace.seconds_left(self._steps - status.step)
        self._live.refresh()

    def close(self, outcome: str) -> None:
        """Leave the outcome on the screen, in place of the last wait."""
        self.status(replace(self._view.status, state=outcome, waiting_for="", processes={}))
        self._live.stop()


class _Picture:
    """Renders a view at the size that the terminal has at that moment."""

    def __init__(self, view: View) -> None:
        self._view = view

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ascii_only = options.ascii_only
        yield from frame(self._view, options.size.width, options.size.height, ascii_only=ascii_only)
