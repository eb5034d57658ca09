from __future__ import annotations

import random
import sys

import pytest

from rlx.testing.tokenizer import CHAT_TEMPLATE


@pytest.fixture(autouse=True)
def _isolated(tmp_path_factory):
    """Restore sys.path and the global random states after each test, and forget modules imported from its files."""
    known, path, python_state = set(sys.modules), list(sys.path), random.getstate()
    torch = sys.modules.get("torch")
    torch_state = torch.get_rng_state() if torch else None
    yield
    sys.path[:] = path
    random.setstate(python_state)
    if torch_state is not None:
        torch.set_rng_state(torch_state)
    temporary = str(tmp_path_factory.getbasetemp())
    for name in set(sys.modules) - known:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(temporary):
            del sys.modules[name]


@pytest.fixture
def arrow_cache(tmp_path, monkeypatch):
    """Write the Arrow files of `datasets` to the test's folder, without progress bars."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    hidden = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    yield
    if not hidden:
        datasets.enable_progress_bars()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The folder of a character tokenizer with a chat template; it adds no special tokens."""
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
    """The character tokenizer without a chat template."""
    from transformers import AutoTokenizer

    from rlx.testing.models import save_char_tokenizer

    path = tmp_path_factory.mktemp("bare")
    save_char_tokenizer(path)
    return AutoTokenizer.from_pretrained(path)


@pytest.fixture(scope="session")
def wrapping_tokenizer():
    """A tokenizer that adds <bos> (id 0) before and <eos> (id 1) after every text by default."""
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
