"""Render chat messages with a tokenizer's chat template, and compare the text with the messages.

Rules:

* A template that raises, or can't be parsed, is named in the error; the packer that called it isn't at fault.
* All content must be in the text. A template may trim it, escape it, or leave out the reasoning of past turns. A
  message, tool or tool call of which nothing is left is an error.
* `extras` are the row's further arguments for the template: its `tools`, and its `chat_template_kwargs`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rlx.errors import UsageError, attribute
from rlx.packers.messages import clean_messages

if TYPE_CHECKING:
    from rlx.packers.messages import Messages
    from rlx.packers.tokenizer import Tokenizer

Extras = Mapping[str, Any]
NO_EXTRAS: Extras = {}

REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
_END_OF_REASONING = "</think>"
SENTINEL = "zqxSENTINELxqz"
"""Text that no template contains."""


class NoChatTemplate(UsageError):  # noqa: N818 - the condition is the name
    """A prompt is chat messages, and the tokenizer has no chat template."""


def encode_messages(
    tokenizer: Tokenizer,
    messages: Messages,
    *,
    generation_prompt: bool = True,
    continue_last: bool = False,
    extras: Extras = NO_EXTRAS,
) -> list[int]:
    """Return the token ids of a conversation, with the beginning of the assistant's next turn if `generation_prompt`.

    continue_last: leave the last message open, so that the completion continues it (instead of `generation_prompt`).

    Raises UsageError if the tokenizer has no chat template, or if the template can't render the messages; DatasetError
    if the messages are malformed.
    """
    shown, _ = shown_messages(tokenizer, clean_messages(messages), extras)
    flags = {"continue_final_message": True} if continue_last else {"add_generation_prompt": generation_prompt}
    ids = apply_template(tokenizer, shown, extras, tokenize=True, return_dict=False, **flags)
    return [int(token) for token in ids]


def shown_messages(
    tokenizer: Tokenizer, messages: list[dict[str, Any]], extras: Extras
) -> tuple[list[dict[str, Any]], str]:
    """Return the messages in the form that the template takes, and the text that it makes of them.

    Their contents are text, or lists of one content part if the template reads nothing else (as those of models with
    vision do). Raises UsageError if the template shows neither.
    """
    try:
        shown, text = messages, _text_with_contents(tokenizer, messages, extras)
    except UsageError as first:
        shown = [_in_parts(message) for message in messages]
        try:
            text = _text_with_contents(tokenizer, shown, extras)
        except UsageError:
            raise first from None
    _check_tools(tokenizer, messages, extras, text)
    return shown, text


def render_text(tokenizer: Tokenizer, messages: list[dict[str, Any]], extras: Extras = NO_EXTRAS, **flags: bool) -> str:
    """Return a conversation as text. The messages are clean already."""
    return str(apply_template(tokenizer, messages, extras, tokenize=False, **flags))


def apply_template(tokenizer: Tokenizer, messages: list[dict[str, Any]], extras: Extras, **flags: bool) -> Any:
    """Call the tokenizer's `apply_chat_template`. Raises UsageError that names the template if it raises."""
    if not getattr(tokenizer, "chat_template", None):
        raise NoChatTemplate(
            f"The prompts are chat messages, but the tokenizer of {tokenizer.name_or_path!r} has no chat template. "
            "Set model.chat_template, or use prompts of text."
        )

    def advice(error: BaseException) -> str:
        if type(error).__name__ == "TemplateSyntaxError":
            return "Correct model.chat_template, or the template in the tokenizer's folder."
        roles = ", ".join(message["role"] for message in messages[:8])
        rows = f"The roles of the messages are: {roles}{', ...' if len(messages) > 8 else ''}."
        if messages[0]["role"] == "system" and any(message["role"] == "user" for message in messages):
            return (
                f'{rows} For a template without system messages, leave them out (dataset option `instruction = ""`, or '
                "no `system_prompt`)."
            )
        return f"{rows} Give messages that this template takes, or set another one as model.chat_template."

    with attribute(template_of(tokenizer), "rendering the messages", as_=UsageError, advice=advice):
        return tokenizer.apply_chat_template([dict(message) for message in messages], **flags, **extras)


def template_of(tokenizer: Tokenizer) -> str:
    """Return the template's name for messages."""
    return f"the chat template of {tokenizer.name_or_path!r} (its own, or model.chat_template)"


def check_reasoning_shown(tokenizer: Tokenizer, message: Mapping[str, Any], text: str, index: int) -> None:
    """Raise UsageError if the reasoning of a trained turn is not in `text`, the rendered turn."""
    for key in REASONING_KEYS:
        value = message.get(key)
        if isinstance(value, str) and value.strip() and not _shows(text, value):
            raise UsageError(
                f"{template_of(tokenizer)} leaves out the {key!r} of message {index}, which is to be trained: "
                f"{value!r:.80}. Put it into the content, or use a template that shows it."
            )


def _text_with_contents(tokenizer: Tokenizer, messages: list[dict[str, Any]], extras: Extras) -> str:
    """Return the rendered text. Raises UsageError if the content of a message left no trace in it."""
    text = render_text(tokenizer, messages, extras)
    for index, message in enumerate(messages):
        content = _text_of(message)
        if not _shows(text, content) and not _keeps_place(tokenizer, messages, index, extras):
            raise UsageError(
                f"{template_of(tokenizer)} leaves out the content of message {index}, from the {message['role']}: "
                f"{content!r:.80}. Use a template that shows it, or give the message another role."
            )
    return text


def _check_tools(tokenizer: Tokenizer, messages: list[dict[str, Any]], extras: Extras, text: str) -> None:
    """Raise UsageError if a tool, or the call of one, left no trace in `text`, the rendered conversation."""
    tools = [(name, "the row's tool", "the column 'tools'") for name in _names(extras.get("tools"))]
    for index, message in enumerate(messages):
        tools += [(name, f"message {index}'s call of", "tool_calls") for name in _names(message.get("tool_calls"))]
    for name, thing, column in tools:
        if name not in text:
            raise UsageError(
                f"{template_of(tokenizer)} leaves out {thing} {name!r:.80}. Use a template for tools, or leave "
                f"{column} out."
            )


def _in_parts(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def _text_of(message: dict[str, Any]) -> str:
    """Return the message's text; empty if its content is data."""
    match message.get("content"):
        case str(text) | [{"type": "text", "text": str(text)}]:
            return text
    return ""


def _shows(text: str, content: str) -> bool:
    """Return whether `text` contains the content: trimmed, escaped as in JSON, or without its reasoning."""
    answer = content.rpartition(_END_OF_REASONING)[2].strip()
    return answer in text or json.dumps(answer, ensure_ascii=False)[1:-1] in text


def _keeps_place(tokenizer: Tokenizer, messages: list[dict[str, Any]], index: int, extras: Extras) -> bool:
    """Return whether the template shows other content in the place of message `index`: it changed the content only."""
    other = {**messages[index], "content": SENTINEL}
    probe = [*messages]
    probe[index] = other if isinstance(messages[index]["content"], str) else _in_parts(other)
    try:
        return SENTINEL.casefold() in render_text(tokenizer, probe, extras).casefold()
    except UsageError:  # the template looks into the content: nothing is known of it
        return True


def _names(tools: object) -> Iterator[str]:
    """Yield the function names of tools or tool calls."""
    for tool in tools if isinstance(tools, list) else []:
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if isinstance(name, str):
            yield name
