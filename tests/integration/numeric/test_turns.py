"""Assistant turns that rlx finds in chat templates, compared with the turns that TRL's templates mark."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlx import DecoderOnlyLLMDataPacker
from rlx.packers.sft_rows import sft_trajectories
from rlx.testing.models import save_char_tokenizer

CHAT = [
    {"role": "user", "content": "what is 1+1?"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "and 2+2?"},
    {"role": "assistant", "content": "4, of course"},
]


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """`load(template, eos)`: a character tokenizer with this chat template and end of turn."""
    from transformers import AutoTokenizer

    path = tmp_path_factory.mktemp("tokenizer")
    save_char_tokenizer(path)

    def load(template, eos):
        tokenizer = AutoTokenizer.from_pretrained(path)
        tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": eos})
        tokenizer.chat_template = template
        return tokenizer

    return load


@pytest.mark.parametrize(
    ("family", "eos"),
    [
        ("gemma", "<end_of_turn>"),
        ("gemma3", "<end_of_turn>"),
        ("lfm2", "<|im_end|>"),
        ("llama3", "<|eot_id|>"),
        ("qwen2_5", "<|im_end|>"),
        ("qwen3_instruct_2507", "<|im_end|>"),
    ],
)
def test_the_turns_found_are_those_that_the_templates_of_trl_mark(family, eos, load):
    import trl

    trained = {}
    for kind in ("", "_training"):
        template = (Path(trl.__file__).parent / "chat_templates" / f"{family}{kind}.jinja").read_text()
        assert ("{% generation %}" in template or "{%- generation %}" in template) == bool(kind)
        tokenizer = load(template, eos)
        packer = DecoderOnlyLLMDataPacker()
        packer.setup(None, tokenizer)
        (trajectory,) = sft_trajectories(packer, {"messages": CHAT}, None, tokenizer)
        turns = [segment.tokens for segment in trajectory.segments if segment.learns]
        # TRL's marks include the white space around a turn.
        trained[kind] = [tokenizer.decode(turn).strip() for turn in turns]
    assert trained[""] == trained["_training"] == [f"2{eos}", f"4, of course{eos}"]
