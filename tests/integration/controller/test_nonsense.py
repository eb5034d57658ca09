"""Replicas that answer nonsense: nothing of it is trained, and the replica counts as failed, with a reason."""

from __future__ import annotations

import math

import pytest
from msgspec import structs

from rlx.episodes import decode_episodes, encode_episodes

NAN = math.nan


def changed(change):
    """Return fn(group): the group, after `change` has been at the sampled segment of its last episode."""

    def apply(group):
        episodes = decode_episodes(group.payload)
        change(episodes[-1].trajectories[0].segments[-1])
        return structs.replace(group, payload=encode_episodes(episodes))

    return apply


def replaced(**fields):
    return lambda group: structs.replace(group, **fields)


def fewer_episodes(group):
    return structs.replace(group, payload=encode_episodes(decode_episodes(group.payload)[:-1]))


def other_row(group):
    episodes = [
        structs.replace(episode, dataset_index=episode.dataset_index + 1) for episode in decode_episodes(group.payload)
    ]
    return structs.replace(group, payload=encode_episodes(episodes))


NONSENSE = {
    "no episodes": (replaced(payload=b"\xc1garbage"), "its episodes can't be decoded"),
    "cut off": (lambda group: structs.replace(group, payload=group.payload[:-7]), "its episodes can't be decoded"),
    "fewer episodes": (fewer_episodes, "it has 1 episodes, and 2 were asked for"),
    "no reward": (replaced(rewards=[1.0]), "it has 1 rewards, and 2 were asked for"),
    "another count": (replaced(tokens=9), "it claims 9 sampled tokens"),
    "another row": (other_row, "an episode is of group"),
    "a token less": (changed(lambda segment: segment.tokens.pop()), "not as many sampled tokens as it claims (4)"),
    "a logprob less": (changed(lambda segment: segment.logprobs.pop()), "there are 4 tokens and 3 log-probabilities"),
    "nan": (changed(lambda segment: segment.logprobs.__setitem__(1, NAN)), "a log-probability is not a finite number"),
    "inf": (changed(lambda segment: segment.logprobs.__setitem__(1, -math.inf)), "is not a finite number"),
    "outside": (changed(lambda segment: segment.tokens.__setitem__(2, 100)), "outside of the vocabulary of 100"),
    "negative": (changed(lambda segment: segment.tokens.__setitem__(2, -1)), "outside of the vocabulary of 100"),
    "versions": (changed(lambda segment: segment.versions.clear()), "the weight versions are not those of its tokens"),
}


@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.parametrize("kind", NONSENSE)
async def test_a_replica_that_answers_nonsense_is_replaced(make_run, script, tmp_path, kind, k):
    nonsense, why = NONSENSE[kind]
    run = make_run(k=k, steps=4, script=script(nonsense=nonsense))
    ended = await run()
    assert ended.status == "done", ended.error
    assert ended.summary["rollout/restarts"] == 1
    (warning,) = [line.text for line in run.logs if "started again" in line.text]
    assert warning.startswith("rollout-1 does not work: it sent group ")
    assert why in warning
    assert set(run.times_trained().values()) == {1}
    assert len(run.times_trained()) == 16
    assert ended.summary["groups/lost"] == 0
    if k == 0:
        plain = make_run(k=0, steps=4, run_dir=tmp_path / "plain")
        plain.run_dir.mkdir()
        await plain()
        assert [step.payloads for step in run.policy.steps] == [step.payloads for step in plain.policy.steps]


async def test_without_restarts_the_run_fails_and_says_whose_nonsense_it_was(make_run, script):
    nonsense, why = NONSENSE["nan"]
    ended = await make_run(script=script(nonsense=nonsense), rollout={"replicas": 2, "restarts": 0}, steps=4)()
    assert ended.status == "failed"
    assert "rollout-1 does not work" in ended.error
    assert why in ended.error
