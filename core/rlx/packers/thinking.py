"""Keep a tag that the chat template's generation prompt opens, such as `<think>`, from being opened twice.

Rules:

* A completion that begins with the tag that the prompt ends with goes on behind it: the tag is left out of it.
* So does one that begins with the empty pair of tags that the prompt ends with (`<think></think>`). One that begins
  with reasoning of its own behind such a pair is an error.
* Reasoning in the content of a message (`<think>...</think>`) is given to the template as `reasoning_content` if the
  template would open a second `<think>` before it otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rlx.errors import DatasetError, UsageError
from rlx.packers.chat_template import SENTINEL, Extras, render_text, shown_messages, template_of

if TYPE_CHECKING:
    from rlx.packers.tokenizer import Tokenizer

_KEY = "reasoning_content"
_TAIL = 64
"""Tokens at a prompt's end that are looked at."""
_TAG = r"(?P<tag><(?P<name>[A-Za-z_][\w:-]*)>|\[[A-Z_]+\])"
_OPENED = re.compile(rf"{_TAG}(?P<space>\s*)\Z")
_EMPTY_PAIR = re.compile(rf"{_TAG}\s*</(?P=name)>(?P<space>\s*)\Z")
_TWICE = re.compile(r"<think>\s*(?:</think>\s*)?<think>")
_REASONING = re.compile(r"\s*<think>(?P<reasoning>.*?)</think>(?P<answer>.*)\Z", re.DOTALL)


def end_of(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    """Return the text of a prompt's last tokens."""
    return tokenizer.decode(list(tokens[-_TAIL:]))


def behind_prompt(prompt: str, completion: str) -> str:
    """Return the completion without the tags at its beginning that the prompt ends with.

    prompt: the end of a rendered prompt. Raises DatasetError if the prompt ends with an empty pair of tags, and the
    completion begins with a pair that isn't empty.
    """
    if opened := _OPENED.search(prompt):
        return _without(completion, re.escape(opened["tag"]), opened["space"])
    if pair := _EMPTY_PAIR.search(prompt):
        rest = _without(completion, rf"{re.escape(pair['tag'])}\s*</{pair['name']}>", pair["space"])
        if rest.lstrip().startswith(pair["tag"]):
            raise DatasetError(
                f"the prompt ends with {pair.group().strip()!r}, for an answer without reasoning, and the completion "
                f"begins with {completion.strip()[:20]!r}: leave the reasoning out, or use a chat template for it"
            )
        return rest
    return completion


def check_opened_once(tokenizer: Tokenizer, text: str, index: int) -> None:
    """Raise UsageError if `text`, which ends with turn `index` of the assistant, opens `<think>` twice at one place."""
    if found := _TWICE.search(text):
        raise UsageError(
            f"{template_of(tokenizer)} writes {found.group()!r} in message {index}: it opens <think> by itself, and "
            "the content opens it again. Put the reasoning into 'reasoning_content', if the template reads it, or "
            "leave it out."
        )


def with_reasoning_apart(tokenizer: Tokenizer, messages: list[dict[str, Any]], extras: Extras) -> list[dict[str, Any]]:
    """Return the messages with reasoning moved from content to `reasoning_content`, if the template opens `<think>`
    twice otherwise and once then; else the messages.
    """
    apart = [_split(message) for message in messages]
    if apart == messages or not _TWICE.search(shown_messages(tokenizer, messages, extras)[1]):
        return messages
    probe = [message | {_KEY: SENTINEL} if _KEY in message else message for message in apart]
    shown = SENTINEL in render_text(tokenizer, probe, extras)
    return apart if shown and not _TWICE.search(render_text(tokenizer, apart, extras)) else messages


def _split(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if message["role"] != "assistant" or _KEY in message or not isinstance(content, str):
        return message
    found = _REASONING.match(content)
    if found is None:
        return message
    return message | {_KEY: found["reasoning"].strip(), "content": found["answer"].lstrip("\n")}


def _without(completion: str, opening: str, space: str) -> str:
    """Return the completion without `opening`, a pattern, and the white space that the prompt has behind it."""
    found = re.match(rf"\s*{opening}", completion)
    return completion if found is None else completion[found.end() :].removeprefix(space)
