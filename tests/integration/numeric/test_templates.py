"""Rows of the forms that people have, with the real chat templates that TRL brings."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlx import DecoderOnlyLLMDataPacker
from rlx.errors import DatasetError, UsageError
from rlx.packers.prompt import prompt_token_ids
from rlx.packers.sft_rows import sft_trajectories
from rlx.testing.models import save_char_tokenizer

FAMILIES = [
    "cohere2", "deepseek_r1_distill", "deepseekv3", "gemma", "gemma3", "gemma4_v5", "glm4moe", "gptoss", "idefics3",
    "lfm2_2_5", "llama3", "llama3_1", "llama3_2", "llava_next", "nemotron_3_nano", "phi3_5", "qwen2_5", "qwen3",
    "qwen3_5_nothink", "qwen3_5_think", "qwen3_6", "qwen3_8", "qwen3_instruct_2507", "smolvlm",
]  # fmt: skip
WITHOUT_TOOLS = {
    "cohere2", "deepseek_r1_distill", "deepseekv3", "gemma", "gemma3", "idefics3", "llama3", "llava_next", "phi3_5",
    "smolvlm",
}  # fmt: skip

USER = {"role": "user", "content": "what is 6*7, friend?"}
ASSISTANT = {"role": "assistant", "content": "forty-two"}
WEATHER = {"name": "weather", "description": "d", "parameters": {"type": "object", "properties": {}}}
THOUGHT = "<think>\nhmm\n</think>\n\nforty-two"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    from transformers import AutoTokenizer

    path = tmp_path_factory.mktemp("tokenizer")
    save_char_tokenizer(path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "<|im_end|>"})
    tokenizer.add_tokens(list('<>|_{}[]"/'))
    return tokenizer


@pytest.fixture(params=FAMILIES)
def family(request, loaded):
    """The name of a template, and the tokenizer with it."""
    import trl

    text = (Path(trl.__file__).parent / "chat_templates" / f"{request.param}.jinja").read_text()
    loaded.chat_template = text
    return request.param, loaded


def prompt_of(tokenizer, item, **options):
    packer = DecoderOnlyLLMDataPacker(**options)
    packer.setup(None, tokenizer)
    return tokenizer.decode(prompt_token_ids(packer, item, tokenizer))


def whole_of(tokenizer, item):
    """Return the trajectory of an SFT row as text."""
    packer = DecoderOnlyLLMDataPacker()
    packer.setup(None, tokenizer)
    (trajectory,) = sft_trajectories(packer, item, None, tokenizer)
    return tokenizer.decode(trajectory.tokens)


def test_content_parts_and_keys_of_arrow_change_nothing(family):
    _, tokenizer = family
    plain = prompt_of(tokenizer, [USER])
    assert USER["content"] in plain
    assert prompt_of(tokenizer, [{**USER, "content": [{"type": "text", "text": USER["content"]}]}]) == plain
    assert prompt_of(tokenizer, [{**USER, "tool_calls": None, "name": None, "reasoning_content": None}]) == plain


def test_a_last_assistant_message_is_refused_or_continued(family):
    _, tokenizer = family
    item = [USER, {"role": "assistant", "content": "let me see"}]
    with pytest.raises(DatasetError, match="prefill = true"):
        prompt_of(tokenizer, item)
    assert prompt_of(tokenizer, item, prefill=True).endswith("let me see")


def test_a_rows_tools_are_in_the_prompt_or_an_error(family):
    name, tokenizer = family
    item = {"messages": [USER], "tools": [{"type": "function", "function": WEATHER}]}
    if name in WITHOUT_TOOLS:
        with pytest.raises(UsageError, match="leaves out the row's tool 'weather'"):
            prompt_of(tokenizer, item)
    else:
        assert "weather" in prompt_of(tokenizer, item)


def test_reasoning_has_one_pair_of_tags(family):
    name, tokenizer = family
    prompt, conversation = {"prompt": [USER], "completion": THOUGHT}, [USER, {"role": "assistant", "content": THOUGHT}]
    if name == "qwen3_5_nothink":
        for item in (prompt, conversation):
            with pytest.raises((DatasetError, UsageError)):
                whole_of(tokenizer, item)
        return
    assert whole_of(tokenizer, prompt).count("<think>") == 1
    assert "\nhmm\n</think>\n\nforty-two" in whole_of(tokenizer, prompt)
    if name in {"deepseek_r1_distill", "deepseekv3"}:  # history leaves the reasoning out: refused
        with pytest.raises(UsageError, match="does not show which tokens"):
            whole_of(tokenizer, conversation)
    else:
        made = whole_of(tokenizer, conversation)
        assert made.count("<think>") == made.count("</think>") <= 1
        assert made.count("hmm") == 1


def test_a_system_message_is_shown_or_the_template_is_blamed(family):
    name, tokenizer = family
    item = [{"role": "system", "content": "answer briefly, please"}, USER]
    if name == "gemma":
        with pytest.raises(UsageError, match=r"chat template of .*System role not supported(?s:.*)instruction = \"\""):
            prompt_of(tokenizer, item)
    else:
        assert "answer briefly, please" in prompt_of(tokenizer, item)
