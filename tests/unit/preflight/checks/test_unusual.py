from __future__ import annotations

import pytest

from rlx.config.schema import Config
from rlx.preflight.checks.unusual import unusual

EVAL = {"dataset": {"name": "d"}}


def _notes(*, rollouts=True, **sections):
    tree = {"model": {"path": "m"}, "dataset": {"name": "d"}, "rewards": [{"name": "r"}], **sections}
    return list(unusual(Config.model_validate(tree), rollouts=rollouts))


def test_usual_settings_have_no_note():
    assert _notes() == []
    assert _notes(eval={**EVAL, "every": 100, "samples": 4}, checkpoint={"every": 100}) == []
    assert _notes(policy={"optimizer": {"lr": 3e-3, "weight_decay": 0.1}}, run={"steps": 5}) == []
    assert _notes(run={"epochs": 2.0}, checkpoint={"every": 1000}) == [], "the steps are not known yet"


@pytest.mark.parametrize(
    ("sections", "note"),
    [
        ({"run": {"steps": 0}}, "[run] steps = 0 without [eval]"),
        ({"run": {"steps": 5}, "eval": {**EVAL, "every": 6}}, "[eval] every = 6 is more than [run] steps = 5"),
        ({"run": {"steps": 5}, "checkpoint": {"every": 6}}, "[checkpoint] every = 6 is more than [run] steps = 5"),
        ({"run": {"steps": 5}, "async": {"max_staleness": 6}}, "[async] max_staleness = 6 is more than"),
        ({"rollout": {"temperature": 2.5}}, "[rollout] temperature = 2.5 is high"),
        ({"eval": {**EVAL, "temperature": 2.5}}, "[eval] temperature = 2.5 is high"),
        ({"eval": {**EVAL, "temperature": 0.0, "samples": 4}}, "[eval] samples = 4 at temperature = 0"),
        ({"policy": {"optimizer": {"lr": 0.1}}}, "lr = 0.1 is large"),
        ({"policy": {"optimizer": {"lr": 1e-10}}}, "lr = 1e-10 is small"),
        ({"policy": {"optimizer": {"weight_decay": 2.0}}}, "weight_decay = 2 is large"),
        ({"policy": {"logprob_chunk": 1}}, "[policy] logprob_chunk = 1"),
        ({"algorithm": {"group_size": 2000}}, "[algorithm] group_size = 2,000 is large"),
        ({"rewards": [{"name": "r", "weight": -1e-300}]}, "[[rewards]]: the largest weight is 1e-300"),
        ({"sync": {"max_logprob_diff": 5.0}}, "[sync] max_logprob_diff = 5 is large"),
        ({"run": {"start_seconds": 5.0}}, "[run] start_seconds = 5 is short"),
        ({"run": {"stall_seconds": 5.0}}, "[run] stall_seconds = 5 is short"),
        ({"run": {"heartbeat_seconds": 5.0}}, "[run] heartbeat_seconds = 5 is short"),
    ],
)
def test_a_probable_slip_has_a_note(sections, note):
    (found,) = _notes(**sections)
    assert note in found


def test_sft_has_no_notes_on_sampling():
    assert _notes(rollouts=False, rewards=[], algorithm={"group_size": 2000}, run={"start_seconds": 5.0}) == []
