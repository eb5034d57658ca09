from __future__ import annotations

import copy

import pytest

from rlx.errors import DatasetError, PluginError, UsageError
from rlx.packers.base import DataPacker, DecoderOnlyLLMDataPacker
from rlx.packers.sft_rows import sft_trajectories

EOS = 1
CHAT = [{"role": "user", "content": "hi"}]
ANSWERED = [*CHAT, {"role": "assistant", "content": "ho"}]
CHAT_TEXT = "user: hi\nassistant: "


def sft_trajectory(*args, **kwargs):
    """Return the trajectory of a row that has exactly one."""
    (trajectory,) = sft_trajectories(*args, **kwargs)
    return trajectory


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
        (
            [*CHAT, {"role": "assistant", "tool_calls": []}],
            None,
            "message 1, from the assistant, has neither content nor tool_calls",
        ),
        ({"question": "1+1=", "answer": "2"}, None, "no target|no column"),
        ("", "2", "the prompt is empty"),
    ],
)
def test_a_row_without_a_target_is_named(item, reference, message, packer, tokenizer):
    with pytest.raises(DatasetError, match=f"^row 5 of d: .*({message})"):
        sft_trajectory(packer, item, reference, tokenizer, where="row 5 of d")


def test_a_tokenizer_without_eos_is_an_error(tokenizer):
    endless = copy.deepcopy(tokenizer)
    endless.eos_token = None
    packer = DecoderOnlyLLMDataPacker()
    packer.setup(None, endless)
    with pytest.raises(UsageError, match="has no EOS token"):
        sft_trajectory(packer, "1+1=", "2", endless)


class Fixed(DataPacker):
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
def test_label_masks_become_segments(names, tokenizer):
    packer = Fixed({names[0]: [1, 2, 3, 4, 5, 6], names[1]: [-100, -100, 3, -100, 5, 6]})
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
        (None, "packer Fixed: sft_process_sample returned a NoneType"),
        ({"input_ids": [1, 2]}, "returned a dict"),
        ({"input_ids": [1, 2], "labels": [1]}, "of the same length"),
        ({"input_ids": [1, 2, 3], "labels": [2, 3, -100]}, "label 0 is 2, and token 0 is 1. .*rlx shifts them"),
        (KeyError("image"), "packer Fixed: row 5 of d raised KeyError: 'image'"),
    ],
)
def test_a_failing_packer_is_named(made, message, tokenizer):
    with pytest.raises(PluginError, match=message):
        sft_trajectory(Fixed(made), "x", "y", tokenizer, where="row 5 of d")


def test_default_sft_samples_use_the_packers_prompt(tokenizer):
    class Upper(DataPacker):
        def get_rollout_input(self, item):
            return item.upper()

    packer = Upper()
    packer.setup(None, tokenizer)
    assert sft_trajectory(packer, "ab", "c", tokenizer).tokens == [*tokenizer.encode("ABc"), EOS]


def test_a_packer_needs_no_base_class(tokenizer):
    class Bare:
        def get_rollout_input(self, item):
            return [9, 9]

    assert sft_trajectory(Bare(), "ab", "c", tokenizer).tokens == [9, 9, *tokenizer.encode("c"), EOS]


class Collating(DecoderOnlyLLMDataPacker):
    """Masks the first learned token, in a batch that is wider than necessary."""

    def sft_compute_max_len(self, processed_samples):
        return super().sft_compute_max_len(processed_samples) + 3

    def sft_collate_fn(self, processed_samples, computed_max_len, pad_token_id, ignore_label_id):
        batch = super().sft_collate_fn(processed_samples, computed_max_len, ignore_label_id)
        labels = batch["labels"]
        for row in labels:
            row[(row != ignore_label_id).nonzero()[0]] = ignore_label_id
        assert pad_token_id == self.tokenizer.pad_token_id
        return {"input_ids": batch["input_ids"], "label_ids": labels}


def test_tokens_masked_in_the_packers_batch_are_not_learned(tokenizer):
    packer = Collating()
    packer.setup(None, tokenizer)
    segments = sft_trajectory(packer, {"prompt": "1+", "completion": "23"}, None, tokenizer).segments
    assert [(s.kind, s.tokens) for s in segments] == [
        ("prompt", tokenizer.encode("1+2")),
        ("sampled", [*tokenizer.encode("3"), EOS]),
    ]


def test_the_default_batch_agrees_with_its_samples(tokenizer):
    """rlx skips batches of the default packer; collating them and reading them back gives the same trajectories."""

    class Overriding(DecoderOnlyLLMDataPacker):
        def sft_collate_fn(self, *args, **kwargs):
            return super().sft_collate_fn(*args, **kwargs)

    rows = [{"prompt": "1+1=", "completion": "2"}, {"messages": [*ANSWERED, *ANSWERED]}]
    made = []
    for cls in (DecoderOnlyLLMDataPacker, Overriding):
        packer = cls()
        packer.setup(None, tokenizer)
        made.append([sft_trajectory(packer, row, None, tokenizer) for row in rows])
    plain, asked = made
    for one, other in zip(plain, asked, strict=True):
        assert one.tokens == other.tokens
        assert [s.learns for s in one.segments for _ in s.tokens] == [
            s.learns for s in other.segments for _ in s.tokens
        ]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"input_ids": [[1, 2]]}, "packer FixedBatch: sft_collate_fn returned no 'labels'"),
        ({"input_ids": [[1, 2]], "labels": [[-100, 2]], "position_ids": [[0, 1]]}, "'position_ids', which the trainer"),
        ({"input_ids": [[1, 2]], "labels": [[2, -100]]}, "sft_collate_fn: label 0 is 2, and token 0 is 1"),
    ],
)
def test_a_batch_without_usable_labels_is_an_error(batch, message, tokenizer):
    class FixedBatch(DecoderOnlyLLMDataPacker):
        def sft_collate_fn(self, processed_samples, computed_max_len):
            return batch

    packer = FixedBatch()
    packer.setup(None, tokenizer)
    with pytest.raises(PluginError, match=f"^row 5 of d: .*{message}"):
        sft_trajectory(packer, {"prompt": "1", "completion": "2"}, None, tokenizer, where="row 5 of d")
