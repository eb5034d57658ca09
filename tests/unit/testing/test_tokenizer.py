from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlx.testing import CharTokenizer
from rlx.testing.tokenizer import CHAT_TEMPLATE

TURNS = [{"role": "system", "content": "Add."}, {"role": "user", "content": "1+1<eos>é"}]


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The character tokenizer as transformers loads it."""
    from transformers import AutoTokenizer

    from rlx.testing.models import save_char_tokenizer

    path = tmp_path_factory.mktemp("tokenizer")
    save_char_tokenizer(path, chat_template=CHAT_TEMPLATE)
    return AutoTokenizer.from_pretrained(path)


@given(st.text(st.sampled_from("19aZ \n?é<>eospadunk🎲"), max_size=20))
def test_ids_and_texts_equal_those_of_transformers(real, text):
    ids = real.encode(text)
    assert CharTokenizer().encode(text) == CharTokenizer()(text)["input_ids"] == ids
    for skip in (False, True):
        assert CharTokenizer().decode(ids, skip_special_tokens=skip) == real.decode(ids, skip_special_tokens=skip)
        assert CharTokenizer().batch_decode([ids, []], skip_special_tokens=skip) == real.batch_decode(
            [ids, []], skip_special_tokens=skip
        )


@pytest.mark.parametrize("tokenize", [True, False])
@pytest.mark.parametrize("prompt", [True, False])
def test_conversations_are_rendered_like_transformers(real, tokenize, prompt):
    options = {"add_generation_prompt": prompt, "tokenize": tokenize}
    ours, theirs = (one.apply_chat_template(TURNS, **options, return_dict=False) for one in (CharTokenizer(), real))
    assert ours == theirs
    if tokenize:
        assert CharTokenizer().apply_chat_template(TURNS, **options)["input_ids"] == ours


@pytest.mark.parametrize(
    "name",
    ["pad_token", "eos_token", "unk_token", "bos_token", "pad_token_id", "eos_token_id", "unk_token_id", "bos_token_id",
     "vocab_size", "chat_template"],
)  # fmt: skip
def test_special_tokens_are_those_of_transformers(real, name):
    assert getattr(CharTokenizer(), name) == getattr(real, name)
    assert len(CharTokenizer()) == len(real)
