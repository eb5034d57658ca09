"""The live display at several sizes: no line is too wide, the key figures are there, and nothing is left standing."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from rlx import RunStatus, Sample
from rlx.config.schema import Config
from rlx.loggers.console import ConsoleLogger
from rlx.loggers.frame import ECHO, View, frame

METRICS = {
    "reward/mean": 0.8125, "loss": -0.12, "eval/accuracy": 0.7, "staleness/mean": 0.5, "staleness/max": 1.0,
    "mismatch/kl": 1.8e-3, "sync/logprob_diff": 9.1e-7, "tokens/generated_per_s": 12345.6,
    "tokens/trained_per_s": 678.9, "time/generate_busy": 0.6, "time/train_busy": 0.35, "entropy": 1.25,
    "grad_norm": 0.5, "completion/length_mean": 31.5, "completion/truncated": 0.25, "kl/reference": 0.002,
    "groups/zero_std": 0.4, "time/step": 2.0,
}  # fmt: skip
COMPLETION = "<think>7 times 6 is 42.\n\x1b[31mred\x1b[0m\u202e</think>\n" + "The answer is 42, since " * 40
SAMPLES = [
    Sample("user: What is 6*7?\n", "I don't know", 0.0),
    Sample("user: " + "a long question " * 30 + "What is 6*7?\n", COMPLETION, 1.0, {"exact": 1.0}, "42"),
    Sample("user: What is 6*7?", "?", None),
]
SIZES = [(140, 40), (200, 60), (110, 24), (109, 24), (80, 24), (50, 12), (30, 8), (10, 4), (300, 10)]


def view(**fields):
    status = RunStatus(
        "running", 12, 40, 63.0, "policy waits for groups of step 12; oldest 3 s in 'judge'", {}, {}, 65.0
    )
    history = {"reward/mean": [0.1 * step for step in range(9)], "eval/accuracy": [0.5, 0.7], "loss": [1.0, 0.5]}
    values = {"status": status, "metrics": METRICS, "seconds_left": 90.0, "history": history, "samples": SAMPLES}
    return View("first in /home/me/" + "deep/" * 40 + "runs/first", **{**values, "sampled_at": "step 12", **fields})


def lines(size, **fields):
    return [line.plain for line in frame(view(**fields), *size)]


@pytest.mark.parametrize("size", SIZES, ids="{0[0]}x{0[1]}".format)
@pytest.mark.parametrize("ascii_only", [False, True])
def test_no_line_is_as_wide_as_the_terminal_and_there_are_fewer_lines_than_rows(size, ascii_only):
    shown = frame(view(), *size, ascii_only=ascii_only)
    assert max(line.cell_len for line in shown) <= max(size[0] - ECHO, 8)
    assert len(shown) <= max(size[1] - 1, 4)
    assert not [line.plain for line in shown if not line.plain.isprintable()]
    if ascii_only:
        assert all(line.plain.isascii() for line in shown)


@pytest.mark.parametrize("size", [(140, 40), (80, 24), (50, 12)], ids="{0[0]}x{0[1]}".format)
def test_the_key_figures_are_shown_at_every_size(size):
    text = "\n".join(lines(size))
    for part in (
        "first in ",
        "runs/first",
        "step 12/40  1:05  1:30 left",
        "0.812",
        "running",
        "policy waits for groups",
    ):
        assert part in text


def test_figures_of_the_verification_and_of_the_mismatch_have_their_own_names():
    found = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in lines((80, 24))[3:])
    assert (found["mismatch"], found["sync"]) == ("1.8e-03", "9.1e-07")


def test_a_wide_terminal_has_curves_and_the_best_completion():
    text = "\n".join(lines((140, 40)))
    assert re.search(r"reward +▁▂▃▄▅▅▆▇█  0 to 0.8", text) or re.search(r"reward +▁[▂-▇]+█  0 to 0.8", text)
    assert re.search(r"accuracy +▁█  0.5 to 0.7", text)
    assert "a completion of step 12, reward 1, reference '42'" in text
    assert "What is 6*7?" in text
    assert r"\x1b[31mred\x1b[0m\u202e</think>" in text
    assert "entropy    1.25" in text
    assert "I don't know" not in text


def test_a_run_that_starts_shows_what_each_process_does_and_for_how_long():
    processes = {"policy": "loads the weights", "rollout-0": "starts vLLM \x1b[2J"}
    status = RunStatus("starting", 12, 40, 0.0, "run waits for policy, rollout-0 to start", {}, processes, 14.0)
    shown = lines((80, 24), status=status, metrics={}, history={}, samples=(), seconds_left=None, since={"policy": 8.0})
    assert shown[1] == "step 12/40  14 s"
    assert shown[3:] == [
        "policy     loads the weights, 6 s",
        r"rollout-0  starts vLLM \x1b[2J, 14 s",
        "state      starting",
    ]


def test_an_empty_or_odd_view_is_drawn():
    status = RunStatus("starting", 0, 0, 0.0, "", {})
    assert lines((80, 24), status=status, metrics={}, history={}, samples=(), seconds_left=None)[3:] == [
        "state      starting",
        "waiting    -",
    ]
    odd = [Sample("", "", None), Sample("日本語" * 100, "日本語\t" * 100, float("nan"))]
    assert max(line.cell_len for line in frame(view(samples=odd), 140, 40)) <= 136


class Terminal:
    """A terminal that knows the few controls that the display uses; a slow, obvious reference."""

    def __init__(self, width):
        self.width, self.lines, self.row, self.column = width, [""], 0, 0

    def feed(self, text):
        for control, char in re.findall(r"\x1b\[([?\d;]*[A-Za-z])|([\s\S])", text):
            if control.endswith("A"):
                self.row = max(self.row - int(control[:-1] or 1), 0)
            elif control == "2K":
                self.lines[self.row] = ""
            elif char == "\r":
                self.column = 0
            elif char == "\n":
                self._next_row()
            elif char:
                self._put(char)

    def _put(self, char):
        if self.column == self.width:
            self._next_row()
        line = self.lines[self.row].ljust(self.column)
        self.lines[self.row] = line[: self.column] + char + line[self.column + 1 :]
        self.column += 1

    def _next_row(self):
        self.row, self.column = self.row + 1, 0
        if self.row == len(self.lines):
            self.lines.append("")


@pytest.mark.parametrize("wait", ["short", "policy waits for groups of step 12; " * 5])
def test_an_echoed_ctrl_c_leaves_no_second_title(tmp_path, wait):
    config = Config.model_validate({"model": {"path": "m"}, "dataset": {"name": "d"}, "run": {"name": "job"}})
    terminal, out = Terminal(80), io.StringIO()
    console = Console(file=out, force_terminal=True, color_system=None, width=80, height=24)
    logger = ConsoleLogger(config, tmp_path, 40, console=console)

    def show(*, echo=""):
        terminal.feed(out.getvalue() + echo)
        out.seek(0)
        out.truncate()

    for step in range(3):
        logger.status(RunStatus("running", step, 40, 1.0, wait, {}))
        logger.log(step, METRICS, "train")
        show(echo="^C" if step == 1 else "")
    console.print("draining: finishing the step")
    logger.close({"status": "stopped"})
    show()
    assert sum(line.startswith("job in ") for line in terminal.lines) == 1
    assert [line for line in terminal.lines if line.startswith("draining")]
    assert sum(line.startswith("step ") for line in terminal.lines) == 1
