"""A run that goes back to a checkpoint: the steps after it are undone, and logged again."""

from __future__ import annotations

import json

from rlx.loggers.dispatch import Loggers
from rlx.loggers.jsonl import JsonlLogger
from rlx.loggers.tensorboard import TensorBoardLogger
from rlx.testing.stand_ins.config import example_config


class Plain:
    """A logger that does not follow such changes."""

    def __init__(self):
        self.steps = []

    def log(self, step, metrics, kind):
        self.steps.append(step)

    def close(self, summary):
        pass


def test_no_step_is_twice_in_the_metrics_file(tmp_path):
    plain, config = Plain(), example_config()
    loggers = Loggers([("jsonl", JsonlLogger(config, tmp_path, 9)), ("plain", plain)])
    loggers.log(0, {"eval/reward": 0.1}, "eval")
    for step in range(5):
        loggers.log(step, {"loss": float(step)}, "train")
    loggers.log(4, {"eval/reward": 0.2}, "eval")
    loggers.went_back(3, [0])
    for step in range(3, 6):
        loggers.log(step, {"loss": 10.0 + step}, "train")
    loggers.close({})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    train = [(line["step"], line["loss"]) for line in lines if line["kind"] == "train"]
    assert train == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 13.0), (4, 14.0), (5, 15.0)]
    assert [line["step"] for line in lines if line["kind"] == "eval"] == [0]
    assert plain.steps == [0, 0, 1, 2, 3, 4, 4, 3, 4, 5]
    assert not loggers.failures


def test_tensorboard_discards_the_steps_that_are_undone(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(example_config(), tmp_path, 9)
    for step in range(5):
        logger.log(step, {"loss": float(step)}, "train")
    logger.went_back(3, [])
    for step in range(3, 6):
        logger.log(step, {"loss": 10.0 + step}, "train")
    logger.close({})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (0, 0.0), (1, 1.0), (2, 2.0), (3, 13.0), (4, 14.0), (5, 15.0)
    ]  # fmt: skip
