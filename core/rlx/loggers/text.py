"""What the console says of a run: metrics as people read them."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping

from rlx.loggers.base import RunStatus


def number(value: float | None, spec: str = ".3g") -> str:
    """`-` where there is no figure."""
    return "-" if value is None or not math.isfinite(value) else format(value, spec)


def percent(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{100 * value:.0f} %"


def clock(seconds: float) -> str:
    """`12 s`, `3:07`, `1:02:03`."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours}:{minutes:02d}:{whole % 60:02d}"
    return f"{minutes}:{whole % 60:02d}" if minutes else f"{whole} s"


class Pace:
    """Time to the end, from the median of the last steps: one slow step (a checkpoint, an evaluation) does not move
    it.
    """

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=20)

    def step(self, metrics: Mapping[str, float]) -> None:
        if "time/step" in metrics:
            self._recent.append(metrics["time/step"])

    def left(self, steps: int) -> float | None:
        """Seconds for so many steps; None before the first one."""
        return statistics.median(self._recent) * max(steps, 0) if self._recent else None


def pairs(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """Label and figure, of what the run has."""
    get = metrics.get
    busy = f"{percent(get('time/generate_busy'))} generating, {percent(get('time/train_busy'))} training"
    generated, trained = (number(get(f"tokens/{side}_per_s"), ",.0f") for side in ("generated", "trained"))
    rows = [
        ("reward", "reward/mean", number(get("reward/mean"))),
        ("loss", "loss", number(get("loss"))),
        ("accuracy", "eval/accuracy", number(get("eval/accuracy"))),
        ("eval loss", "eval/loss", number(get("eval/loss"))),
        (
            "staleness",
            "staleness/max",
            f"{number(get('staleness/mean'), '.2f')} mean, {number(get('staleness/max'), '.0f')} max",
        ),
        ("mismatch", "sync/logprob_diff", number(get("sync/logprob_diff"), ".1e")),
        ("tokens/s", "tokens/trained_per_s", f"{generated} generated, {trained} trained"),
        ("busy", "time/generate_busy", busy),
    ]
    return [(label, figure) for label, name, figure in rows if name in metrics]


def step_line(step: int, steps: int, metrics: Mapping[str, float], left: float | None) -> str:
    """One step on one line. `step` counts from 0."""
    parts = [f"step {step + 1}/{steps}", *(f"{label} {figure}" for label, figure in pairs(metrics))]
    parts.append(f"{number(metrics.get('time/step'), '.2f')} s")
    if left is not None:
        parts.append(f"{clock(left)} left")
    return " | ".join(parts)


def eval_line(version: int, metrics: Mapping[str, float]) -> str:
    """An evaluation on one line; `version`: after so many steps."""
    shown = [(name.removeprefix("eval/"), metrics[name]) for name in sorted(metrics) if name.startswith("eval/")]
    return f"evaluation after {version} steps | " + " | ".join(f"{name} {number(value)}" for name, value in shown)


def status_line(status: RunStatus) -> str:
    waiting = f": {status.waiting_for}" if status.waiting_for else ""
    return f"{status.state} after {clock(status.seconds)}{waiting}"
