"""A model's Hugging Face folder: finds it on disk or on the Hub, reads its config and its safetensors files.

Rule: weights are read from safetensors only. Other formats run code, or can't be read tensor by tensor.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol

from rlx.errors import UsageError
from rlx.plugins.resolve import model_hint

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PretrainedConfig

    from rlx.config.sections.model import ModelConfig

INDEX = "model.safetensors.index.json"
_DTYPES: Mapping[str, str] = MappingProxyType({
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
})  # fmt: skip
"""Name of a dtype in safetensors -> its name in torch."""
_HUB_PATTERNS = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.py"]


class _SafetensorsSlice(Protocol):
    """The methods of a tensor that hasn't been read yet."""

    def get_dtype(self) -> str: ...

    def get_shape(self) -> list[int]: ...


class _SafetensorsFile(Protocol):
    """The methods of safetensors' `safe_open` that are used here; its own have no annotations."""

    def keys(self) -> list[str]: ...

    def get_tensor(self, name: str) -> Tensor: ...

    def get_slice(self, name: str) -> _SafetensorsSlice: ...


def model_folder(model: ModelConfig) -> Path:
    """Return the folder that `model.path` names, or a snapshot of the Hub's model of that name."""
    if Path(model.path).is_dir():
        return Path(model.path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model.path, revision=model.revision, allow_patterns=_HUB_PATTERNS))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise UsageError(
            f"model.path {model.path!r} isn't a folder, and downloading it from the Hub failed: {error}"
        ) from error


def load_hf_config(model: ModelConfig, folder: Path) -> PretrainedConfig:
    """Return the Hugging Face config of the model. Raises UsageError if its type is unknown or it can't be read."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING, AutoConfig

    try:
        model_type = str(json.loads((folder / "config.json").read_text()).get("model_type"))
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"{folder / 'config.json'} cannot be read: {error}") from error
    if model_type not in CONFIG_MAPPING and not model.trust_remote_code:
        advice = model_hint(model_type) or "Install a plugin for it, or name one as [model] plugin."
        raise UsageError(
            f"model.path {model.path!r} has the model_type {model_type!r}, which neither the installed transformers "
            f"nor a plugin of this run supports. {advice}"
        )
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=model.trust_remote_code)
    except (OSError, ValueError, StrictDataclassError) as error:
        raise UsageError(f"model.path {model.path!r}: config.json cannot be read: {error}") from error


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a model folder.

    Raises UsageError if it has none, or if the index names missing files.
    """
    index = folder / INDEX
    if index.is_file():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        names = sorted(path.name for path in folder.glob("*.safetensors"))
    if not names:
        raise UsageError(f"{folder} holds no safetensors weights. Convert the model with `save_pretrained` first.")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UsageError(f"{folder}: {INDEX} names missing files: {', '.join(missing)}")
    return [folder / name for name in names]


def read_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of a model folder, one in memory at a time; `layers.2` comes before `layers.10`."""
    for file, name in _entries(folder, "pt"):
        yield name, file.get_tensor(name)


def read_headers(folder: Path) -> Iterator[tuple[str, str, list[int]]]:
    """Yield name, dtype as safetensors writes it (`F32`, `BF16` ...) and shape of every tensor, without torch.

    Raises UsageError if a file is missing or damaged.
    """
    for file, name in _entries(folder, "np"):
        entry = file.get_slice(name)
        yield name, entry.get_dtype(), entry.get_shape()


def read_meta_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor as a meta tensor, from the headers, in the order of `read_tensors`."""
    import torch

    for name, dtype, shape in read_headers(folder):
        if dtype not in _DTYPES:
            raise UsageError(f"{folder}: {name} has the dtype {dtype}, which rlx does not know.")
        yield name, torch.empty(shape, dtype=checkpoint_dtype(dtype), device="meta")


def checkpoint_dtype(name: str) -> torch.dtype:
    """Return the torch dtype that safetensors calls `name`."""
    import torch

    dtype: torch.dtype = getattr(torch, _DTYPES[name])
    return dtype


def _entries(folder: Path, framework: Literal["pt", "np"]) -> Iterator[tuple[_SafetensorsFile, str]]:
    """Yield each tensor's open file and name."""
    from safetensors import SafetensorError, safe_open

    for path in weight_files(folder):
        try:
            opened = safe_open(path, framework=framework)
        except SafetensorError as error:
            raise UsageError(f"{path} isn't a safetensors file, or is damaged: {error}") from error
        with opened as file:
            for name in sorted(file.keys(), key=natural_key):
                yield file, name


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key that orders numbers in names by value: `layers.2` before `layers.10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
