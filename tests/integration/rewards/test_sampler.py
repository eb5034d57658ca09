"""The sampler with real reward processes, and a fake engine that always samples the same completions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from rlx.datasets.open import make_dataset
from rlx.episodes import VersionSpan, decode_episodes
from rlx.rewards.pool import RewardPool
from rlx.rollout.completion import Completion
from rlx.rollout.prompts import Prompts
from rlx.rollout.sampler import PromptSource, Sampler
from rlx.testing.tokenizer import CharTokenizer
from rlx.transport.messages import GroupDone, GroupFailed, Lease, Leases


@dataclass
class Engine:
    texts: list[str]
    context: int = 512
    room: int = 8

    async def submit(self, prompt: list[int], **_: Any) -> None: ...

    async def collect(self, pending: None) -> list[Completion]:
        tokens = [CharTokenizer().encode(text) for text in self.texts]
        return [Completion(ids, [-1.0] * len(ids), [VersionSpan(0, len(ids))], "stop") for ids in tokens]


@pytest.fixture
def sample(boot):
    """`await sample(texts, kind, *rewards, **options)`: the sampler's message for a lease of this kind."""

    async def sample(texts: list[str], kind: str, *rewards: dict, **options: Any) -> GroupDone | GroupFailed:
        sent: asyncio.Queue[GroupDone | GroupFailed] = asyncio.Queue()
        tokenizer = CharTokenizer()
        view = make_dataset([{"prompt": "q"}], {}, None, tokenizer, owner="d")

        async def scored(group: object) -> None:
            """Do nothing: no hook is enabled."""

        source = PromptSource(Prompts(view, Packer(), tokenizer), 1.0, 8)
        async with RewardPool(boot(*rewards, **options)) as pool:
            sampler = Sampler(Engine(texts), pool, {kind: source}, send=sent.put, scored=scored, on_failure=pytest.fail)
            await sampler.take(Leases([Lease(0, 0, len(texts), 0, 7, kind)]))
            return await sent.get()

    return sample


class Packer:
    def get_rollout_input(self, item: Any) -> list[int]:
        return CharTokenizer().encode(item["prompt"])


@pytest.mark.parametrize("kind", ["train", "eval"])
async def test_a_group_reward_scores_train_and_eval_groups(sample, kind):
    done = await sample(["a", "b", "c"], kind, {"name": "place", "args": {"unscored": [1]}, "weight": 2.0})
    assert isinstance(done, GroupDone), done
    assert done.rewards == [0.0, None, 4.0]
    assert done.reward_means == {"place": 1.0}
    assert [episode.total_reward for episode in decode_episodes(done.payload)] == [0.0, None, 4.0]
    assert done.filters == []


async def test_only_train_groups_have_filters(sample):
    filters = [{"name": "length", "weight": 0.5}, {"name": "place", "args": {"unscored": [0]}}]
    train, evaluation = [
        await sample(["ab", "abcd"], kind, {"name": "length"}, filter_rewards=filters) for kind in ("train", "eval")
    ]
    assert (train.rewards, train.filters) == ([2.0, 4.0], [1.0, 3.0])
    assert (evaluation.rewards, evaluation.filters) == ([2.0, 4.0], [])


async def test_a_failing_group_reward_fails_the_group_with_its_owner(sample):
    failed = await sample(["too few", "b"], "train", {"name": "together", "on_error": "drop"})
    assert isinstance(failed, GroupFailed)
    assert failed.drop
    assert "together" in failed.owner
    assert "returned 1 values for 2 completions" in failed.error
