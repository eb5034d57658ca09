"""`rlx init`: a commented config that fits a model, a dataset and a reward."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rlx.errors import UsageError
from rlx.files import write_atomic
from rlx.plugins.catalog import discover
from rlx.plugins.records import is_file, split_target
from rlx_cli.commands.guess import (
    HELD_OUT_ROWS,
    DataGuess,
    ModelGuess,
    guess_data,
    guess_model,
    guess_reward,
)
from rlx_cli.commands.toml_text import value_text

SCHEMA_FILE = "rlx.schema.json"
MOST_TOKENS = 512
"""Longest completion that is proposed."""


def init_command(model: str, dataset: str, reward: str | None, output: Path | None) -> None:
    """Print the config, or write it to `output` with its schema beside it.

    Raises UsageError if something isn't there, or if `output` exists.
    """
    catalog = discover()
    data = guess_data(dataset, catalog)
    named = guess_reward(reward, data, catalog)
    if output is not None:
        data = replace(data, name=_beside(output, data.name))
        named = named and _beside(output, named)
    text = "\n".join(config_lines(guess_model(model), data, named)) + "\n"
    if output is None:
        sys.stdout.write(text)
        return
    if output.exists():
        raise UsageError(f"{output} exists already, and rlx does not replace it. Name another file with --output.")
    schema = output.parent / SCHEMA_FILE
    try:
        if not schema.exists():
            from rlx_cli.schema import schema_text

            write_atomic(schema, schema_text(plugins=False))
        write_atomic(output, text)
    except OSError as error:
        raise UsageError(f"{output} can't be written: {error.strerror or error}.") from error
    sys.stdout.write(f"Wrote {output}. Next:\n\n    rlx check {output}\n    rlx run --config {output}\n")


def _beside(output: Path, name: str) -> str:
    """Return the name of a component as a config at `output` has it: a file is relative to the config's folder."""
    place, attribute = split_target(name)
    if not is_file(place) or Path(place).is_absolute():
        return name
    relative = os.path.relpath(place, output.parent)
    return f"{relative if relative.startswith('.') else f'./{relative}'}:{attribute}"


def config_lines(model: ModelGuess, data: DataGuess, reward: str | None) -> Iterator[str]:
    """Yield the lines of a config. Without a reward it is one for supervised fine-tuning."""
    yield f"#:schema ./{SCHEMA_FILE}"
    yield "# Every key, with its default: rlx schema. To check a file without a run: rlx check FILE."
    yield ""
    yield "[run]"
    yield f'name = "{"rl" if reward else "sft"}"           # the run directory is runs/<name>'
    yield "steps = 100           # optimizer updates; or epochs = 1"
    yield ""
    yield "[model]"
    yield f"path = {value_text(model.path)}"
    yield from _dataset(model, data)
    yield from _rewards(reward) if reward else _sft()
    yield from _rollout(model) if reward else ()
    yield ""
    yield "[policy]"
    yield f"groups_per_step = 16  # {'prompts' if reward else 'rows'} in one update"
    yield f'dtype = "{model.dtype}"{_dtype_note(model)}'
    yield ""
    yield "[policy.optimizer]"
    yield "lr = 1e-6             # a small model that starts from random weights takes 1e-3" if reward else "lr = 1e-5"
    yield from _evaluation(model, data, reward)
    yield ""
    yield "[checkpoint]"
    yield "every = 50            # to resume from: rlx run --resume runs/<name>"


def _dtype_note(model: ModelGuess) -> str:
    return "     # as the model's weights" if model.dtype == "float32" else ""


def _args(model: ModelGuess, data: DataGuess, split: str | None) -> dict[str, object]:
    args = dict(data.args)
    if split is not None:
        args["split"] = split
    if data.prompt is not None:
        args["prompt_column"] = data.prompt
    if data.answer is not None:
        args["reference_column"] = data.answer
    if data.text and model.has_template:
        args["chat"] = True
    if data.name in ("gsm8k", "countdown", "reasoning_gym", "math_dapo") and not model.has_template:
        args["chat"] = False
    return args


def _splits(data: DataGuess) -> tuple[str | None, str | None]:
    """Return the parts to train and to evaluate on; None if the dataset has no evaluation part that is known."""
    if data.name == "arithmetic":
        return "train", "eval"
    if data.rows is not None and data.rows >= HELD_OUT_ROWS:
        return "train[:95%]", "train[95%:]"
    return None, None


def _dataset(model: ModelGuess, data: DataGuess) -> Iterator[str]:
    yield ""
    yield "[dataset]"
    yield f"name = {value_text(data.name)}"
    if args := _args(model, data, _splits(data)[0]):
        yield ""
        yield "[dataset.args]"
        for key, value in args.items():
            yield f"{key} = {value_text(value)}"
    if data.columns:
        yield f"# Columns: {', '.join(map(value_text, data.columns))}"
    if data.columns and data.prompt is None:
        yield "# prompt_column = ...      # none of the columns has a usual name: choose one"
    if data.name == "hf" and not data.columns:
        yield '# split = "train"         # the columns were not looked up; `rlx check` lists them'
        yield "# prompt_column = ...      # default: prompt or messages"
        yield "# reference_column = ...   # the right answer, for the reward"


def _rewards(reward: str) -> Iterator[str]:
    yield ""
    yield "[[rewards]]"
    yield f"name = {value_text(reward)}          # rlx plugins show reward NAME: its options; rlx plugins: all of them"
    yield ""
    yield "[algorithm]"
    yield 'name = "grpo"'
    yield "group_size = 8        # completions of each prompt"


def _sft() -> Iterator[str]:
    yield ""
    yield "[algorithm]"
    yield 'name = "sft"          # the rows hold what is to be learnt'


def _rollout(model: ModelGuess) -> Iterator[str]:
    yield ""
    yield "[rollout]"
    room = MOST_TOKENS if model.context is None else max(1, min(MOST_TOKENS, model.context // 2))
    note = "" if model.context is None else f"; the model's context is {model.context}"
    yield f"max_tokens = {room}      # longest completion{note}"


def _evaluation(model: ModelGuess, data: DataGuess, reward: str | None) -> Iterator[str]:
    held_out = _splits(data)[1]
    yield ""
    if held_out is None:
        yield "# [eval]                # held-out rows, measured every 20 steps"
        yield "# every = 20"
        yield f"# dataset = {{ name = {value_text(data.name)}, args = {{ ... }} }}"
        return
    yield "[eval]"
    yield "every = 20"
    if reward:
        yield "limit = 64            # rows"
    yield f"dataset = {value_text({'name': data.name, 'args': _args(model, data, held_out)})}"
