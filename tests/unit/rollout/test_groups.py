from __future__ import annotations

import numpy
import pytest

from rlx.episodes import Episode, Reward, VersionSpan, decode_episodes, single_turn
from rlx.errors import DatasetError, RewardError
from rlx.rollout.groups import failed_group, finished_group
from rlx.transport.messages import Lease

LEASE = Lease(group_id=4, index=9, samples=3, version=2, seed=7)


def _episode(sample, tokens, rewards, *, versions=((2, 1),), stop="stop", metrics=None):
    spans = [VersionSpan(version, length) for version, length in versions]
    trajectory = single_turn([5, 6], tokens, logprobs=[-1.0] * len(tokens), versions=spans, finish_reason=stop)
    return Episode(4, sample, 9, [trajectory], rewards=rewards, stop_reason=stop, metrics=metrics or {})


def _group():
    return [
        _episode(0, [7, 1], [Reward("right", 1.0, 2.0), Reward("short", 0.5)], versions=((2, 1), (3, 1))),
        _episode(1, [7, 8, 9], [Reward("right", 0.0, 2.0), Reward("short", None)], stop="length", versions=((3, 3),)),
        _episode(2, [1], [Reward("right", None, 2.0), Reward("short", None)], metrics={"m": 4.0}),
    ]


def test_a_finished_group_reports_its_metrics():
    done = finished_group(LEASE, [5, 6], _group(), filters=[1.0, None, 0.0], generate_seconds=1.5, score_seconds=0.25)
    assert (done.group_id, done.kind, done.index, done.prompt_tokens) == (4, "train", 9, 2)
    assert (done.tokens, done.lengths, done.truncated) == (6, [2, 3, 1], 1)
    assert done.oldest_version == 2
    assert done.rewards == [2.5, 0.0, None]
    assert done.accuracies == [1.0, 0.0, None]
    assert done.reward_means == {"right": 0.5, "short": 0.5}, "None does not count as 0"
    assert done.metrics == {"m": 4.0}
    assert done.filters == [1.0, None, 0.0]
    assert decode_episodes(done.payload) == _group()


def test_a_group_without_rewards_has_no_reward_metrics():
    done = finished_group(LEASE, [5], [_episode(0, [1], [])], filters=[], generate_seconds=0, score_seconds=0)
    assert (done.rewards, done.accuracies, done.reward_means) == ([None], [None], {})


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        (None, None),
        ("76", "76"),
        ("", ""),
        (76, "76"),
        (["a", 1.5], '["a",1.5]'),
        ({"target": 24, "numbers": (1, 2)}, '{"target":24,"numbers":[1,2]}'),
        (numpy.array([1, 2]), "[1,2]"),
        ({(1, 2): "x"}, "{(1, 2): 'x'}"),
    ],
)
def test_a_reference_answer_is_kept_as_text(reference, text):
    done = finished_group(LEASE, [5], _group(), reference=reference, filters=[], generate_seconds=0, score_seconds=0)
    assert done.reference == text


@pytest.mark.parametrize("drop", [True, False])
def test_a_failed_group_names_the_owner(drop):
    failed = failed_group(LEASE, RewardError("no number", owner="reward 'judge'", drop=drop))
    assert (failed.group_id, failed.kind, failed.error) == (4, "train", "no number")
    assert (failed.owner, failed.drop) == ("reward 'judge'", drop)


def test_a_group_is_not_dropped_for_an_error_without_owner():
    failed = failed_group(LEASE, DatasetError("row 9"))
    assert (failed.owner, failed.drop) == ("", False)
