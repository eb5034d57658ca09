"""Bring chat messages into the form that chat templates read.

Rules:

* Keys that are None are left out, at every depth: Arrow gives each message of a file all the keys that any of them has.
  Only the content of a message with tool calls may be None, as some templates ask for it. Tool calls that are an empty
  list are left out, too.
* The content of a message is text. Of a list of content parts the texts are joined; a part of another type is an error.
  A tool's message may hold data.
* `weight`, which says whether a turn is trained, is kept from the template.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from rlx.errors import DatasetError

Messages = Sequence[Mapping[str, Any]]
"""A conversation: `{"role": ..., "content": ...}`, and whatever else the chat template reads."""

ASSISTANT = "assistant"
_TEXT_PARTS = {"text", "input_text", "output_text"}
_LABELS = {"role", "name", "id", "weight"}
"""Keys of a message that say nothing by themselves."""


def is_messages(value: object) -> TypeGuard[Messages]:
    """Return whether `value` is a conversation: a non-empty list of mappings with a `role`."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str | bytes)
        and len(value) > 0
        and all(isinstance(message, Mapping) and "role" in message for message in value)
    )


def ends_with_assistant(value: object) -> TypeGuard[Messages]:
    """Return whether `value` is a conversation whose last message is the assistant's."""
    return is_messages(value) and value[-1]["role"] == ASSISTANT


def clean_messages(messages: Messages) -> list[dict[str, Any]]:
    """Return the messages by the rules of this module. Raises DatasetError that names the message."""
    return [_clean(message, index) for index, message in enumerate(messages)]


def read_tools(tools: object) -> list[Any] | None:
    """Return the tools of a row: a list, or JSON text of one; its elements may be JSON text as well. None if there are
    none.

    Raises DatasetError if they are something else.
    """
    found = _from_json(tools) if isinstance(tools, str) and tools.strip() else tools
    if found is None or found in ("", [], ()):
        return None
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise DatasetError(f"'tools' is a {type(found).__name__}, not a list of tools: {found!r:.80}")
    read = [_from_json(tool) if isinstance(tool, str) else tool for tool in found]
    return [without_none(tool) for tool in read]


def without_none(value: Any) -> Any:
    """Return mappings and lists without the keys that are None, at every depth; anything else as it is."""
    if isinstance(value, Mapping):
        return {key: without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [without_none(inner) for inner in value]
    return value


def _clean(message: Mapping[str, Any], index: int) -> dict[str, Any]:
    role = message["role"]
    if not isinstance(role, str) or not role:
        raise DatasetError(f"the role of message {index} is {role!r:.80}, not text")
    cleaned = {key: without_none(value) for key, value in message.items() if value is not None and key != "weight"}
    if not cleaned.get("tool_calls", True):
        del cleaned["tool_calls"]
    if "content" in cleaned:
        cleaned["content"] = _content(message["content"], role, f"message {index}, from the {role},")
    elif "tool_calls" in cleaned and "content" in message:
        cleaned["content"] = None
    elif not cleaned.keys() - _LABELS:
        raise DatasetError(f"message {index}, from the {role}, has neither content nor tool_calls")
    return cleaned


def _content(content: object, role: str, where: str) -> object:
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and all(
        isinstance(part, str) or (isinstance(part, Mapping) and ("type" in part or "text" in part)) for part in content
    ):
        return "".join(_part_text(part, where) for part in content)
    if role == "tool":
        return without_none(content)
    raise DatasetError(
        f"{where} has a {type(content).__name__} as content, not text or a list of content parts: {content!r:.80}"
    )


def _part_text(part: str | Mapping[str, Any], where: str) -> str:
    if isinstance(part, str):
        return part
    kind, text = part.get("type") or "text", part.get("text")
    if kind not in _TEXT_PARTS:
        raise DatasetError(f"{where} has a content part of type {kind!r:.80}, and the model reads nothing but text")
    if not isinstance(text, str):
        raise DatasetError(f"{where} has a content part of type {kind!r} whose text is {text!r:.80}")
    return text


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DatasetError(f"'tools' is text that isn't JSON ({error}): {text!r:.80}") from error
