from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from rlx import RunStatus, Sample
from rlx.config.schema import Config
from rlx.loggers.console import ConsoleLogger
from rlx.loggers.dispatch import Loggers
from rlx.loggers.jsonl import JsonlLogger
from rlx.loggers.tensorboard import TensorBoardLogger
from rlx.loggers.text import Pace, Throughput, eval_line, format_seconds, labelled_metrics, sparkline

STEP = {
    "reward/mean": 0.5,
    "loss": float("nan"),
    "time/step": 2.0,
    "sync/logprob_diff": 1.5e-7,
    "mismatch/kl": 0.18,
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
    step = "step 1/10 | reward 0.5 | loss - | mismatch 1.8e-01 | sync 1.5e-07 | tokens/s 12,346 generated, 679 trained"
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


STARTING = [
    (0.2, {"controller": "starts"}),
    (0.5, {"controller": "starts"}),
    (2.1, {"policy": "starts", "rollout-0": "starts"}),
    (2.4, {"policy": "loads the weights", "rollout-0": "starts"}),
    (2.7, {"policy": "loads the weights", "rollout-0": "opens the dataset"}),
    (3.2, {"policy": "loads the weights", "rollout-0": "starts vLLM"}),
    (9.0, {"policy": "loads the weights", "rollout-0": "starts vLLM"}),
    (9.3, {"policy": "is ready", "rollout-0": "starts vLLM"}),
]


def test_a_start_without_a_terminal_is_one_line_a_second_and_only_on_change(config, tmp_path):
    out = io.StringIO()
    logger = ConsoleLogger(config, tmp_path, 10, console=Console(file=out, width=40))
    for elapsed, processes in STARTING:
        logger.status(RunStatus("starting", 0, 10, 0.0, "run waits for all", {}, processes, elapsed))
    logger.status(RunStatus("running", 0, 10, 0.1, "policy sends the weights", {}, {}, 9.6))
    assert out.getvalue().splitlines()[1:] == [
        "starting after 0 s: controller starts",
        "starting after 2 s: policy starts; rollout-0 starts",
        "starting after 3 s: policy loads the weights; rollout-0 starts vLLM",
        "starting after 9 s: policy is ready",
        "running after 10 s: policy sends the weights",
    ]


def test_the_important_metrics_of_an_evaluation_come_first():
    names = ["seconds", "accuracy", "completions", "dropped", "reward", "completion/length_mean", "answers", "loss"]
    line = eval_line(10, {"loss": 9.0, **{f"eval/{name}": 1.0 for name in names}})
    shown = [part.rpartition(" ")[0] for part in line.split(" | ")[1:]]
    assert shown == [
        "accuracy", "reward", "loss", "completion/length_mean", "answers", "completions", "dropped", "seconds"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("span", "shown"),
    [
        ((10.0, 10.0), ""),
        ((10.0, 12.0), " | version_max 12 | version_min 10"),
        ((11.0, 11.0), " | version_max 11 | version_min 11"),
    ],
)
def test_an_evaluation_shows_the_versions_it_used_if_they_are_not_its_own(span, shown):
    metrics = {"eval/accuracy": 0.5, "eval/version_min": span[0], "eval/version_max": span[1]}
    assert eval_line(10, metrics) == f"evaluation after 10 steps | accuracy 0.5{shown}"


def test_tokens_per_second_are_means_over_half_a_minute():
    """Asynchronous: all groups of two steps arrive in the second of them."""
    throughput = Throughput()
    for step in range(20):
        metrics = {"time/step": 1.0, "time/generate": 0.9, "tokens/generated_per_s": 2000.0 * (step % 2)}
        shown = throughput.smoothed(metrics)["tokens/generated_per_s"]
    assert shown == pytest.approx(1000.0)
    for _ in range(30):
        shown = throughput.smoothed({**metrics, "tokens/generated_per_s": 500.0})["tokens/generated_per_s"]
    assert shown == pytest.approx(500.0)
    assert "tokens/generated_per_s" not in throughput.smoothed({"time/step": 1.0})


@pytest.mark.parametrize(
    ("values", "width", "curve"),
    [
        ([], 5, ""),
        ([float("nan")], 5, ""),
        ([3.0], 5, "▁"),
        ([0.0, 1.0], 5, "▁█"),
        ([0.0, float("inf"), 7.0], 5, "▁ █"),
        ([0.0, 0.0, 4.0, 4.0, 2.0, 2.0], 3, "▁█▅"),
        ([1.0, 1.0, 1.0], 3, "▁▁▁"),
    ],
)
def test_a_curve_has_the_lowest_block_for_the_smallest_value(values, width, curve):
    assert sparkline(values, width) == curve
    assert sparkline(values, width, ascii_only=True).isascii()


class Everything:
    """A logger with each method that a logger may have."""

    def __init__(self):
        self.calls = []

    def log(self, step, metrics, kind):
        self.calls.append(("log", step, kind))

    def log_samples(self, step, samples, kind):
        self.calls.append(("log_samples", step, [sample.completion for sample in samples], kind))

    def close(self, summary):
        self.calls.append(("close", summary["status"]))


class OldStyle:
    """A logger without optional methods."""

    def log(self, step, metrics, kind): ...

    def close(self, summary): ...


def test_completions_go_to_loggers_that_take_them():
    logger = Everything()
    loggers = Loggers([("logger 'old'", OldStyle()), ("logger 'all'", logger)])
    loggers.log_samples(3, [Sample("1+1=", "2", 1.0)], "train")
    loggers.log(3, {}, "train")
    loggers.close({"status": "done"})
    assert not loggers.failures
    assert logger.calls == [("log_samples", 3, ["2"], "train"), ("log", 3, "train"), ("close", "done")]


def test_tensorboard_shows_completions_as_text_that_is_not_markdown(config, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(config, tmp_path, 10)
    for step in range(3):
        logger.log_samples(step, [Sample("*1*\n+1=", "<b>2\x1b[0m", 1.0, {"exact": 1.0}, "2\n", 7, 5)], "train")
        logger.log(step, {"loss": 1.0}, "train")
    logger.log_samples(2, [Sample("a", "b", None)], "eval")
    logger.close({})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["tensors"] == ["samples/train/text_summary", "samples/eval/text_summary"]
    train = events.Tensors("samples/train/text_summary")
    assert [event.step for event in train] == [0], "steps follow one another within seconds"
    text = train[0].tensor_proto.string_val[0].decode()
    assert "    *1*\n    +1=" in text
    assert "    <b>2\\x1b[0m" in text
    assert r"reward 1, exact 1, reference '2\n'; row 5, group 7" in text


def test_missing_metrics_are_not_shown():
    assert [label for label, _ in labelled_metrics({"loss": 1.0, "eval/loss": 2.0})] == ["loss", "eval loss"]
