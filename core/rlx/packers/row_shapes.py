"""The forms that a dataset row may have: where its prompt is, and where its target.

Rules:

* An item is prompt text, a list of chat messages, or a mapping with `prompt` (text or messages), `messages`, or
  `prompt_token_ids`.
* The target of a mapping, for SFT, is its `completion` (text, or messages that continue the prompt's), else its
  `answer`. A conversation that ends with the assistant's turn contains its targets.
* An `answer` beside such `messages` is a reference answer for rewards, and isn't trained.
* Two columns that contradict each other are an error that names both.
* `tools` and `chat_template_kwargs` go to the chat template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlx.errors import DatasetError
from rlx.packers.messages import Messages, ends_with_assistant, is_messages, read_tools

Prompt = str | Messages | Sequence[int]

PROMPT_COLUMNS = ("prompt_token_ids", "prompt", "messages")
TARGET_COLUMNS = ("completion", "answer")
EXTRA_COLUMNS = ("tools", "chat_template_kwargs")
MEDIA_COLUMNS = ("image", "images", "video", "videos", "audio", "audios")


@dataclass(frozen=True)
class Conversation:
    """Messages whose assistant's turns are trained."""

    messages: Messages
    first: int = 0
    """Index of the first message that is trained: those before it are a prompt."""


@dataclass(frozen=True)
class Completion:
    """A prompt, and the text that answers it."""

    prompt: Prompt
    text: object


@dataclass(frozen=True)
class TrainingRow:
    """A row for SFT: its target, and the further arguments of the chat template."""

    target: Conversation | Completion | None
    """None if the row has no target."""
    extras: dict[str, Any] = field(default_factory=dict)


def prompt_of(item: object) -> Prompt:
    """Return the prompt in a dataset item: text, messages, or token ids. Raises DatasetError if there is none, or more
    than one.
    """
    if isinstance(item, str) or is_messages(item):
        return item
    if not isinstance(item, Mapping):
        raise DatasetError(
            f"a {type(item).__name__} is not a prompt: {short(item)}. "
            "Give text, a list of chat messages, or a mapping with 'prompt' or 'messages'."
        )
    given = [key for key in PROMPT_COLUMNS if item.get(key) is not None]
    if not given:
        columns = ", ".join(repr(name) for name in item) or "none"
        convertible = isinstance(item.get("conversations"), Sequence)
        hint = ". Turn 'conversations' into 'messages': a list of {'role': ..., 'content': ...}" if convertible else ""
        raise DatasetError(f"no column 'prompt' or 'messages'; the columns are: {columns}{hint}")
    key, value = given[0], item[given[0]]
    if key == "prompt_token_ids":
        ids: Sequence[int] = value
        return ids
    if not (isinstance(value, str) or is_messages(value)):
        raise DatasetError(f"{key!r} is a {type(value).__name__}, not text or chat messages: {short(value)}")
    if given == ["prompt", "messages"] and not _begins(item["messages"], value):
        raise _ambiguous("prompt", "messages", "'messages' does not begin with the messages of 'prompt'")
    return value


def extras_of(item: object) -> dict[str, Any]:
    """Return the item's further arguments for the chat template. Raises DatasetError if they are malformed."""
    if not isinstance(item, Mapping):
        return {}
    arguments = item.get("chat_template_kwargs") or {}
    if not isinstance(arguments, Mapping):
        raise DatasetError(f"'chat_template_kwargs' is a {type(arguments).__name__}, not a mapping: {short(arguments)}")
    extras = {str(name): value for name, value in arguments.items() if value is not None}
    tools = read_tools(item.get("tools"))
    return extras if tools is None else extras | {"tools": tools}


def check_text_only(item: object) -> None:
    """Raise DatasetError if the item has images, videos or sounds, which the model would not see."""
    row = item if isinstance(item, Mapping) else {}
    for name in MEDIA_COLUMNS:
        value = row.get(name)
        if value is not None and not (isinstance(value, Sequence) and len(value) == 0):
            raise DatasetError(f"the column {name!r} can't be used: the model reads nothing but text. Leave it out.")


def training_row(item: object) -> TrainingRow:
    """Return what SFT trains of an item. Raises DatasetError if two of its columns contradict each other."""
    if not isinstance(item, Mapping):
        return TrainingRow(Conversation(item) if ends_with_assistant(item) else None)
    return TrainingRow(_target_in(item) if has_prompt(item) else None, extras_of(item))


def has_target(item: object) -> bool:
    """Return whether an item has a target for SFT. Raises DatasetError like `training_row`."""
    return training_row(item).target is not None


def has_prompt(item: Mapping[str, object]) -> bool:
    """Return whether a mapping has a column with a prompt."""
    return any(item.get(key) is not None for key in PROMPT_COLUMNS)


def short(value: object, limit: int = 80) -> str:
    """Return the value's repr, cut to `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def _target_in(item: Mapping[str, Any]) -> Conversation | Completion | None:
    messages, prompt = item.get("messages"), item.get("prompt")
    completion, answer = (item.get(name) for name in TARGET_COLUMNS)
    if ends_with_assistant(messages):
        if completion is not None:
            raise _ambiguous("messages", "completion", "'messages' ends with the assistant's turn, which is a target")
        return Conversation(messages)
    if completion is not None:
        return _with_completion(prompt_of(item), completion)
    if ends_with_assistant(prompt):
        if answer is not None:
            raise _ambiguous("prompt", "answer", "'prompt' ends with the assistant's turn, which is a target")
        return Conversation(prompt)
    return None if answer is None else Completion(prompt_of(item), answer)


def _with_completion(prompt: Prompt, completion: object) -> Conversation | Completion:
    if not is_messages(completion):
        return Completion(prompt, completion)
    if not is_messages(prompt):
        raise DatasetError("'completion' is chat messages, but 'prompt' isn't: make both text, or both messages")
    if not ends_with_assistant(completion):
        raise DatasetError(f"'completion' ends with a message from the {completion[-1]['role']}, not the assistant")
    return Conversation([*prompt, *completion], first=len(prompt))


def _begins(messages: object, prompt: str | Messages) -> bool:
    return is_messages(messages) and is_messages(prompt) and list(messages[: len(prompt)]) == list(prompt)


def _ambiguous(one: str, other: str, why: str) -> DatasetError:
    return DatasetError(f"both {one!r} and {other!r} are given, and {why}: leave out one of the two columns")
