"""`rlx models make-tiny`: a model to try things with, made in a second and without a network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rlx.errors import UsageError
from rlx.testing.models import make_tiny_model
from rlx.testing.tokenizer import CHAT_TEMPLATE

_SIZES = {
    "--layers": "num_hidden_layers",
    "--hidden": "hidden_size",
    "--heads": "num_attention_heads",
    "--context": "max_position_embeddings",
}


def make_tiny_command(folder: Path, *, architecture: str, chat: bool, seed: int, sizes: dict[str, int | None]) -> None:
    """Write the model, and print what it is. `sizes`: values of `--layers` and so on; None: the default.

    Raises UsageError if the folder isn't new or empty, or if no such model can be made.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} isn't an empty folder. Name another one.")
    shape = {_SIZES[option]: size for option, size in sizes.items() if size is not None}
    if "--heads" in sizes and sizes["--heads"] is not None:
        shape["num_key_value_heads"] = sizes["--heads"]
    # Else a bar of transformers, which is gone before it can be read.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    parameters = make_tiny_model(
        folder, architecture, seed=seed, chat_template=CHAT_TEMPLATE if chat else None, **shape
    )
    template = "with a chat template" if chat else "without a chat template: prompts are text"
    sys.stdout.write(
        f"{folder}: {architecture}, {parameters:,} random parameters, a tokenizer with one token per character "
        f"({template}).\nIn a config:\n\n[model]\npath = {str(folder)!r}\n"
    )
