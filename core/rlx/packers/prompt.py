"""Turn a dataset item into the token ids that an engine reads.

Rules:

* The forms of an item are those of `rlx.packers.row_shapes`.
* Chat messages go through the tokenizer's chat template, which writes its own special tokens: none are added.
* Messages that end with the assistant's are an error, unless the packer continues them (its option `prefill`).
* A packer's own `rollout_collate_fn` gets the inputs one by one, as lists of one: vLLM batches by itself, and the
  tokens of a prompt must not depend on which others wait with it.
* Text that already starts with the tokenizer's BOS (a chat template wrote it) gets no second one. Other text gets the
  special tokens that the tokenizer adds by default, except an EOS at its end: nothing could follow it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from rlx.errors import DatasetError, PluginError
from rlx.packers.batches import attribute_to, overrides, owner_of, to_list
from rlx.packers.chat_template import NO_EXTRAS, Extras, encode_messages
from rlx.packers.messages import Messages, ends_with_assistant, is_messages
from rlx.packers.row_shapes import Prompt, check_text_only, extras_of, prompt_of, short

if TYPE_CHECKING:
    from rlx.packers.protocol import Packer
    from rlx.packers.tokenizer import Tokenizer

__all__ = [
    "Messages",
    "Prompt",
    "encode_item",
    "encode_messages",
    "encode_prompt",
    "encode_text",
    "is_messages",
    "prompt_of",
    "prompt_token_ids",
]

PREFILL_ADVICE = (
    "`[packer] args = { prefill = true }` has the completion continue that message. If it is an answer from data for "
    "SFT, leave it out."
)


class EmptyPromptError(DatasetError):
    """The prompt of a row has no token."""


def prompt_token_ids(packer: Packer, item: object, tokenizer: Tokenizer, *, where: str = "") -> list[int]:
    """Return the token ids that the engine reads for `item`.

    `where` (`row 3 of dataset 'x'`) is put before the messages of errors. Raises DatasetError (the row is not a
    prompt), UsageError (no chat template), PluginError (the packer's fault).
    """
    owner = owner_of(packer)
    with attribute_to(packer, where):
        made = packer.get_rollout_input(item)
        if overrides(packer, "rollout_collate_fn"):
            made = _only_input(packer.rollout_collate_fn([made]), owner)
        ids = _rollout_ids(made, tokenizer, owner)
        if not ids:
            raise EmptyPromptError(f"the prompt is empty: {short(item)}")
    return ids


def encode_item(tokenizer: Tokenizer, item: object, *, prefill: bool = False) -> list[int]:
    """Return the token ids of a dataset item's prompt, by the rules of this module.

    prefill: whether a completion continues the assistant's message that the prompt ends with. Raises DatasetError
    (the row is not a prompt), UsageError (the chat template).
    """
    check_text_only(item)
    return encode_prompt(tokenizer, prompt_of(item), prefill=prefill, extras=extras_of(item))


def encode_prompt(
    tokenizer: Tokenizer, prompt: Prompt, *, prefill: bool = False, extras: Extras = NO_EXTRAS
) -> list[int]:
    """Return the token ids of a prompt, by the rules of this module. `prefill`, errors: as with `encode_item`."""
    if is_messages(prompt):
        continues = ends_with_assistant(prompt)
        if continues and not prefill:
            raise DatasetError(f"the prompt ends with a message of the assistant's. {PREFILL_ADVICE}")
        return encode_messages(tokenizer, prompt, continue_last=continues, extras=extras)
    if "tools" in extras:
        raise DatasetError("'tools' go to the chat template, but 'prompt' is not chat messages: leave out one of them")
    if isinstance(prompt, str):
        return encode_text(tokenizer, prompt)
    return list(cast("Sequence[int]", prompt))


def encode_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the token ids of prompt text, by the rules of this module."""
    bos, eos = tokenizer.bos_token, tokenizer.eos_token
    has_bos = bool(bos and text.startswith(bos))
    ids = [int(token) for token in tokenizer.encode(text, add_special_tokens=not has_bos)]
    if ids and ids[-1] == tokenizer.eos_token_id and not (eos and text.endswith(eos)):
        ids.pop()
    return ids


def _rollout_ids(made: object, tokenizer: Tokenizer, owner: str) -> list[int]:
    """Return the token ids in any of the forms that `get_rollout_input` may return."""
    if isinstance(made, Mapping):
        for key in ("prompt_token_ids", "input_ids", "prompt"):
            if key in made:
                return _rollout_ids(made[key], tokenizer, owner)
    if isinstance(made, str):
        return encode_text(tokenizer, made)
    made = to_list(made)
    if isinstance(made, Sequence) and all(isinstance(token, int) for token in made):
        return list(made)
    raise PluginError(
        f"{owner}: get_rollout_input returned a {type(made).__name__}: {short(made)}. "
        "It must return text, a list of token ids, or a mapping with 'prompt_token_ids'."
    )


def _only_input(batch: Any, owner: str) -> object:
    """Return the only element of a collated batch: a list, array or tensor of length 1."""
    if isinstance(batch, Mapping | str) or not hasattr(batch, "__len__") or len(batch) != 1:
        raise PluginError(
            f"{owner}: rollout_collate_fn got a list of one input and returned a {type(batch).__name__}: "
            f"{short(batch)}. It must return as many inputs as it got."
        )
    return batch[0]
