"""One picture of the live display: lines of text for a terminal of a given size.

Rules:

* No line is as long as the terminal is wide: room is left for the `^C` that terminals echo, which would otherwise begin
  a new line and displace the picture.
* There are fewer lines than the terminal has rows; the least important ones are left out first.
* Text from configs, plugins, data and models is shown verbatim (`rlx.terminal.visible`), never read as markup.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.text import Text

from rlx.loggers.base import READY, RunStatus, Sample
from rlx.loggers.text import elapsed, format_number, format_seconds, labelled_metrics, more_metrics, sparkline
from rlx.terminal import visible

ECHO = 4
"""Columns left free for `^C^C`."""
WIDE = 110
"""Columns from which on curves and a completion are shown beside the metrics."""
_LEFT = 52
_LABEL = 11
_BAR = 40
_CURVES = {"reward": "reward/mean", "accuracy": "eval/accuracy", "loss": "loss", "eval loss": "eval/loss"}


@dataclass
class View:
    """The state of the display."""

    title: str
    status: RunStatus
    metrics: dict[str, float] = field(default_factory=dict)
    seconds_left: float | None = None
    history: dict[str, list[float]] = field(default_factory=dict)
    """Metric -> its values so far, for the curves."""
    samples: Sequence[Sample] = ()
    sampled_at: str = ""
    """Where the samples come from: `step 12`, `the evaluation after 10 steps`."""
    since: dict[str, float] = field(default_factory=dict)
    """Process that starts -> seconds since the command at which its activity began."""


def frame(view: View, width: int, height: int, *, ascii_only: bool = False) -> list[Text]:
    """Return the lines of the display for a terminal of `width` columns and `height` rows."""
    room, rows = max(width - ECHO, 8), max(height - 1, 4)
    wide = width >= WIDE
    head = _head(view, room, ascii_only=ascii_only)
    body_rows = rows - len(head)
    body = _rows(view, body_rows, more=wide or body_rows > len(labelled_metrics(view.metrics)) + 8)
    if wide:
        right = _curves(view, room - _LEFT - 2, ascii_only=ascii_only)
        right += _sample(view, room - _LEFT - 2, body_rows - len(right))
        if any(right):
            for line in body:
                _cut(line, _LEFT, ascii_only=ascii_only)
            body += [Text() for _ in right[len(body) :]]
            for line, beside in zip(body, right, strict=False):
                if beside:
                    line.pad_right(_LEFT + 2 - line.cell_len)
                    line.append_text(beside)
    lines = [*head, *body][:rows]
    for line in lines:
        _cut(line, room, ascii_only=ascii_only)
    return lines


def _cut(line: Text, width: int, *, ascii_only: bool) -> None:
    line.truncate(width, overflow="crop" if ascii_only else "ellipsis")


def _head(view: View, room: int, *, ascii_only: bool) -> list[Text]:
    status = view.status
    clock = f"step {status.step}/{status.steps}  {format_seconds(elapsed(status))}"
    clock += f"  {format_seconds(view.seconds_left)} left" if view.seconds_left else ""
    title = visible(view.title).replace("\n", " ")
    if cell_len(title) > room:
        # The end of the path says more than its beginning.
        name, _, path = title.partition(" in ")
        title = f"{name} in ...{path[-max(room - len(name) - 7, 1) :]}"
    length = min(max(_BAR, room if view.history else _BAR), room, 2 * _BAR)
    done = length if status.steps <= 0 else round(length * min(status.step / status.steps, 1.0))
    full, rest = ("=", "-") if ascii_only else ("━", "─")
    bar = Text(full * done, style="bar.complete" if done < length else "bar.finished")
    return [Text(title, style="bold"), Text(clock), bar.append(rest * (length - done), style="bar.back")]


def _rows(view: View, count: int, *, more: bool) -> list[Text]:
    """Return the metrics, the activities of processes that start, and the state, in at most `count` lines."""
    status = view.status
    ends = [("state", status.state), ("waiting", visible(status.waiting_for).replace("\n", " ") or "-")]
    now = elapsed(status)
    starting = [
        (name, visible(doing) + ("" if doing == READY else f", {format_seconds(now - view.since.get(name, 0.0))}"))
        for name, doing in status.processes.items()
    ]
    if starting:
        # These say more than "run waits for policy, rollout-0 to start".
        ends = ends[:1]
    shown = labelled_metrics(view.metrics)
    extra = more_metrics(view.metrics) if more else []
    left = max(count - len(ends), 1)
    pairs = [*starting, *shown, *extra][:left]
    return [Text(f"{label:<{_LABEL}}", style="dim").append(text, style="not dim") for label, text in [*pairs, *ends]]


def _curves(view: View, width: int, *, ascii_only: bool) -> list[Text]:
    lines = []
    for label, name in _CURVES.items():
        values = view.history.get(name, [])
        if len(values) > 1 and not (label == "loss" and "reward/mean" in view.history):
            curve = sparkline(values, max(width - _LABEL - 20, 10), ascii_only=ascii_only)
            ends = f"  {format_number(values[0])} to {format_number(values[-1])}"
            lines.append(Text(f"{label:<{_LABEL}}", style="dim").append(curve, style="not dim cyan").append(ends))
    return lines


def _sample(view: View, width: int, rows: int) -> list[Text]:
    """Return the completion with the highest reward of the newest group, and the prompt, in at most `rows` lines."""
    if not view.samples or rows < 5:
        return []
    best = max(view.samples, key=lambda sample: float("-inf") if sample.reward is None else sample.reward)
    reward = format_number(best.reward)
    wanted = "" if best.reference is None else f", reference {best.reference!r}"
    title = Text(f"a completion of {view.sampled_at}, reward {reward}{wanted}", style="dim")
    prompt = _wrapped(best.prompt, width, max((rows - 3) // 3, 1), from_end=True)
    completion = _wrapped(best.completion, width, rows - 2 - len(prompt), from_end=False)
    return [Text(), title, *prompt, *(Text(line.plain, style="bold") for line in completion)]


def _wrapped(text: str, width: int, rows: int, *, from_end: bool) -> list[Text]:
    """Return at most `rows` lines of a text: its last ones (of a prompt: the question), or its first ones."""
    lines = [
        part
        for line in visible(text).expandtabs(4).split("\n")
        # Half the width: a character of East Asian scripts takes two columns.
        for part in textwrap.wrap(line, width if line.isascii() else max(width // 2, 1), drop_whitespace=False) or [""]
    ]
    if len(lines) > rows:
        lines = ["...", *lines[len(lines) - rows + 1 :]] if from_end else [*lines[: rows - 1], "..."]
    return [Text(line) for line in lines[-rows:]]
