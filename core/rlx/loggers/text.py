"""Metrics as text, as the console shows them."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping

from rlx.loggers.base import RunStatus


def format_number(value: float | None, spec: str = ".3g") -> str:
    """Format a number; `-` if it is missing or not finite."""
    return "-" if value is None or not math.isfinite(value) else format(value, spec)


def format_percent(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{100 * value:.0f} %"


def format_seconds(seconds: float) -> str:
    """Format a duration: `12 s`, `3:07`, `1:02:03`."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours}:{minutes:02d}:{whole % 60:02d}"
    return f"{minutes}:{whole % 60:02d}" if minutes else f"{whole} s"


class Pace:
    """Estimates the time left from the median of the last steps.

    One slow step (a checkpoint, an evaluation) does not change it.
    """

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=20)

    def step(self, metrics: Mapping[str, float]) -> None:
        if "time/step" in metrics:
            self._recent.append(metrics["time/step"])

    def seconds_left(self, steps: int) -> float | None:
        """Return the seconds that `steps` more steps will take; None before the first step."""
        return statistics.median(self._recent) * max(steps, 0) if self._recent else None


def labelled_metrics(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return label and text of the most important metrics, as far as the run has them."""
    get = metrics.get
    generating, training = (format_percent(get(f"time/{side}_busy")) for side in ("generate", "train"))
    generated, trained = (format_number(get(f"tokens/{side}_per_s"), ",.0f") for side in ("generated", "trained"))
    rows = [
        ("reward", "reward/mean", format_number(get("reward/mean"))),
        ("loss", "loss", format_number(get("loss"))),
        ("accuracy", "eval/accuracy", format_number(get("eval/accuracy"))),
        ("eval loss", "eval/loss", format_number(get("eval/loss"))),
        (
            "staleness",
            "staleness/max",
            f"{format_number(get('staleness/mean'), '.2f')} mean, {format_number(get('staleness/max'), '.0f')} max",
        ),
        ("mismatch", "sync/logprob_diff", format_number(get("sync/logprob_diff"), ".1e")),
        ("tokens/s", "tokens/trained_per_s", f"{generated} generated, {trained} trained"),
        ("busy", "time/generate_busy", f"{generating} generating, {training} training"),
    ]
    return [(label, text) for label, name, text in rows if name in metrics]


def step_line(step: int, steps: int, metrics: Mapping[str, float], seconds_left: float | None) -> str:
    """Format one step as one line. `step` counts from 0."""
    parts = [f"step {step + 1}/{steps}", *(f"{label} {text}" for label, text in labelled_metrics(metrics))]
    parts.append(f"{format_number(metrics.get('time/step'), '.2f')} s")
    if seconds_left is not None:
        parts.append(f"{format_seconds(seconds_left)} left")
    return " | ".join(parts)


def eval_line(version: int, metrics: Mapping[str, float]) -> str:
    """Format an evaluation of version `version` as one line."""
    shown = [(name.removeprefix("eval/"), metrics[name]) for name in sorted(metrics) if name.startswith("eval/")]
    return f"evaluation after {version} steps | " + " | ".join(
        f"{name} {format_number(value)}" for name, value in shown
    )


def status_line(status: RunStatus) -> str:
    waiting = f": {status.waiting_for}" if status.waiting_for else ""
    return f"{status.state} after {format_seconds(status.seconds)}{waiting}"
