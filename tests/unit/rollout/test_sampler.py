"""The sampler with custom packers; its engine and reward pool are stand-ins that answer at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from rlx import DataPacker, DecoderOnlyLLMDataPacker
from rlx.datasets.open import make_dataset
from rlx.episodes import Reward, VersionSpan, decode_episodes
from rlx.errors import BadRowError, HookError
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


class RefusesSum(DecoderOnlyLLMDataPacker):
    def get_rollout_input(self, item):
        raise ValueError("no sums today")


class Raises:
    """A dataset that raises for row 1, as soon as it is read or only for its reference."""

    def __init__(self, late=False):
        self.late = late

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index == 1 and not self.late:
            raise KeyError("torn")
        return "40+2="

    def get_reference_answer(self, index):
        if index == 1:
            raise KeyError("torn")


@dataclass
class StubEngine:
    """An engine whose completions are `7` and `42`, each with an EOS token."""

    prompts: list

    busy_seconds, tokens, context, room, busy = 0.0, 0, 32, 8, False
    refuses: str = ""
    """`submit` or `collect`: the engine refuses the request, or ends it with an error."""

    async def submit(self, prompt, *, samples, max_tokens, temperature):
        if self.refuses == "submit":
            raise BadRowError("the engine refuses a prompt", reason="engine")
        self.prompts.append(list(prompt))
        return samples

    async def collect(self, pending):
        if self.refuses == "collect":
            raise BadRowError("the engine ended a completion with 'error'", reason="engine")
        texts = ["7", "42"][:pending]
        made = [[*TOKENIZER.encode(text), EOS] for text in texts]
        return [Completion(tokens, [-0.5] * len(tokens), [VersionSpan(3, len(tokens))], "stop") for tokens in made]


class ConstantPool:
    """A pool with one reward that always gives 1."""

    async def score(self, completions, kind):
        return [Scores([Reward("one", 1.0)], {"reward/one/seen": 1.0}) for _ in completions]


def sample_group(cls, kind="train", context=32, *, drop=False, rows=("1+6=", "40+2="), refuses="", scored=None):
    """Return the message for one lease, the prompts of the engine, and the packer."""
    packer = cls()
    packer.setup(None, TOKENIZER)
    view = make_dataset(rows if isinstance(rows, Raises) else list(rows), {}, None, TOKENIZER)
    engine = StubEngine([], refuses=refuses)
    engine.context = context

    async def run():
        answer = asyncio.get_running_loop().create_future()

        async def send(message):
            answer.set_result(message)

        sources = {kind: PromptSource(Prompts(view, packer, TOKENIZER), 1.0, 8, drop)}

        async def call_hooks(group):
            if scored is not None:
                scored(group)

        calls = {"send": send, "scored": call_hooks, "on_failure": answer.set_exception}
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
    message, prompts, _ = sample_group(DecoderOnlyLLMDataPacker, kind, context=5, drop=drop)
    assert isinstance(message, GroupFailed)
    assert prompts == []
    assert (message.drop, message.bad_row) == (drop, "too_long")
    assert message.error.startswith("row 1 of dataset: its prompt has 5 tokens, and the model's context of 5 must hold")


@pytest.mark.parametrize("kind", ["train", "eval"])
@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize(
    ("settings", "reason", "words"),
    [
        ({"rows": Raises()}, "dataset", "dataset: row 1 raised KeyError: 'torn'"),
        ({"rows": Raises(late=True)}, "dataset", "the reference answer of row 1 raised KeyError: 'torn'"),
        ({"rows": ["1+6=", ""]}, "packer", "row 1 of dataset: the prompt is empty"),
        ({"rows": ["1+6=", 7]}, "packer", "row 1 of dataset: "),
        ({"cls": RefusesSum}, "packer", "packer RefusesSum: row 1 of dataset raised ValueError: no sums today"),
        ({"refuses": "submit"}, "engine", "row 1 of dataset: the engine refuses a prompt"),
        ({"refuses": "collect"}, "engine", "row 1 of dataset: the engine ended a completion with 'error'"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_dropped_if_asked_for(settings, reason, words, drop, kind):
    message, *_ = sample_group(**{"cls": DecoderOnlyLLMDataPacker, "kind": kind, "drop": drop} | settings)
    assert isinstance(message, GroupFailed)
    assert (message.drop, message.bad_row) == (drop, reason)
    assert words in message.error


def test_a_hook_that_raises_is_not_taken_for_a_bad_row():
    def scored(group):
        raise HookError("hook 'x' raised")

    message, *_ = sample_group(DecoderOnlyLLMDataPacker, drop=True, scored=scored)
    assert (message.drop, message.bad_row) == (False, None)


def test_probes_are_taken_from_the_first_rows_that_can_be_used():
    packer = DecoderOnlyLLMDataPacker()
    packer.setup(None, TOKENIZER)
    rows = ["", 7, *(f"{number}+1=" for number in range(30))]
    probes = Prompts(make_dataset(rows, {}, None, TOKENIZER), packer, TOKENIZER).probes()
    sound = Prompts(make_dataset(rows[2:], {}, None, TOKENIZER), packer, TOKENIZER).probes()
    assert probes == sound
    assert sound


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


class NarrowEngine(StubEngine):
    """An engine with room for one request, which ends when the test says so."""

    def __init__(self):
        super().__init__([])
        self.waiting = []

    @property
    def room(self):
        return 1 - len(self.waiting)

    async def submit(self, prompt, *, samples, max_tokens, temperature):
        self.prompts.append(list(prompt))
        self.waiting.append(asyncio.get_running_loop().create_future())
        return samples, self.waiting[-1]

    async def collect(self, pending):
        await pending[1]
        return await super().collect(pending[0])

    def end_one(self):
        self.waiting.pop(0).set_result(None)
        self.on_room()


async def test_groups_wait_for_room_in_order_and_their_leases_can_be_taken_back():
    packer = DecoderOnlyLLMDataPacker()
    packer.setup(None, TOKENIZER)
    view = make_dataset([f"{row}+0=" for row in range(6)], {}, None, TOKENIZER)
    engine, sent = NarrowEngine(), asyncio.Queue()
    sources = {"train": PromptSource(Prompts(view, packer, TOKENIZER), 1.0, 8)}

    async def scored(group):
        """Do nothing: no hook is enabled."""

    calls = {"send": sent.put, "scored": scored, "on_failure": sent.put_nowait}
    sampler = Sampler(engine, ConstantPool(), sources, **calls)

    def held():
        return sampler.stats().held["train"]

    await sampler.take(Leases([Lease(index, index, 2, 3, 7) for index in range(5)]))
    assert len(engine.prompts) == 1, "the others cost the engine nothing"
    assert held() == [0, 1, 2, 3, 4]
    assert sampler.stats().running == 1
    await sampler.take(Leases([Lease(2, 2, 2, 3, 7), Lease(5, 5, 2, 3, 7)]))
    assert held() == [0, 1, 2, 3, 4, 5], "one that it holds already is not sampled twice"
    assert sampler.take_back("train", 2) == [5, 4]
    assert sampler.take_back("eval", 2) == []
    for index in range(4):
        assert len(engine.prompts) == index + 1
        assert engine.prompts[-1] == TOKENIZER.encode(f"{index}+0=")
        engine.end_one()
        assert (await sent.get()).group_id == index
    await asyncio.sleep(0)
    assert (held(), sent.qsize(), sampler.take_back("train", 9)) == ([], 0, [])
    await sampler.close()
