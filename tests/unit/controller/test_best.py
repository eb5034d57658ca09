from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlx.config.sections.checkpoint import BestConfig
from rlx.controller.records.best import Best
from rlx.controller.records.checkpoint import path_of
from rlx.errors import RunError

LOSS = BestConfig(metric="eval/loss")


def evaluations(values, metric="eval/loss"):
    return [{"step": float(step), metric: value} for step, value in values.items()]


@pytest.mark.parametrize(
    ("rule", "values", "version"),
    [
        (LOSS, {0: 0.1, 2: 3.0, 4: 2.0, 6: 2.5}, 4),
        (LOSS, {2: 2.0, 4: 2.0}, 2),
        (LOSS, {2: float("nan"), 4: 3.0, 6: float("-inf")}, 4),
        (LOSS, {0: 1.0}, None),
        (LOSS, {}, None),
        (BestConfig(metric="eval/accuracy"), {0: 0.9, 2: 0.5, 4: 0.7, 6: 0.7}, 4),
        (BestConfig(metric="eval/mine", prefer="lowest"), {2: 0.5, 4: 0.7}, 2),
        (BestConfig(metric="eval/loss", prefer="highest"), {2: 3.0, 4: 2.0}, 2),
    ],
)
def test_the_best_version_by_the_rule(rule, values, version):
    best = Best(rule, evaluations(values, rule.metric))
    assert best.version == version
    assert best.spared == ({version} if version is not None else set())


@given(st.dictionaries(st.integers(1, 50), st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_the_best_version_has_the_lowest_loss(values):
    values = dict(sorted(values.items()))
    assert values[Best(LOSS, evaluations(values)).version] == min(values.values())


def test_versions_under_evaluation_are_spared():
    found = evaluations({2: 1.0})
    best = Best(LOSS, found)
    best.evaluation_started(4)
    best.evaluation_started(6)
    assert best.spared == {2, 4, 6}
    found.append({"step": 4.0, "eval/loss": 0.5})
    best.evaluation_ended(4, found[-1])
    assert best.spared == {4, 6}
    best.evaluations_stopped()
    assert best.spared == {4}


def test_without_a_rule_no_version_is_best_and_none_is_spared(tmp_path):
    best = Best(None, evaluations({2: 1.0}))
    best.evaluation_started(4)
    best.evaluation_ended(4, {"eval/accuracy": 1.0})
    assert (best.version, best.spared, best.entry(tmp_path)) == (None, set(), None)


def test_a_missing_metric_is_named_with_those_that_exist():
    with pytest.raises(RunError, match=r"'eval/los'.* It has eval/loss, eval/perplexity\. Did you mean 'eval/loss'\?"):
        Best(BestConfig(metric="eval/los", prefer="lowest"), []).evaluation_ended(
            0, {"eval/perplexity": 2.0, "eval/loss": 1.0}
        )


def test_the_summary_has_the_checkpoint_of_the_best_version(tmp_path):
    best = Best(LOSS, evaluations({2: 3.0, 4: 2.0}))
    assert best.entry(tmp_path) == {"step": 4, "metric": "eval/loss", "value": 2.0, "checkpoint": None}
    path_of(tmp_path, 4).mkdir(parents=True)
    assert best.entry(tmp_path)["checkpoint"] == str(tmp_path / "checkpoints" / "step_00004")
