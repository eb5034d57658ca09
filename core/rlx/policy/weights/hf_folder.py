"""Where a model comes from: a folder of safetensors, on disk or fetched from the Hub.

The rule of this part: weights are read from safetensors only. Other formats run code or cannot be read tensor by
tensor.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rlx.errors import UsageError
from rlx.plugins.resolve import model_hint

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from rlx.config.sections.model import ModelConfig

INDEX = "model.safetensors.index.json"
_DTYPES: Mapping[str, str] = MappingProxyType({
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
})  # fmt: skip
"""What safetensors calls a dtype -> what torch does."""
_HUB_PATTERNS = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.py"]


def model_folder(model: ModelConfig) -> Path:
    """The folder that `model.path` names, or a snapshot of what the Hub has under that name."""
    if Path(model.path).is_dir():
        return Path(model.path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model.path, revision=model.revision, allow_patterns=_HUB_PATTERNS))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise UsageError(f"model.path {model.path!r} is no folder, and the Hub does not give it: {error}") from error


def load_config(model: ModelConfig, folder: Path) -> Any:
    """The Hugging Face config of the model."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING, AutoConfig

    model_type = _model_type(folder)
    if model_type not in CONFIG_MAPPING and not model.trust_remote_code:
        what = model_hint(model_type) or "Install a plugin for it, or name one as [model] plugin."
        raise UsageError(
            f"model.path {model.path!r} is a model of the type {model_type!r}, which neither this transformers nor a "
            f"plugin that this run uses knows. {what}"
        )
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=model.trust_remote_code)
    except (OSError, ValueError, StrictDataclassError) as error:
        raise UsageError(f"model.path {model.path!r}: config.json cannot be read: {error}") from error


def _model_type(folder: Path) -> str:
    try:
        return str(json.loads((folder / "config.json").read_text()).get("model_type"))
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"{folder / 'config.json'} cannot be read: {error}") from error


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder. UsageError where there is none, or one of the index is missing."""
    index = folder / INDEX
    if index.is_file():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        names = sorted(path.name for path in folder.glob("*.safetensors"))
    if not names:
        raise UsageError(f"{folder} holds no safetensors weights. Convert the model with `save_pretrained` first.")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UsageError(f"{folder}: {INDEX} names files that are not there: {', '.join(missing)}")
    return [folder / name for name in names]


def read_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a model folder, one in memory at a time; numbered names in the order of their numbers."""
    return _each(folder, lambda file, name: file.get_tensor(name))


def read_dtypes(folder: Path) -> dict[str, str]:
    """Name -> dtype as safetensors writes it (`F32`, `BF16` ...), from the headers alone."""
    return dict(_each(folder, lambda file, name: str(file.get_slice(name).get_dtype())))


def read_shapes(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """As `read_tensors`, from the headers alone: tensors on `meta`."""
    import torch

    def meta(file: Any, name: str) -> Tensor:
        part = file.get_slice(name)
        dtype = part.get_dtype()
        if dtype not in _DTYPES:
            raise UsageError(f"{folder}: {name} has the dtype {dtype}, which rlx does not know.")
        return torch.empty(part.get_shape(), dtype=torch_dtype(dtype), device="meta")

    return _each(folder, meta)


def torch_dtype(name: str) -> torch.dtype:
    """The dtype that safetensors calls `name`."""
    import torch

    dtype: torch.dtype = getattr(torch, _DTYPES[name])
    return dtype


def _each(folder: Path, read: Callable[[Any, str], Any]) -> Iterator[tuple[str, Any]]:
    from safetensors import safe_open

    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            for name in sorted(file.keys(), key=natural):
                yield name, read(file, name)


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key by which `layers.2` comes before `layers.10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
