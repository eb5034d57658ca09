from __future__ import annotations

import copy

import pytest

from rlx.api.packer import DataPacker, DecoderOnlyLLMDataPacker, sft_trajectory
from rlx.errors import DatasetError, PluginError, UsageError

EOS = 1
CHAT = [{"role": "user", "content": "hi"}]
ANSWERED = [*CHAT, {"role": "assistant", "content": "ho"}]
CHAT_TEXT = "user: hi\nassistant: "


@pytest.fixture
def packer(tokenizer):
    made = DecoderOnlyLLMDataPacker()
    made.setup(None, tokenizer)
    return made


@pytest.mark.parametrize(
    ("item", "reference", "prompt", "target"),
    [
        ("1+1=", "2", "1+1=", "2"),
        ({"prompt": "1+1="}, "2", "1+1=", "2"),
        ({"prompt": "1+1=", "completion": "2"}, None, "1+1=", "2"),
        ({"prompt": "1+1=", "completion": "2"}, "3", "1+1=", "2"),
        ({"prompt": "1+1=", "answer": "2"}, None, "1+1=", "2"),
        (CHAT, "ho", CHAT_TEXT, "ho"),
        (ANSWERED, None, CHAT_TEXT, "ho"),
        ({"messages": ANSWERED}, None, CHAT_TEXT, "ho"),
        ({"messages": CHAT}, "ho", CHAT_TEXT, "ho"),
        ({"prompt": CHAT, "completion": "ho"}, None, CHAT_TEXT, "ho"),
        ("1+1=", "", "1+1=", ""),
        ("1+1=", "2<eos>", "1+1=", "2"),
    ],
)
def test_rows_become_prompt_and_target_with_one_eos(item, reference, prompt, target, packer, tokenizer):
    trajectory = sft_trajectory(packer, item, reference, tokenizer)
    first, second = trajectory.segments
    assert (first.kind, first.tokens) == ("prompt", tokenizer.encode(prompt))
    assert (second.kind, second.tokens) == ("sampled", [*tokenizer.encode(target), EOS])
    assert second.learns
    assert second.logprobs == second.versions == []


@pytest.mark.parametrize(
    ("item", "reference", "message"),
    [
        ("1+1=", None, "no target"),
        (CHAT, None, "no target"),
        ({"prompt": "1+1="}, None, "no target"),
        ("1+1=", 2, "the target is a int, not text: 2"),
        ([*CHAT, {"role": "assistant", "tool_calls": []}], None, "the target is a NoneType"),
        ({"question": "1+1=", "answer": "2"}, None, "no target|no column"),
        ("", "2", "the prompt is empty"),
    ],
)
def test_a_row_without_a_target_is_named(item, reference, message, packer, tokenizer):
    with pytest.raises(DatasetError, match=f"^row 5 of d: .*({message})"):
        sft_trajectory(packer, item, reference, tokenizer, where="row 5 of d")


def test_without_an_eos_an_answer_could_not_end(tokenizer):
    endless = copy.deepcopy(tokenizer)
    endless.eos_token = None
    packer = DecoderOnlyLLMDataPacker()
    packer.setup(None, endless)
    with pytest.raises(UsageError, match="has no EOS token"):
        sft_trajectory(packer, "1+1=", "2", endless)


class Own(DataPacker):
    def __init__(self, made):
        super().__init__()
        self.made, self.seen = made, []

    def get_rollout_input(self, item):
        return [1]

    def sft_process_sample(self, item):
        self.seen.append(item)
        if isinstance(self.made, Exception):
            raise self.made
        return self.made


@pytest.mark.parametrize("names", [("input_ids", "labels"), ("token_ids", "label_ids"), ("input_ids", "label_ids")])
def test_masks_of_a_packer_become_segments(names, tokenizer):
    packer = Own({names[0]: [1, 2, 3, 4, 5, 6], names[1]: [-100, -100, 3, -100, 5, 6]})
    segments = sft_trajectory(packer, {"image": 1}, "ref", tokenizer).segments
    assert [(s.kind, s.tokens, s.learns) for s in segments] == [
        ("prompt", [1, 2], False),
        ("sampled", [3], True),
        ("observed", [4], False),
        ("sampled", [5, 6], True),
    ]
    assert packer.seen == [{"image": 1}]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (None, "packer Own: sft_process_sample returned a NoneType"),
        ({"input_ids": [1, 2]}, "returned a dict"),
        ({"input_ids": [1, 2], "labels": [1]}, "of one length"),
        (KeyError("image"), "packer Own failed at row 5 of d: KeyError: 'image'"),
    ],
)
def test_a_packer_that_fails_is_named(made, message, tokenizer):
    with pytest.raises(PluginError, match=message):
        sft_trajectory(Own(made), "x", "y", tokenizer, where="row 5 of d")


def test_the_default_goes_through_the_packer_s_own_prompt(tokenizer):
    class Upper(DataPacker):
        def get_rollout_input(self, item):
            return item.upper()

    packer = Upper()
    packer.setup(None, tokenizer)
    assert sft_trajectory(packer, "ab", "c", tokenizer).tokens == [*tokenizer.encode("ABc"), EOS]


def test_a_packer_that_inherits_nothing_will_do(tokenizer):
    class Bare:
        def get_rollout_input(self, item):
            return [9, 9]

    assert sft_trajectory(Bare(), "ab", "c", tokenizer).tokens == [9, 9, *tokenizer.encode("c"), EOS]
