from __future__ import annotations

import pytest

from rlx import DataPacker, DecoderOnlyLLMDataPacker
from rlx.episodes import Segment, VersionSpan
from rlx.packers.base import RolloutOutput


class DemoDataPacker(DataPacker):
    """Delegates to the default packer; its `get_policy_input` has two arguments."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.underlying_data_packer = DecoderOnlyLLMDataPacker()

    def setup(self, config, tokenizer, *args, **kwargs):
        super().setup(config, tokenizer, *args, **kwargs)
        self.underlying_data_packer.setup(config, tokenizer, *args, **kwargs)

    def get_rollout_input(self, item):
        return self.underlying_data_packer.get_rollout_input(item)

    def rollout_collate_fn(self, items):
        return self.underlying_data_packer.rollout_collate_fn(items)

    def get_policy_input(self, item, rollout_output):
        return self.underlying_data_packer.get_policy_input(item, rollout_output)

    def policy_compute_max_len(self, processed_samples):
        return self.underlying_data_packer.policy_compute_max_len(processed_samples)

    def policy_collate_fn(self, processed_samples, computed_max_len):
        return self.underlying_data_packer.policy_collate_fn(processed_samples, computed_max_len)


@pytest.fixture(params=[DecoderOnlyLLMDataPacker, DemoDataPacker])
def packer(request, tokenizer):
    made = request.param(None)
    made.setup("config", tokenizer, "more", and_more=True)
    return made


def test_a_rollout_output_is_a_str_with_its_tokens():
    segment = Segment("sampled", [7, 8, 9], [-0.1, -0.2, -0.3], [VersionSpan(4, 2), VersionSpan(5, 1)])
    output = RolloutOutput.of("abc", segment)
    assert output == "abc"
    assert output.upper() == "ABC"
    assert (output.token_ids, output.logprobs, output.weight_versions) == ([7, 8, 9], [-0.1, -0.2, -0.3], [4, 4, 5])


def test_the_samplers_tokens_are_used_instead_of_the_text(packer, tokenizer):
    sample = packer.get_policy_input("1+", RolloutOutput("2", token_ids=[100, 101]))
    assert sample["input_ids"] == [*tokenizer.encode("1+"), 100, 101]
    # The mask is 1 where the next token is trained on.
    assert sample["logprob_masks"] == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("ignored", "mask"), [(0, [0, 1, 1, 0]), (1, [0, 0, 1, 0]), (2, [0, 0, 0, 0]), (5, [0, 0, 0, 0])]
)
def test_the_first_tokens_can_be_ignored(tokenizer, ignored, mask):
    packer = DecoderOnlyLLMDataPacker()
    packer.setup(None, tokenizer)
    assert packer.get_policy_input("1+", RolloutOutput("23", [5, 6]), ignored)["logprob_masks"] == mask


def test_text_without_tokens_and_bare_tokens_are_accepted(packer, tokenizer):
    expected = [*tokenizer.encode("1+"), *tokenizer.encode("23")]
    assert packer.get_policy_input("1+", "23")["input_ids"] == expected
    assert packer.get_policy_input("1+", tokenizer.encode("23"))["input_ids"] == expected


def test_batches_are_right_padded(packer, tokenizer):
    samples = [packer.get_policy_input("1+", "2"), packer.get_policy_input("11+", "22")]
    length = packer.policy_compute_max_len(samples)
    batch = packer.policy_collate_fn(samples, length)
    assert length == 5
    assert batch["input_ids"].tolist() == [[*samples[0]["input_ids"], 0, 0], samples[1]["input_ids"]]
    assert batch["logprob_masks"].tolist() == [[False, True, False, False, False], [False, False, True, True, False]]
    with pytest.raises(ValueError, match="5 tokens, more than the computed maximum of 4"):
        packer.policy_collate_fn(samples, 4)


def test_sft_labels_mask_prompts_and_padding(tokenizer):
    packer = DecoderOnlyLLMDataPacker()
    packer.setup(None, tokenizer)
    rows = [packer.sft_process_sample({"prompt": p, "completion": c}) for p, c in [("1+", "2"), ("11+1=", "12")]]
    length = packer.sft_compute_max_len(rows)
    batch = packer.sft_collate_fn(rows, length)
    assert length == 8
    assert batch["labels"].tolist()[0] == [-100, -100, *tokenizer.encode("2"), 1, -100, -100, -100, -100]
    assert batch["input_ids"].tolist()[1] == [*tokenizer.encode("11+1="), *tokenizer.encode("12"), 1]
    assert packer.sft_collate_fn(rows, length, -1)["labels"][0, 0] == -1


def test_a_missing_method_is_named():
    class Small(DataPacker):
        def get_rollout_input(self, item):
            return item

    assert Small(None, unused=True).rollout_collate_fn([1, 2]) == [1, 2]
    for method, arguments in {
        "get_policy_input": ("a", "b"),
        "policy_collate_fn": ([], 1),
        "sft_collate_fn": ([], 1),
    }.items():
        with pytest.raises(NotImplementedError, match=f"Small has no {method}"):
            getattr(Small(), method)(*arguments)
    with pytest.raises(TypeError, match="get_rollout_input"):
        DataPacker()


def test_an_invalid_option_of_the_default_packer_is_an_error():
    assert DecoderOnlyLLMDataPacker(train_on="last").train_on == "last"
    with pytest.raises(TypeError, match="trian_on"):
        DecoderOnlyLLMDataPacker(trian_on="last")
    with pytest.raises(ValueError, match="train_on is 'first'; it must be 'all' or 'last'"):
        DecoderOnlyLLMDataPacker(train_on="first")
