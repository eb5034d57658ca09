"""From a dataset row to what supervised fine-tuning trains on.

The rules of this part:

* A row's target is `completion`, else `answer`, else the last message where that is the assistant's; a row without one
  is completed by the dataset's reference answer.
* The trajectory is what sampling would have made of the row: the prompt as the engine would read it (the packer's
  `get_rollout_input`), then the target and an EOS, all of it trained.
* A packer with an `sft_process_sample` of its own decides otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rlx.api.prompt import is_messages, prompt_of, prompt_token_ids
from rlx.api.types import Segment, SegmentKind, Trajectory, single_turn
from rlx.errors import DatasetError, PluginError, RlxError, UsageError

IGNORE_LABEL = -100
"""A label of this value is not trained on."""


def sft_trajectory(packer: Any, item: Any, reference: Any, tokenizer: Any, *, where: str = "") -> Trajectory:
    """What SFT trains on for one row. `where` (`row 3 of dataset 'x'`) is put before the messages of errors.

    Raises DatasetError (no target in the row), UsageError (no chat template or EOS), PluginError (the packer's fault).
    """
    owner = f"packer {type(packer).__name__}"
    try:
        row = with_target(item, reference)
        if hasattr(packer, "sft_process_sample"):
            return to_trajectory(packer.sft_process_sample(row), owner)
        return target_trajectory(packer, row, tokenizer)
    except RlxError as error:
        raise type(error)(f"{where}: {error}" if where else str(error)) from error
    except Exception as error:  # the boundary: whatever a packer raises is the packer's
        at = f" at {where}" if where else ""
        raise PluginError(f"{owner} failed{at}: {type(error).__name__}: {error}") from error


def with_target(item: Any, reference: Any) -> Any:
    """The item where it has a target (or has a form that only its own packer knows), else prompt and reference."""
    known = isinstance(item, str) or is_messages(item) or (isinstance(item, Mapping) and _has_prompt(item))
    if not known or reference is None or _find_target(item) is not None:
        return item
    return {"prompt": prompt_of(item), "completion": reference}


def target_trajectory(packer: Any, item: Any, tokenizer: Any) -> Trajectory:
    """Prompt and target of a row, tokenised."""
    found = _find_target(item)
    if found is None:
        raise DatasetError("no target: give a last message of the assistant's, 'completion', 'answer', or a reference")
    prompt, target = found
    if not isinstance(target, str):
        raise DatasetError(f"the target is a {type(target).__name__}, not text: {target!r:.80}")
    return single_turn(
        prompt_token_ids(packer, prompt, tokenizer), encode_target(tokenizer, target), finish_reason="stop"
    )


def encode_target(tokenizer: Any, text: str) -> list[int]:
    """Token ids of an answer, with one EOS at the end."""
    eos = tokenizer.eos_token_id
    if eos is None:
        raise UsageError(f"The tokenizer of {tokenizer.name_or_path!r} has no EOS token: an answer could not end.")
    ids = [int(token) for token in tokenizer.encode(text, add_special_tokens=False)]
    return ids if ids and ids[-1] == eos else [*ids, eos]


def to_trajectory(made: Any, owner: str = "packer") -> Trajectory:
    """A packer's `sft_process_sample` as a trajectory.

    It returns one, or a mapping with `input_ids` (or `token_ids`) and `labels` (or `label_ids`) of the same length: not
    shifted, -100 at tokens that are not trained.
    """
    if isinstance(made, Trajectory):
        return made
    if isinstance(made, Mapping):
        tokens, labels = _column(made, "input_ids", "token_ids"), _column(made, "labels", "label_ids")
        if tokens is not None and labels is not None and len(tokens) == len(labels):
            return Trajectory(_segments(tokens, labels))
    raise PluginError(
        f"{owner}: sft_process_sample returned a {type(made).__name__}: {made!r:.80}. "
        "It must return a Trajectory, or a mapping with 'input_ids' and 'labels' of one length."
    )


def _find_target(item: Any) -> tuple[Any, Any] | None:
    """Prompt and target of a row; None where it has no target."""
    if isinstance(item, Mapping):
        for key in ("completion", "answer"):
            if item.get(key) is not None and _has_prompt(item):
                return prompt_of(item), item[key]
        return _find_target(prompt_of(item)) if _has_prompt(item) else None
    if is_messages(item) and item[-1]["role"] == "assistant" and len(item) > 1:
        return list(item[:-1]), item[-1].get("content")
    return None


def _has_prompt(item: Mapping[str, Any]) -> bool:
    return any(item.get(key) is not None for key in ("prompt", "messages", "prompt_token_ids"))


def _column(made: Mapping[str, Any], *names: str) -> list[int] | None:
    for name in names:
        if name in made:
            column = made[name]
            return [int(value) for value in (column.tolist() if hasattr(column, "tolist") else column)]
    return None


def _segments(tokens: Sequence[int], labels: Sequence[int]) -> list[Segment]:
    segments: list[Segment] = []
    for trained, run in groupby(zip(tokens, labels, strict=True), key=lambda pair: pair[1] != IGNORE_LABEL):
        context: SegmentKind = "observed" if segments else "prompt"
        segments.append(Segment("sampled" if trained else context, [token for token, _ in run]))
    return segments
