"""The tokenizer of a run: every process loads the same one, from the config alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlx.config.sections.model import ModelConfig
from rlx.errors import UsageError


def load_tokenizer(model: ModelConfig) -> Any:
    """The Hugging Face tokenizer of `model.tokenizer`, else of `model.path`, with `model.chat_template` put in.

    Raises UsageError where there is none.
    """
    from transformers import AutoTokenizer

    place = model.tokenizer or model.path
    _check_folder(place)
    # A revision is the model's; a tokenizer from elsewhere has its own.
    revision = None if model.tokenizer else model.revision
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=model.trust_remote_code)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise UsageError(_no_tokenizer(place, f"{type(error).__name__}: {_first_line(error)}")) from error
    if len(tokenizer) == 0 or not _knows_text(tokenizer):
        raise UsageError(_no_tokenizer(place, "it has no vocabulary"))
    if model.chat_template is not None:
        tokenizer.chat_template = model.chat_template
    return tokenizer


def _check_folder(place: str) -> None:
    """A path that is meant as a folder must be one; transformers would take it for a Hub name and say so."""
    looks_like_path = place.startswith(("/", "./", "../")) or place.count("/") > 1
    if looks_like_path and not Path(place).is_dir():
        raise UsageError(f"There is no folder {place!r} (model.path or model.tokenizer).")


def _knows_text(tokenizer: Any) -> bool:
    # transformers makes an empty tokenizer of some model types where the folder holds a config.json only.
    return bool(tokenizer.encode("0", add_special_tokens=False))


def _no_tokenizer(place: str, why: str) -> str:
    return (
        f"No tokenizer could be loaded from {place!r}: {why}\n"
        "Put tokenizer.json and tokenizer_config.json there, or name another place as model.tokenizer."
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else ""
