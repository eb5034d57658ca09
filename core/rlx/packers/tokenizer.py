"""The tokenizer of a run: its type, and how to load it. Every process loads the same one, from the config alone."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from rlx.config.sections.model import ModelConfig
from rlx.errors import UsageError, first_line

_TOKENIZER_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.py"]


_TOKENIZERS = "transformers.tokenization_utils_tokenizers:TokenizersBackend"
_QWEN2 = "transformers.models.qwen2.tokenization_qwen2:Qwen2Tokenizer"
_CLASSES: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("llama", "TokenizersBackend"): _TOKENIZERS,
        ("llama", "PreTrainedTokenizer"): _TOKENIZERS,
        ("qwen3", "TokenizersBackend"): _TOKENIZERS,
        ("qwen3", "PreTrainedTokenizer"): _TOKENIZERS,
        ("qwen2", "Qwen2Tokenizer"): _QWEN2,
        ("qwen3", "Qwen2Tokenizer"): _QWEN2,
    }
)
"""Type of a model and `tokenizer_class` (without `Fast`) -> the class that `AutoTokenizer` chooses, by a test."""


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that rlx uses. `rlx.testing.CharTokenizer` has it too."""

    @property
    def name_or_path(self) -> str:
        """The folder or Hub name that it was loaded from, for messages."""

    @property
    def chat_template(self) -> str | Mapping[str, str] | None:
        """Jinja template for chat messages, or several by name; None if it has none."""

    @property
    def bos_token(self) -> str | None: ...
    @property
    def eos_token(self) -> str | None: ...
    @property
    def bos_token_id(self) -> int | None: ...
    @property
    def eos_token_id(self) -> int | None: ...
    @property
    def pad_token_id(self) -> int | None: ...

    def __len__(self) -> int:
        """Size of the vocabulary, added tokens included."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`."""

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool = False) -> str:
        """The text of `token_ids`."""

    def batch_decode(self, sequences: list[list[int]], *, skip_special_tokens: bool = False) -> list[str]:
        """The text of each sequence."""

    def apply_chat_template(
        self,
        conversation: list[dict[str, Any]],
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = True,
        return_dict: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Text, token ids or a dict with `input_ids`, as the flags say; `kwargs` go to the template, `tools` among
        them. Raises ValueError if it has no template.
        """


class FastTokenizer(Tokenizer, Protocol):
    """A tokenizer that knows which characters each of its tokens stands for (`is_fast`)."""

    @property
    def unk_token_id(self) -> int | None: ...
    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        """Added tokens by id; each has an attribute `special`."""

    def apply_chat_template(
        self,
        conversation: list[dict[str, Any]],
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = True,
        return_dict: bool = True,
        return_assistant_tokens_mask: bool = False,
        **kwargs: Any,
    ) -> Any:
        """With `return_assistant_tokens_mask`, the dict also has `assistant_masks`: 1 for tokens that the template's
        `{% generation %}` marks cover.
        """


def load_tokenizer(model: ModelConfig) -> Tokenizer:
    """Load the Hugging Face tokenizer of `model.tokenizer`, else of `model.path`, and set its `model.chat_template`.

    Raises UsageError if it can't be loaded.
    """
    source = model.tokenizer or model.path
    _check_folder(source)
    # A revision is the model's; a tokenizer from elsewhere has its own.
    revision = None if model.tokenizer else model.revision
    try:
        known = _known_class(Path(source))
        if known is not None:
            tokenizer = known.from_pretrained(source)
        else:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(
                source, revision=revision, trust_remote_code=model.trust_remote_code
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise UsageError(_no_tokenizer(source, f"{type(error).__name__}: {first_line(error)}")) from error
    # transformers makes an empty tokenizer of some model types if the folder holds only a config.json.
    if len(tokenizer) == 0 or not tokenizer.encode("0", add_special_tokens=False):
        raise UsageError(_no_tokenizer(source, "it has no vocabulary"))
    if model.chat_template is not None:
        tokenizer.chat_template = model.chat_template
    # rlx compares prompts with the context itself, and names the row; transformers' warning would come before that.
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    loaded: Tokenizer = tokenizer
    return loaded


def tokenizer_folder(model: ModelConfig) -> Path | None:
    """Return the folder of `model.tokenizer`, downloaded from the Hub if it is a name there; None if it isn't set.

    Raises UsageError if it can't be downloaded.
    """
    source = model.tokenizer
    if source is None or Path(source).is_dir():
        return None if source is None else Path(source)
    _check_folder(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, allow_patterns=_TOKENIZER_FILES))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise UsageError(_no_tokenizer(source, first_line(error))) from error


def _known_class(folder: Path) -> Any:
    """Return the class of a folder's tokenizer if it is one of `_CLASSES`, else None.

    `AutoTokenizer` would choose the same one, but importing it imports torch, which takes seconds.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        own = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        key = config["model_type"], own["tokenizer_class"].removesuffix("Fast")
        if "auto_map" in config or "auto_map" in own or not (folder / "tokenizer.json").is_file():
            return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # AutoTokenizer says what is wrong with it
        return None
    module, _, name = _CLASSES.get(key, "").partition(":")
    return getattr(importlib.import_module(module), name) if module else None


def _check_folder(source: str) -> None:
    """Raise UsageError if `source` is written as a path but isn't a folder. transformers would take it for a Hub name
    and report that.
    """
    looks_like_path = source.startswith(("/", "./", "../")) or source.count("/") > 1
    if looks_like_path and not Path(source).is_dir():
        raise UsageError(f"The folder {source!r} does not exist (model.path or model.tokenizer).")


def _no_tokenizer(source: str, why: str) -> str:
    return (
        f"No tokenizer could be loaded from {source!r}: {why}\n"
        "Put tokenizer.json and tokenizer_config.json there, or set model.tokenizer to another folder or Hub name."
    )
