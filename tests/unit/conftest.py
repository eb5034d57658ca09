from __future__ import annotations

import pytest

from rlx.testing.tokenizer import CHAT_TEMPLATE


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A character tokenizer with a chat template; it adds no special tokens."""
    from rlx.testing.models import save_char_tokenizer

    path = tmp_path_factory.mktemp("tokenizer")
    save_char_tokenizer(path, chat_template=CHAT_TEMPLATE)
    return path


@pytest.fixture(scope="session")
def tokenizer(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="session")
def bare_tokenizer(tmp_path_factory):
    """The same, without a chat template."""
    from transformers import AutoTokenizer

    from rlx.testing.models import save_char_tokenizer

    path = tmp_path_factory.mktemp("bare")
    save_char_tokenizer(path)
    return AutoTokenizer.from_pretrained(path)


@pytest.fixture(scope="session")
def wrapping_tokenizer():
    """Adds <bos> (id 0) before and <eos> (id 1) after every text, unless told not to."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["<bos>", "<eos>", "<unk>", *"abcdefgh: \n"])}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    inner.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 0), ("<eos>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        chat_template="<bos>{% for m in messages %}{{ m.content }}{% endfor %}",
    )
