"""Turn a dataset item into the token ids that an engine reads.

Rules:

* An item is prompt text, a list of chat messages, or a mapping with `prompt` (text or messages), `messages`, or
  `prompt_token_ids`.
* Chat messages go through the tokenizer's chat template, which writes its own special tokens: none are added.
* A packer's own `rollout_collate_fn` gets the inputs one by one, as lists of one: vLLM batches by itself, and the
  tokens of a prompt must not depend on which others wait with it.
* Text that already starts with the tokenizer's BOS (a chat template wrote it) gets no second one. Other text gets the
  special tokens that the tokenizer adds by default, except an EOS at its end: nothing could follow it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from rlx.errors import DatasetError, PluginError, UsageError
from rlx.packers.batches import attribute_to, overrides, owner_of, to_list

if TYPE_CHECKING:
    from rlx.packers.protocol import Packer
    from rlx.packers.tokenizer import Tokenizer

Messages = Sequence[Mapping[str, Any]]
"""A conversation: `{"role": ..., "content": ...}`, and whatever else the chat template reads."""
Prompt = str | Messages | Sequence[int]


def prompt_of(item: object) -> Prompt:
    """Return the prompt in a dataset item: text, messages, or token ids. Raises DatasetError if there is none."""
    if isinstance(item, Mapping):
        return _prompt_in(item)
    if isinstance(item, str) or is_messages(item):
        return item
    raise DatasetError(
        f"a {type(item).__name__} is not a prompt: {_short(item)}. "
        "Give text, a list of chat messages, or a mapping with 'prompt' or 'messages'."
    )


def is_messages(value: object) -> TypeGuard[Messages]:
    """Return whether `value` is a conversation: a non-empty list of mappings with a `role`."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str | bytes)
        and len(value) > 0
        and all(isinstance(message, Mapping) and "role" in message for message in value)
    )


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
            raise DatasetError(f"the prompt is empty: {_short(item)}")
    return ids


def encode_prompt(tokenizer: Tokenizer, prompt: Prompt) -> list[int]:
    """Return the token ids of a prompt, by the rules of this module."""
    if isinstance(prompt, str):
        return encode_text(tokenizer, prompt)
    if is_messages(prompt):
        return encode_messages(tokenizer, prompt)
    return list(cast("Sequence[int]", prompt))


def encode_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the token ids of prompt text, by the rules of this module."""
    bos, eos = tokenizer.bos_token, tokenizer.eos_token
    has_bos = bool(bos and text.startswith(bos))
    ids = [int(token) for token in tokenizer.encode(text, add_special_tokens=not has_bos)]
    if ids and ids[-1] == tokenizer.eos_token_id and not (eos and text.endswith(eos)):
        ids.pop()
    return ids


def encode_messages(tokenizer: Tokenizer, messages: Messages, *, generation_prompt: bool = True) -> list[int]:
    """Return the token ids of a conversation, with the beginning of the assistant's next turn if `generation_prompt`.

    Raises UsageError if the tokenizer has no chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError(
            f"The prompts are chat messages, but the tokenizer of {tokenizer.name_or_path!r} has no chat template. "
            "Set model.chat_template, or use prompts of text."
        )
    ids = tokenizer.apply_chat_template(
        [dict(message) for message in messages],
        add_generation_prompt=generation_prompt,
        tokenize=True,
        return_dict=False,
    )
    return [int(token) for token in ids]


def _prompt_in(item: Mapping[str, Any]) -> Prompt:
    for key in ("prompt_token_ids", "prompt", "messages"):
        value = item.get(key)
        if value is None:
            continue
        if key == "prompt_token_ids" or isinstance(value, str) or is_messages(value):
            prompt: Prompt = value
            return prompt
        raise DatasetError(f"{key!r} is a {type(value).__name__}, not text or chat messages: {_short(value)}")
    columns = ", ".join(repr(name) for name in item) or "none"
    raise DatasetError(f"no column 'prompt' or 'messages'; the columns are: {columns}")


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
        f"{owner}: get_rollout_input returned a {type(made).__name__}: {_short(made)}. "
        "It must return text, a list of token ids, or a mapping with 'prompt_token_ids'."
    )


def _only_input(batch: Any, owner: str) -> object:
    """Return the only element of a collated batch: a list, array or tensor of length 1."""
    if isinstance(batch, Mapping | str) or not hasattr(batch, "__len__") or len(batch) != 1:
        raise PluginError(
            f"{owner}: rollout_collate_fn got a list of one input and returned a {type(batch).__name__}: "
            f"{_short(batch)}. It must return as many inputs as it got."
        )
    return batch[0]


def _short(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
