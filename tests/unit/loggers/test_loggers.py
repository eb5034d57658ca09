from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from rlx import RunStatus
from rlx.config.schema import Config
from rlx.loggers.console import ConsoleLogger
from rlx.loggers.jsonl import JsonlLogger
from rlx.loggers.tensorboard import TensorBoardLogger
from rlx.loggers.text import Pace, format_seconds, labelled_metrics

STEP = {
    "reward/mean": 0.5,
    "loss": float("nan"),
    "time/step": 2.0,
    "sync/logprob_diff": 1.5e-7,
    "tokens/generated_per_s": 12345.6,
    "tokens/trained_per_s": 678.9,
    "time/generate_busy": 0.6,
    "time/train_busy": 0.35,
}


@pytest.fixture
def config() -> Config:
    return Config.model_validate({"model": {"path": "m"}, "dataset": {"name": "d"}, "run": {"name": "job"}})


def test_jsonl_is_flushed_per_line_and_is_valid_json(config, tmp_path):
    logger = JsonlLogger(config, tmp_path, 10)
    logger.log(3, STEP, "train")
    [line] = (tmp_path / "metrics.jsonl").read_text().splitlines()
    found = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (found["step"], found["kind"], found["reward/mean"], found["loss"]) == (3, "train", 0.5, None)
    logger.close({})


def test_jsonl_of_a_resumed_run_is_appended_to(config, tmp_path):
    for step in (0, 1):
        logger = JsonlLogger(config, tmp_path, 10)
        logger.log(step, STEP, "train")
        logger.close({})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1]


def test_tensorboard_can_read_the_logged_metrics(config, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(config, tmp_path, 10)
    logger.log(0, {"reward/mean": 0.25}, "train")
    logger.log(1, {"reward/mean": 0.75}, "train")
    logger.log(1, {"eval/accuracy": 0.5}, "eval")
    logger.close({})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("reward/mean")] == [(0, 0.25), (1, 0.75)]
    assert [event.value for event in events.Scalars("eval/accuracy")] == [0.5]


def test_tensorboard_drops_the_steps_that_a_resume_repeats(config, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for steps, value in ((range(4), 0.25), (range(2, 4), 0.75)):
        logger = TensorBoardLogger(config, tmp_path / "", 10)
        for step in steps:
            logger.log(step, {"loss": value}, "train")
        logger.close({})
        # Event files of the same second sort by process and counter; the second run's must sort after the first's.
        [newest] = [path for path in (tmp_path / "tensorboard").iterdir() if not path.name.endswith("kept")]
        newest.rename(newest.with_name(f"events.out.tfevents.{value}.kept"))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (0, 0.25),
        (1, 0.25),
        (2, 0.75),
        (3, 0.75),
    ]


def test_without_a_terminal_each_step_is_one_line(config, tmp_path):
    out = io.StringIO()
    logger = ConsoleLogger(config, tmp_path, 10, console=Console(file=out, width=40))
    logger.status(RunStatus("running", 0, 10, 1.0, "policy waits for groups", {}))
    logger.status(RunStatus("running", 0, 10, 1.3, "policy waits for groups", {}))
    logger.log(0, STEP, "train")
    logger.log(1, {"eval/accuracy": 0.5}, "eval")
    logger.close({"status": "done"})
    step = "step 1/10 | reward 0.5 | loss - | mismatch 1.5e-07 | tokens/s 12,346 generated, 679 trained"
    step += " | busy 60 % generating, 35 % training | 2.00 s | 18 s left"
    assert out.getvalue().splitlines()[1:] == [
        "running after 1 s: policy waits for groups",
        step,
        "evaluation after 1 steps | accuracy 0.5",
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_user_text_is_not_interpreted_as_markup(config, tmp_path, terminal):
    out = io.StringIO()
    logger = ConsoleLogger(config, tmp_path, 10, console=Console(file=out, force_terminal=terminal, width=200))
    logger.status(RunStatus("running", 0, 10, 1.0, "reward '[red]judge[/]' [/oops]", {}))
    logger.log(1, {"eval/[bold]x": 0.5}, "eval")
    logger.close({"status": "done"})
    assert "reward '[red]judge[/]' [/oops]" in out.getvalue()
    assert "[bold]x 0.5" in out.getvalue()


def test_a_terminal_shows_the_current_wait_and_the_time_left(config, tmp_path):
    out = io.StringIO()
    logger = ConsoleLogger(config, tmp_path, 10, console=Console(file=out, force_terminal=True, width=100))
    logger.log(0, STEP, "train")
    logger.status(RunStatus("running", 1, 10, 65.0, "policy waits for groups of step 1", {}))
    logger.close({"status": "done"})
    for text in ("step 1/10  1:05  18 s left", "policy waits for groups of step 1", "60 % generating, 35 % training"):
        assert text in out.getvalue()


def test_the_last_frame_on_a_terminal_shows_how_the_run_ended(config, tmp_path):
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system=None, width=100)
    logger = ConsoleLogger(config, tmp_path, 10, console=console)
    logger.status(RunStatus("draining", 10, 10, 65.0, "run waits for the checkpoint of version 10", {}))
    logger.close({"status": "stopped"})
    bar, state, waiting = [line.strip() for line in out.getvalue().splitlines()][-4:-1]
    assert bar == "━" * 40, "the bar has a line of its own"
    assert [state.split(), waiting.split()] == [["state", "stopped"], ["waiting", "-"]]


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1:00"), (187, "3:07"), (3723, "1:02:03")])
def test_seconds_as_text(seconds, text):
    assert format_seconds(seconds) == text


def test_pace_is_the_median_and_unknown_at_first():
    pace = Pace()
    assert pace.seconds_left(5) is None
    for seconds in (1.0, 1.0, 100.0):
        pace.step({"time/step": seconds})
    assert pace.seconds_left(5) == 5.0


def test_missing_metrics_are_not_shown():
    assert [label for label, _ in labelled_metrics({"loss": 1.0, "eval/loss": 2.0})] == ["loss", "eval loss"]
