from __future__ import annotations

import numpy as np
import pytest

from rlx.errors import DatasetError, PluginError, UsageError
from rlx.packers.base import DataPacker, DecoderOnlyLLMDataPacker
from rlx.packers.prompt import prompt_token_ids

CHAT = [{"role": "user", "content": "hi"}]
CHAT_TEXT = "user: hi\nassistant: "


def default_packer(tokenizer):
    packer = DecoderOnlyLLMDataPacker()
    packer.setup(None, tokenizer)
    return packer


def ids_of(item, tokenizer):
    return prompt_token_ids(default_packer(tokenizer), item, tokenizer)


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ("12+3=", "12+3="),
        ({"prompt": "12+3=", "other": 1}, "12+3="),
        (CHAT, CHAT_TEXT),
        (tuple(CHAT), CHAT_TEXT),
        ({"messages": CHAT}, CHAT_TEXT),
        ({"prompt": CHAT}, CHAT_TEXT),
        ({"prompt": None, "messages": CHAT}, CHAT_TEXT),
    ],
)
def test_items_are_encoded_as_their_text(item, text, tokenizer):
    assert ids_of(item, tokenizer) == tokenizer.encode(text)


def test_token_ids_are_passed_through(tokenizer):
    assert ids_of({"prompt_token_ids": [5, 6]}, tokenizer) == [5, 6]


def test_bos_is_added_once_and_eos_never(wrapping_tokenizer):
    assert wrapping_tokenizer.encode("ab") == [0, 3, 4, 1]
    assert ids_of("ab", wrapping_tokenizer) == [0, 3, 4]
    assert ids_of("<bos>ab", wrapping_tokenizer) == [0, 3, 4]
    assert ids_of([{"role": "user", "content": "ab"}], wrapping_tokenizer) == [0, 3, 4]
    assert ids_of("ab<eos>", wrapping_tokenizer)[:4] == [0, 3, 4, 1]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"question": "q", "answer": "a"}, "no column 'prompt' or 'messages'; the columns are: 'question', 'answer'"),
        ({"prompt": None}, "no column 'prompt'"),
        ({"prompt": 3}, "'prompt' is a int, not text or chat messages: 3"),
        ({"messages": []}, "'messages' is a list"),
        ({}, "the columns are: none"),
        (None, "a NoneType is not a prompt"),
        (3, "a int is not a prompt"),
        (["a", "b"], "a list is not a prompt"),
        ("", "the prompt is empty"),
        ({"prompt_token_ids": []}, "the prompt is empty"),
    ],
)
def test_the_error_names_a_row_that_is_not_a_prompt(item, message, tokenizer):
    with pytest.raises(DatasetError, match=f"^row 3 of dataset 'x': .*{message}"):
        prompt_token_ids(default_packer(tokenizer), item, tokenizer, where="row 3 of dataset 'x'")


def test_chat_messages_need_a_template(bare_tokenizer):
    with pytest.raises(UsageError, match=r"has no chat template\. Set model\.chat_template"):
        ids_of(CHAT, bare_tokenizer)


class Custom(DataPacker):
    def __init__(self, made):
        super().__init__()
        self.made = made

    def get_rollout_input(self, item):
        if isinstance(self.made, Exception):
            raise self.made
        return self.made


@pytest.mark.parametrize(
    "made",
    [
        [13, 14],
        (13, 14),
        np.array([13, 14]),
        {"prompt_token_ids": [13, 14]},
        {"input_ids": np.array([13, 14])},
    ],
)
def test_a_packer_may_return_token_ids_in_several_forms(made, tokenizer):
    assert prompt_token_ids(Custom(made), object(), tokenizer) == [13, 14]


def test_text_returned_by_a_packer_is_encoded(tokenizer):
    assert prompt_token_ids(Custom("1+1="), object(), tokenizer) == tokenizer.encode("1+1=")
    assert prompt_token_ids(Custom({"prompt": "1+1="}), object(), tokenizer) == tokenizer.encode("1+1=")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (None, "packer Custom: get_rollout_input returned a NoneType"),
        ({"image": 1}, "packer Custom: get_rollout_input returned a dict"),
        ([1, "a"], "returned a list"),
        (ValueError("no image"), "packer Custom: row 1 of d raised ValueError: no image"),
    ],
)
def test_a_failing_packer_is_named(made, message, tokenizer):
    with pytest.raises(PluginError, match=message):
        prompt_token_ids(Custom(made), object(), tokenizer, where="row 1 of d")
