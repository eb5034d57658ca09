"""Metrics as text, as the console shows them."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise

from rlx.loggers.base import RunStatus
from rlx.terminal import visible

WINDOW_SECONDS = 30.0
"""Tokens per second are means over the steps of this time: groups count in the step in which they arrive."""
_FIRST = ("accuracy", "reward", "loss", "perplexity", "completion/length_mean", "completion/truncated")
_LAST = ("completions", "dropped", "seconds")
_BLOCKS, _ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-=*#"


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


class Throughput:
    """Tokens per second of generating and of training, over the steps of the last WINDOW_SECONDS."""

    def __init__(self) -> None:
        self._steps: deque[Mapping[str, float]] = deque()

    def smoothed(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Add a step; return its metrics, with the rates of the window in place of its own."""
        self._steps.append(metrics)
        while len(self._steps) > 1 and sum(step.get("time/step", 0.0) for step in self._steps) > WINDOW_SECONDS:
            self._steps.popleft()
        rates = {}
        for name, seconds in (("tokens/generated_per_s", "time/generate"), ("tokens/trained_per_s", "time/train")):
            if name in metrics and seconds in metrics:
                total = sum(step.get(seconds, 0.0) for step in self._steps)
                tokens = sum(step.get(name, 0.0) * step.get(seconds, 0.0) for step in self._steps)
                rates[name] = tokens / total if total > 0 else 0.0
        return {**metrics, **rates}


def labelled_metrics(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return label and text of the metrics of one line for each step, as far as the run has them."""
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
        ("mismatch", "mismatch/kl", format_number(get("mismatch/kl"), ".1e")),
        ("sync", "sync/logprob_diff", format_number(get("sync/logprob_diff"), ".1e")),
        ("tokens/s", "tokens/trained_per_s", f"{generated} generated, {trained} trained"),
        ("busy", "time/generate_busy", f"{generating} generating, {training} training"),
    ]
    return [(label, text) for label, name, text in rows if name in metrics]


def more_metrics(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return label and text of the metrics that a display shows if it has room."""
    get = metrics.get
    truncated = f"{format_percent(get('completion/truncated'))} truncated"
    rows = [
        ("length", "completion/length_mean", f"{format_number(get('completion/length_mean'))} tokens, {truncated}"),
        ("entropy", "entropy", format_number(get("entropy"))),
        ("KL", "kl/reference", format_number(get("kl/reference"))),
        ("grad norm", "grad_norm", format_number(get("grad_norm"))),
        ("no signal", "groups/zero_std", f"{format_percent(get('groups/zero_std'))} of groups"),
        ("epoch", "epoch", format_number(get("epoch"))),
    ]
    return [(label, text) for label, name, text in rows if name in metrics]


def step_line(step: int, steps: int, metrics: Mapping[str, float], seconds_left: float | None) -> str:
    """Format one step as one line. `step` counts from 0, as in files; the line counts the steps that are done."""
    parts = [f"step {step + 1}/{steps}", *(f"{label} {text}" for label, text in labelled_metrics(metrics))]
    parts.append(f"{format_number(metrics.get('time/step'), '.2f')} s")
    if seconds_left is not None:
        parts.append(f"{format_seconds(seconds_left)} left")
    return " | ".join(parts)


def eval_line(version: int, metrics: Mapping[str, float]) -> str:
    """Format an evaluation of version `version` as one line, the most important metrics first.

    The versions that sampled its tokens are left out if they are all `version`.
    """
    if {metrics.get("eval/version_min", version), metrics.get("eval/version_max", version)} == {version}:
        metrics = {name: value for name, value in metrics.items() if not name.startswith("eval/version_")}
    names = sorted((name.removeprefix("eval/") for name in metrics if name.startswith("eval/")), key=_importance)
    shown = [f"{visible(name)} {format_number(metrics[f'eval/{name}'])}" for name in names]
    return " | ".join([f"evaluation after {version} steps", *shown])


def _importance(name: str) -> tuple[int, str]:
    if name in _FIRST:
        return _FIRST.index(name), ""
    return len(_FIRST) + (1 + _LAST.index(name) if name in _LAST else 0), name


def status_line(status: RunStatus) -> str:
    waiting = f": {visible(status.waiting_for)}" if status.waiting_for else ""
    return f"{status.state} after {format_seconds(elapsed(status))}{waiting}"


def elapsed(status: RunStatus) -> float:
    """Return the seconds since the command, or since the run's start if the status has no more."""
    return status.elapsed or status.seconds


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool = False) -> str:
    """Return a curve of at most `width` characters: the lowest block is the smallest value, the highest the largest.

    More values than characters are averaged; values that are not finite are blank.
    """
    blocks = _ASCII_BLOCKS if ascii_only else _BLOCKS
    count = min(width, len(values))
    edges = [index * len(values) // count for index in range(count + 1)] if count > 0 else []
    parts = [[value for value in values[start:end] if math.isfinite(value)] for start, end in pairwise(edges)]
    means = [sum(part) / len(part) if part else None for part in parts]
    known = [mean for mean in means if mean is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    scale = (len(blocks) - 1) / (high - low) if high > low else 0.0
    return "".join(" " if mean is None else blocks[round((mean - low) * scale)] for mean in means)
