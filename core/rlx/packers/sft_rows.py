"""Turn a dataset row into the trajectories that supervised fine-tuning trains on.

Rules:

* A row's target is where `rlx.packers.row_shapes` finds it; the target of a row without one is the dataset's reference
  answer. The turns of a conversation are found by `rlx.packers.chat_turns`.
* A trajectory is built as if the row had been sampled: the prompt as the engine would read it (the packer's
  `get_rollout_input`), then the target and an EOS, all of it trained.
* A packer with an `sft_process_sample` of its own decides otherwise. The batch that its own `sft_collate_fn` makes of
  the sample is read back: its labels may mask more tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from rlx.episodes import Trajectory, masked_tokens, single_turn
from rlx.errors import DatasetError, PluginError
from rlx.packers.batches import attribute_to, batch_rows, overrides, owner_of, to_list
from rlx.packers.chat_turns import conversation_trajectories, encode_target
from rlx.packers.messages import is_messages
from rlx.packers.prompt import prompt_token_ids
from rlx.packers.row_shapes import Completion, Conversation, check_text_only, has_prompt, has_target, training_row
from rlx.packers.thinking import behind_prompt, end_of
from rlx.plugins.signature import named

if TYPE_CHECKING:
    from rlx.packers.protocol import Packer, Sample
    from rlx.packers.tokenizer import Tokenizer

IGNORE_LABEL = -100
"""A label of this value is not trained on."""

SFT_COLUMNS = {"input_ids": ("input_ids", "token_ids"), "labels": ("labels", "label_ids")}
"""Columns of a processed sample and of a batch: name -> names that packers give it."""


def sft_trajectories(
    packer: Packer, item: object, reference: object, tokenizer: Tokenizer, *, where: str = ""
) -> list[Trajectory]:
    """Return the trajectories that SFT trains on for one row.

    `where` (`row 3 of dataset 'x'`) is put before the messages of errors. Raises DatasetError (no target in the row),
    UsageError (no chat template or EOS), PluginError (the packer's fault).
    """
    owner = owner_of(packer)
    with attribute_to(packer, where):
        row = with_target(item, reference)
        if not hasattr(packer, "sft_process_sample"):
            return target_trajectories(packer, row, tokenizer)
        samples = samples_of(packer.sft_process_sample(row))
        if overrides(packer, "sft_compute_max_len", "sft_collate_fn"):
            return _collated(packer, samples, tokenizer)
        return [to_trajectory(sample, owner) for sample in samples]


def has_trained_token(trajectory: Trajectory) -> bool:
    """Return whether SFT learns from a trajectory: nothing predicts its first token."""
    trained = [segment.learns for segment in trajectory.segments for _ in segment.tokens]
    return any(trained[1:])


def with_target(item: object, reference: object) -> object:
    """Return the item if it has a target (or a form that only its own packer knows), else the item with the reference
    as `completion`.
    """
    known = isinstance(item, str) or is_messages(item) or (isinstance(item, Mapping) and has_prompt(item))
    if not known or reference is None or has_target(item):
        return item
    return {**(item if isinstance(item, Mapping) else {"prompt": item}), "completion": reference}


def target_trajectories(packer: Packer, item: object, tokenizer: Tokenizer) -> list[Trajectory]:
    """Tokenise the prompts and targets of a row."""
    if not overrides(packer, "get_rollout_input"):
        check_text_only(item)
    row = training_row(item)
    match row.target:
        case Conversation():
            found = row.target
            return conversation_trajectories(packer, found.messages, tokenizer, first=found.first, extras=row.extras)
        case Completion(prompt, text):
            # A packer of its own gets text and messages as they are, unless the chat template needs more of the row.
            bare = (isinstance(prompt, str) or is_messages(prompt)) and not row.extras
            ids = prompt_token_ids(packer, prompt if bare else item, tokenizer)
            if isinstance(text, str) and is_messages(prompt):
                text = behind_prompt(end_of(tokenizer, ids), text)
            return [single_turn(ids, encode_target(tokenizer, text), finish_reason="stop")]
    raise DatasetError(
        "no target: give a last assistant message, 'completion', 'answer', or a reference answer (the option "
        "`reference_column` of datasets that have it)"
    )


def samples_of(made: Sample) -> list[Sample]:
    """Return the result of `sft_process_sample` as a list: of one sample, or of several trajectories."""
    several = isinstance(made, list) and made and all(isinstance(sample, Trajectory) for sample in made)
    return made if several else [made]


def to_trajectory(made: Sample, owner: str = "packer") -> Trajectory:
    """Convert a packer's processed sample to a trajectory.

    made: a trajectory, or a mapping with `input_ids` (or `token_ids`) and `labels` (or `label_ids`) of the same length:
    not shifted, -100 at tokens that are not trained.
    """
    if isinstance(made, Trajectory):
        return made
    if isinstance(made, Mapping):
        tokens, labels = (_column(made, names) for names in SFT_COLUMNS.values())
        if tokens is not None and labels is not None and len(tokens) == len(labels):
            return _labelled(tokens, labels, f"{owner}: sft_process_sample")
    raise PluginError(
        f"{owner}: sft_process_sample returned a {type(made).__name__}: {made!r:.80}. "
        "It must return a Trajectory, or a mapping with 'input_ids' and 'labels' of the same length."
    )


def pad_token_id(tokenizer: Tokenizer) -> int:
    """Return the id to pad with: the tokenizer's pad token, else its EOS, else 0. Padding is masked, so any will do."""
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    return int(pad if pad is not None else eos if eos is not None else 0)


def _collated(packer: Packer, samples: list[Sample], tokenizer: Tokenizer) -> list[Trajectory]:
    """Have the packer collate one row's samples, and read the batch back up to each sample's last trained token: the
    rest is padding, or has no more influence than padding.
    """
    collate, made_by = packer.sft_collate_fn, f"{owner_of(packer)}: sft_collate_fn"
    longest = packer.sft_compute_max_len(samples)
    options = {"pad_token_id": pad_token_id(tokenizer), "ignore_label_id": IGNORE_LABEL}
    known = named(collate)
    batch = collate(samples, longest, **{name: value for name, value in options.items() if name in known})
    trajectories = []
    for tokens, labels in batch_rows(batch, SFT_COLUMNS, len(samples), made_by):
        end = max((index + 1 for index, label in enumerate(labels) if label != IGNORE_LABEL), default=len(tokens))
        trajectories.append(_labelled(tokens[:end], labels[:end], made_by))
    return trajectories


def _labelled(tokens: list[int], labels: list[int], made_by: str) -> Trajectory:
    for index, (token, label) in enumerate(zip(tokens, labels, strict=True)):
        if label not in {IGNORE_LABEL, token}:
            raise PluginError(
                f"{made_by}: label {index} is {label}, and token {index} is {token}. A label is the token at its own "
                f"index (rlx shifts them), or {IGNORE_LABEL} if that token is not trained on."
            )
    return masked_tokens(tokens, [label != IGNORE_LABEL for label in labels])


def _column(made: Mapping[str, object], names: tuple[str, ...]) -> list[int] | None:
    """Return the first column of a sample that has one of `names`."""
    column = next((made[name] for name in names if name in made), None)
    return None if column is None else [int(value) for value in cast("Iterable[Any]", to_list(column))]
