"""Find the assistant's turns of a conversation: which tokens they are, and which tokens precede them.

Rules:

* Every turn of the assistant is trained, or only the last one (the packer's `train_on`). Turns of the prompt, and turns
  whose `weight` is 0, are not.
* If the chat template marks what the assistant writes (`{% generation %}`), its mask is used, unless the packer changes
  the prompts (has a `get_rollout_input` of its own).
* Otherwise a turn is the text that the template appends to the prompt that the engine would read before it. That prompt
  must be the beginning of the rendered conversation, token for token. It is an error if it isn't, or if the marks do
  not match the turns.
* Marks that leave out the token that ends a turn are an error: a model trained that way would not learn to stop.
* A template that renders past turns differently from present ones (without their reasoning, say) rewrites history, and
  rewritten history is a new trajectory: each turn is trained after the prompt that the engine would really have read.
* White space after a turn is not trained. The last turn ends with an EOS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeGuard

from rlx.episodes import Segment, Trajectory, masked_tokens, single_turn
from rlx.errors import DatasetError, UsageError
from rlx.packers.batches import overrides
from rlx.packers.chat_template import (
    NO_EXTRAS,
    Extras,
    apply_template,
    check_reasoning_shown,
    encode_messages,
    shown_messages,
)
from rlx.packers.messages import ASSISTANT, Messages, clean_messages
from rlx.packers.prompt import prompt_token_ids
from rlx.packers.thinking import check_opened_once, end_of, with_reasoning_apart

if TYPE_CHECKING:
    from rlx.packers.protocol import Packer
    from rlx.packers.tokenizer import FastTokenizer, Tokenizer

_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")
_ADVICE = (
    "Put {% generation %} and {% endgeneration %} around what the assistant writes and set that template as "
    "model.chat_template, or use a packer with an sft_process_sample of its own."
)


def conversation_trajectories(
    packer: Packer, messages: Messages, tokenizer: Tokenizer, *, first: int = 0, extras: Extras = NO_EXTRAS
) -> list[Trajectory]:
    """Return the trajectories of a conversation that ends with the assistant's turn: one, or several if the template
    rewrites history.

    first: the messages before this index are a prompt, and not trained. extras: further arguments of the template.

    Raises DatasetError (a turn without content, or no prompt before it), UsageError (the turns can't be located).
    """
    turns = _trained_turns(messages, first)
    last_only = getattr(packer, "train_on", "all") == "last"
    if last_only:
        turns = turns[-1:]
    own_prompts = overrides(packer, "get_rollout_input", "rollout_collate_fn")
    cleaned = clean_messages(messages)
    if getattr(tokenizer, "chat_template", None):
        cleaned = with_reasoning_apart(tokenizer, cleaned, extras)
    if _marks_turns(tokenizer) and not own_prompts and not last_only:
        marked = _marked_trajectory(cleaned, turns, tokenizer, extras)
        if marked is not None:
            return [marked]
    arguments = {name: value for name, value in extras.items() if name != "tools"}
    columns = {"tools": extras.get("tools"), "chat_template_kwargs": arguments}
    trajectories: list[Trajectory] = []
    for index in turns:
        before = _before(cleaned, index)
        # Encoded here, since a default packer refuses a prompt that ends with another turn of the assistant's.
        encoded = None if own_prompts else encode_messages(tokenizer, before, extras=extras)
        given = {"messages": before, **columns} if extras else before
        prompt = prompt_token_ids(packer, given, tokenizer) if encoded is None else encoded
        if turn := _turn_tokens(cleaned, index, tokenizer, extras):
            check_opened_once(tokenizer, end_of(tokenizer, prompt) + tokenizer.decode(turn), index)
            _append(trajectories, prompt, turn)
    return trajectories


def encode_target(tokenizer: Tokenizer, text: object) -> list[int]:
    """Return the token ids of an answer, with one EOS at the end."""
    if not isinstance(text, str):
        raise DatasetError(f"the target is a {type(text).__name__}, not text: {text!r:.80}")
    return _with_eos([int(token) for token in tokenizer.encode(text, add_special_tokens=False)], tokenizer)


def _trained_turns(messages: Messages, first: int) -> list[int]:
    """Return the indices of the messages to train. Raises DatasetError for a weight other than 0 and 1."""
    for index, message in enumerate(messages):
        if message.get("weight") not in {None, 0, 1}:
            raise DatasetError(f"the weight of message {index} is {message['weight']!r:.80}; it must be 0 or 1")
    turns = [index for index in range(first, len(messages)) if messages[index]["role"] == ASSISTANT]
    trained = [index for index in turns if messages[index].get("weight") != 0]
    if not trained:
        raise DatasetError("all turns of the assistant have the weight 0: there is nothing to train")
    return trained


def _before(messages: list[dict[str, Any]], index: int) -> list[dict[str, Any]]:
    if index == 0:
        raise DatasetError(
            "the conversation begins with the assistant: nothing precedes that turn. Begin with the user's message, or "
            "give the turn the weight 0"
        )
    return messages[:index]


def _turn_tokens(messages: list[dict[str, Any]], index: int, tokenizer: Tokenizer, extras: Extras) -> list[int]:
    """Return the tokens of turn `index`, without white space at its end."""
    if not getattr(tokenizer, "chat_template", None):  # the packer writes prompts in its own way
        return encode_target(tokenizer, messages[index].get("content"))
    prompt = encode_messages(tokenizer, _before(messages, index), extras=extras)
    rendered = encode_messages(tokenizer, messages[: index + 1], generation_prompt=False, extras=extras)
    if rendered[: len(prompt)] != prompt:
        raise UsageError(
            f"The chat template of {tokenizer.name_or_path!r} does not show which tokens of message {index} are the "
            f"assistant's: the prompt before it ends with {tokenizer.decode(prompt[-8:])!r}, and the conversation "
            f"rendered with the turn does not continue from there. {_ADVICE}"
        )
    _, text = shown_messages(tokenizer, messages[: index + 1], extras)
    check_reasoning_shown(tokenizer, messages[index], text, index)
    turn = rendered[len(prompt) :]
    while turn and not tokenizer.decode(turn[-1:]).strip():
        turn.pop()
    return _with_eos(turn, tokenizer) if index == len(messages) - 1 else turn


def _append(trajectories: list[Trajectory], prompt: list[int], turn: list[int]) -> None:
    """Append a turn to the last trajectory if its prompt continues that one, else start a new trajectory."""
    previous = trajectories[-1].tokens if trajectories else []
    if previous and prompt[: len(previous)] == previous:
        between = [Segment("observed", prompt[len(previous) :])] if len(prompt) > len(previous) else []
        trajectories[-1].segments += [*between, Segment("sampled", turn, finish_reason="stop")]
    else:
        trajectories.append(single_turn(prompt, turn, finish_reason="stop"))


def _with_eos(turn: list[int], tokenizer: Tokenizer) -> list[int]:
    eos = tokenizer.eos_token_id
    if eos is None:
        raise UsageError(f"The tokenizer of {tokenizer.name_or_path!r} has no EOS token to end an answer with.")
    return turn if turn and turn[-1] == eos else [*turn, int(eos)]


def _marks_turns(tokenizer: Tokenizer) -> TypeGuard[FastTokenizer]:
    """Return whether the chat template has `{% generation %}` marks, and the tokenizer can make a mask of them."""
    template = getattr(tokenizer, "chat_template", None)
    text = template.get("default") if isinstance(template, Mapping) else template
    return bool(_MARK.search(text or "")) and getattr(tokenizer, "is_fast", False)


def _marked_trajectory(
    messages: list[dict[str, Any]], trained: list[int], tokenizer: FastTokenizer, extras: Extras
) -> Trajectory | None:
    """Return the conversation with the mask of the template's marks; None if the marks can't separate the turns that
    are trained from the others.
    """
    shown, text = shown_messages(tokenizer, messages, extras)
    rendered = apply_template(
        tokenizer, shown, extras, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    mask = [bool(trained) for trained in rendered["assistant_masks"]]
    # If a character at a turn's edge has no token, transformers marks everything after it, or nothing.
    marked = sum(trained for trained, _ in groupby(mask))
    every = [index for index, message in enumerate(messages) if message["role"] == ASSISTANT]
    turns = sum(role == ASSISTANT for role, _ in groupby(message["role"] for message in messages))
    if marked < turns or all(mask):
        raise UsageError(
            f"The {{% generation %}} marks in the chat template of {tokenizer.name_or_path!r} do not show which tokens "
            f"are the assistant's: they cover {marked} runs of tokens, but the assistant has {turns} turns. {_ADVICE}"
        )
    tokens = [int(token) for token in rendered["input_ids"]]
    _check_ends(tokens, mask, tokenizer)
    if trained != every:
        if marked != len(every):
            return None
        mask = _only_runs(mask, [index in trained for index in every])
    for index in trained:
        check_reasoning_shown(tokenizer, messages[index], text, index)
    check_opened_once(tokenizer, text, len(messages) - 1)
    return masked_tokens(tokens, mask)


def _only_runs(mask: list[bool], keep: list[bool]) -> list[bool]:
    """Return the mask with only those of its runs of True that `keep` has at their number."""
    kept = iter(keep)
    made: list[bool] = []
    for marked, run in groupby(mask):
        made += [marked and next(kept)] * len(list(run))
    return made


def _check_ends(tokens: list[int], mask: list[bool], tokenizer: FastTokenizer) -> None:
    """Raise UsageError if the mask leaves out the special token that ends a turn."""
    special = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    ends = special - {tokenizer.unk_token_id}  # a character outside the vocabulary doesn't end a turn
    for index in range(1, len(tokens)):
        if mask[index - 1] and not mask[index] and tokens[index] in ends and tokens[index - 1] not in ends:
            raise UsageError(
                f"The {{% generation %}} marks in the chat template of {tokenizer.name_or_path!r} leave out the "
                f"{tokenizer.decode(tokens[index : index + 1])!r} that ends the assistant's turn: the model would not "
                "learn to stop. Move {% endgeneration %} after it and set that template as model.chat_template."
            )
