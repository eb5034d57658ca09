"""The sampler with custom packers; its engine and reward pool are stand-ins that answer at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from rlx import DataPacker, DecoderOnlyLLMDataPacker
from rlx.datasets.open import make_dataset
from rlx.episodes import Reward, VersionSpan, decode_episodes
from rlx.rewards.scoring import Scores
from rlx.rollout.completion import Completion
from rlx.rollout.prompts import Prompts
from rlx.rollout.sampler import PromptSource, Sampler
from rlx.testing.tokenizer import CharTokenizer
from rlx.transport.messages import GroupDone, GroupFailed, Lease, Leases

TOKENIZER = CharTokenizer()
EOS = 1


class DemoDataPacker(DataPacker):
    """Delegates to the default packer; its `get_policy_input` has two arguments. Records its calls."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.underlying_data_packer = DecoderOnlyLLMDataPacker()
        self.calls = []

    def setup(self, config, tokenizer, *args, **kwargs):
        super().setup(config, tokenizer, *args, **kwargs)
        self.underlying_data_packer.setup(config, tokenizer, *args, **kwargs)

    def get_rollout_input(self, item):
        self.calls.append("get_rollout_input")
        return self.underlying_data_packer.get_rollout_input(item)

    def rollout_collate_fn(self, items):
        self.calls.append("rollout_collate_fn")
        return self.underlying_data_packer.rollout_collate_fn(items)

    def get_policy_input(self, item, rollout_output):
        self.calls.append("get_policy_input")
        return self.underlying_data_packer.get_policy_input(item, rollout_output)

    def policy_compute_max_len(self, processed_samples):
        self.calls.append("policy_compute_max_len")
        return self.underlying_data_packer.policy_compute_max_len(processed_samples)

    def policy_collate_fn(self, processed_samples, computed_max_len):
        self.calls.append("policy_collate_fn")
        return self.underlying_data_packer.policy_collate_fn(processed_samples, computed_max_len)


class EncodesText(DecoderOnlyLLMDataPacker):
    def get_policy_input(self, item, rollout_output, n_ignore_prefix_tokens=0):
        return super().get_policy_input(item, str(rollout_output), n_ignore_prefix_tokens)


class Retokenizes(EncodesText):
    retokenizes = True


class DuplicatesInputs(DecoderOnlyLLMDataPacker):
    def rollout_collate_fn(self, items):
        return [*items, *items]


@dataclass
class StubEngine:
    """An engine whose completions are `7` and `42`, each with an EOS token."""

    prompts: list

    busy_seconds, tokens, context = 0.0, 0, 32

    async def submit(self, prompt, *, samples, max_tokens, temperature):
        self.prompts.append(list(prompt))
        return samples

    async def collect(self, pending):
        texts = ["7", "42"][:pending]
        made = [[*TOKENIZER.encode(text), EOS] for text in texts]
        return [Completion(tokens, [-0.5] * len(tokens), [VersionSpan(3, len(tokens))], "stop") for tokens in made]


class ConstantPool:
    """A pool with one reward that always gives 1."""

    async def score(self, completions, kind):
        return [Scores([Reward("one", 1.0)], {"reward/one/seen": 1.0}) for _ in completions]


def sample_group(cls, kind="train", context=32, *, drop_long=False):
    """Return the message for one lease, the prompts of the engine, and the packer."""
    packer = cls()
    packer.setup(None, TOKENIZER)
    view = make_dataset(["1+6=", "40+2="], {}, None, TOKENIZER)
    engine = StubEngine([])
    engine.context = context

    async def run():
        answer = asyncio.get_running_loop().create_future()

        async def send(message):
            answer.set_result(message)

        sources = {kind: PromptSource(Prompts(view, packer, TOKENIZER), 1.0, 8, drop_long)}
        calls = {"send": send, "scored": lambda group: None, "on_failure": answer.set_exception}
        sampler = Sampler(engine, ConstantPool(), sources, **calls)
        await sampler.take(Leases([Lease(0, 1, 2, 3, 7, kind)], barrier=False, seed=0))
        return await answer

    return asyncio.run(run()), engine.prompts, packer


def test_a_delegating_packer_trains_the_same_tokens_as_the_default_one():
    demo, demo_prompts, packer = sample_group(DemoDataPacker)
    plain, prompts, _ = sample_group(DecoderOnlyLLMDataPacker)
    assert isinstance(demo, GroupDone)
    assert demo_prompts == prompts == [TOKENIZER.encode("40+2=")]
    assert decode_episodes(demo.payload) == decode_episodes(plain.payload)
    assert packer.calls == [
        "get_rollout_input",
        "rollout_collate_fn",
        "get_policy_input",
        "get_policy_input",
        "policy_compute_max_len",
        "policy_collate_fn",
    ]


@pytest.mark.parametrize("kind", ["train", "eval"])
@pytest.mark.parametrize("drop", [False, True])
def test_a_prompt_without_room_for_a_completion_names_its_row(drop, kind):
    fits, prompts, _ = sample_group(DecoderOnlyLLMDataPacker, kind, context=6)
    assert isinstance(fits, GroupDone)
    message, prompts, _ = sample_group(DecoderOnlyLLMDataPacker, kind, context=5, drop_long=drop)
    assert isinstance(message, GroupFailed)
    assert prompts == []
    assert (message.drop, message.long_prompt) == (drop, True)
    assert message.error.startswith("row 1 of dataset: its prompt has 5 tokens, and the model's context of 5 must hold")


def test_a_packer_that_retokenizes_fails_the_group_and_names_the_row():
    message, *_ = sample_group(EncodesText)
    assert isinstance(message, GroupFailed)
    assert not message.drop
    assert message.error.startswith("row 1 of dataset: packer EncodesText: get_policy_input returned other tokens")


def test_a_declared_retokenizing_packer_is_counted_in_the_metrics():
    message, *_ = sample_group(Retokenizes)
    assert message.metrics == {"packer/retokenized": 1.0, "reward/one/seen": 1.0}
    assert message.lengths == [1, 2]
    assert message.oldest_version == 3


def test_evaluation_groups_do_not_call_get_policy_input():
    message, *_ = sample_group(EncodesText, "eval")
    assert isinstance(message, GroupDone)


def test_rollout_collate_fn_must_keep_a_batch_of_one():
    message, *_ = sample_group(DuplicatesInputs)
    assert "packer DuplicatesInputs: rollout_collate_fn got a list of one input and returned a list" in message.error
