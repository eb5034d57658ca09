"""Finds out about a model, a dataset and a reward, so that `rlx init` can write a config that fits them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rlx.config.sections.model import ModelConfig
from rlx.errors import UsageError, did_you_mean, first_line
from rlx.plugins.catalog import Catalog
from rlx.plugins.records import is_file, split_target
from rlx.preflight.checks.model_facts import model_facts

PROMPT_COLUMNS = ("messages", "prompt", "question", "problem", "instruction", "query", "input", "text")
ANSWER_COLUMNS = ("answer", "reference", "ground_truth", "solution", "target", "label", "output", "response")
"""Names of columns, the most usual first."""
HELD_OUT_ROWS = 40
"""A file with fewer rows is not split: its evaluation would be noise."""
READ_ROWS = 8
_ENDINGS = {".jsonl": "jsonl", ".parquet": "parquet", ".json": "hf", ".csv": "hf", ".tsv": "hf", ".ndjson": "hf"}
_PACKED = {".gz", ".bz2", ".xz"}
BUILT_IN_REWARDS: Mapping[str, str] = MappingProxyType(
    {
        "arithmetic": "exact_match",
        "gsm8k": "gsm8k",
        "countdown": "countdown",
        "reasoning_gym": "reasoning_gym",
        "math_dapo": "math",
    }
)
"""Dataset -> the reward for its answers."""


@dataclass(frozen=True)
class ModelGuess:
    """A model, as far as its files say."""

    path: str
    context: int | None = None
    dtype: str = "bfloat16"
    has_template: bool = True


@dataclass(frozen=True)
class DataGuess:
    """A dataset: the component that reads it, and its options."""

    name: str
    args: dict[str, object] = field(default_factory=dict)
    columns: Sequence[str] = ()
    """Those of a file; empty if they are not known."""
    prompt: str | None = None
    answer: str | None = None
    rows: int | None = None
    targets: bool = False
    """Whether rows hold what is to be learnt by heart: a completion, or the assistant's turn."""
    text: bool = False
    """Whether prompts are text, and not chat messages."""


def guess_model(path: str) -> ModelGuess:
    """Read a model's folder. A name on the Hub is not looked up. Raises UsageError if a folder isn't a model."""
    folder = Path(path)
    if not folder.is_dir():
        if path.startswith((".", "/", "~")) or path.count("/") > 1:
            raise UsageError(f"--model {path}: the folder does not exist, in {Path.cwd()}.")
        return ModelGuess(path)
    facts = model_facts(ModelConfig(path=path))
    config = json.loads((folder / "config.json").read_text())
    dtype = config.get("dtype", config.get("torch_dtype"))
    return ModelGuess(path, facts.context, "float32" if dtype == "float32" else "bfloat16", _has_template(folder))


def _has_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    file = folder / "tokenizer_config.json"
    return file.is_file() and "chat_template" in json.loads(file.read_text())


def guess_data(word: str, catalog: Catalog) -> DataGuess:
    """Return how a config names a dataset: a file, the name of a plugin, `./file.py:name`, or a name on the Hub.

    Raises UsageError if it is none of these, or a file that can't be read.
    """
    path = Path(word)
    if is_file(split_target(word)[0]) or word in catalog.names("datasets"):
        return DataGuess(word)
    if path.exists():
        return _guess_files(path)
    if word.startswith((".", "/", "~")) or _ending(path) or word.count("/") > 1:
        raise UsageError(f"--dataset {word}: it does not exist, in {Path.cwd()}.")
    if "/" in word:
        return DataGuess("hf", {"path": word})
    raise UsageError(
        f"--dataset {word}: it is neither a file, nor a dataset of an installed plugin "
        f"({', '.join(catalog.names('datasets'))}), nor a name on the Hub (owner/name)."
    )


def _ending(path: Path) -> str:
    found = [suffix for suffix in path.suffixes if suffix not in _PACKED]
    return _ENDINGS.get(found[-1].lower(), "") if found else ""


def _guess_files(path: Path) -> DataGuess:
    """Read the columns and first rows of a file, or of the first file of a folder."""
    from rlx_datasets.load import load_rows

    file = path if path.is_file() else _first_file(path)
    name = _ending(file) if file is not None else ""
    if file is None or not name:
        raise UsageError(
            f"--dataset {path}: rlx reads files that end with {', '.join(_ENDINGS)}, and folders of these."
        )
    try:
        rows = load_rows(str(file))
        head = [rows[index] for index in range(min(READ_ROWS, len(rows)))]
    except Exception as error:  # the boundary to the readers of files, whose errors have no common base
        raise UsageError(f"--dataset {path}: {file} can't be read: {first_line(error)}") from error
    if not head:
        raise UsageError(f"--dataset {path}: {file} has no row.")
    return _guess_columns(name, str(path), rows.column_names, head, len(rows) if file == path else None)


def _first_file(folder: Path) -> Path | None:
    return min((file for file in folder.rglob("*") if file.is_file() and _ending(file)), default=None)


def _guess_columns(
    name: str, path: str, columns: Sequence[str], head: Sequence[Mapping[str, Any]], rows: int | None
) -> DataGuess:
    known = {column.lower(): column for column in columns}
    prompt = next((known[name] for name in PROMPT_COLUMNS if name in known), None)
    answer = next((known[name] for name in ANSWER_COLUMNS if name in known and known[name] != prompt), None)
    cells = [row.get(prompt) for row in head] if prompt is not None else []
    turns = [cell[-1] for cell in cells if isinstance(cell, list) and cell]
    answered = bool(turns) and all(isinstance(turn, Mapping) and turn.get("role") == "assistant" for turn in turns)
    return DataGuess(
        name,
        {"path": path},
        columns,
        prompt,
        answer,
        rows,
        targets=answered or "completion" in known,
        text=bool(cells) and all(isinstance(cell, str) for cell in cells),
    )


def guess_reward(word: str | None, data: DataGuess, catalog: Catalog) -> str | None:
    """Return the reward that a config names; None if the rows hold what is to be learnt.

    Raises UsageError if `word` is neither an installed reward nor an object of a file or module.
    """
    if word is None:
        own = BUILT_IN_REWARDS.get(data.name)
        return own or (None if data.targets and data.answer is None else "exact_match")
    place, attribute = split_target(word)
    if word in catalog.names("rewards") or any(entry.qualified == word for entry in catalog.of("rewards")):
        return word
    if is_file(word):
        raise UsageError(f"--reward {word}: say which function of the file, as in {word}:score.")
    if attribute and is_file(place) and not Path(place).is_file():
        raise UsageError(f"--reward {word}: the file {place} does not exist, in {Path.cwd()}.")
    if not attribute:
        names = catalog.names("rewards")
        raise UsageError(
            f"--reward {word}: no plugin offers it.{did_you_mean(word, names)} There are {', '.join(names)}."
        )
    return word
