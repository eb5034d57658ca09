from __future__ import annotations

import random

import numpy
import pytest

from rlx.episodes import Episode, Reward, VersionSpan, decode_episodes, single_turn
from rlx.errors import BadRowError, DatasetError, RewardError
from rlx.rollout.completion import Completion
from rlx.rollout.groups import completion_texts, failed_group, finished_group
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
    failed = failed_group(LEASE, RewardError("no number", owner="reward 'judge'", drop=drop), drop_bad_rows=not drop)
    assert (failed.group_id, failed.kind, failed.error) == (4, "train", "no number")
    assert (failed.owner, failed.drop) == ("reward 'judge'", drop)


def test_a_group_is_not_dropped_for_an_error_without_owner():
    failed = failed_group(LEASE, DatasetError("row 9"), drop_bad_rows=True)
    assert (failed.owner, failed.drop) == ("", False)


@pytest.mark.parametrize("drop", [True, False])
def test_a_group_whose_row_is_to_blame_is_marked(drop):
    failed = failed_group(LEASE, BadRowError("row 9", reason="engine"), drop_bad_rows=drop)
    assert (failed.drop, failed.bad_row) == (drop, "engine")
    assert failed_group(LEASE, RewardError("x"), drop_bad_rows=True).bad_row is None


TAGS = ("<think>", "</think>", "<answer>", "</answer>")


@pytest.fixture(scope="module")
def tagged_tokenizer():
    """A byte-level tokenizer that has the tags, and two ends of text, as special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    inner = Tokenizer(models.BPE(letters, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(word, special=True) for word in ("<pad>", "<eos>", "<eom>", *TAGS)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", pad_token="<pad>")


@pytest.mark.parametrize(
    ("sampled", "stop", "text"),
    [
        ("<think>a</think><answer>b</answer><eos>", "stop", "<think>a</think><answer>b</answer>"),
        ("<think>a</think> <answer>b</answer><eom>", "stop", "<think>a</think> <answer>b</answer>"),
        ("<think>a", "length", "<think>a"),
        ("a<think>", "length", "a<think>"),
        ("a<pad><eos>b<eos>", "stop", "ab"),
        ("a<eom>b<eos>", "stop", "a<eom>b"),
        ("a7", "stop", "a7"),
        ("<eos>", "stop", ""),
        ("", "stop", ""),
    ],
)
def test_rewards_see_special_tokens_except_those_that_end_a_text(sampled, stop, text, tagged_tokenizer):
    tokens = tagged_tokenizer.encode(sampled)
    assert completion_texts([Completion(tokens, [], [], stop)], tagged_tokenizer) == [text]


def test_without_other_special_tokens_the_text_is_that_of_transformers(tokenizer):
    rng = random.Random(3)
    sampled = [[rng.randrange(len(tokenizer)) for _ in range(rng.randrange(12))] for _ in range(200)]
    completions = [Completion(tokens, [], [], rng.choice(["stop", "length"])) for tokens in sampled]
    assert completion_texts(completions, tokenizer) == tokenizer.batch_decode(sampled, skip_special_tokens=True)
