"""The policy as a Hugging Face folder.

The rules of this part:

* The folder is the source folder with other weights: same files, same tensor names, same dtypes.
* What was quantised there is not here: it comes out in bfloat16, and config.json says nothing of quantisation.
* A decoder layer is gathered, written and forgotten at a time. The folder appears whole, by a rename.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from rlx.policy.weights.full_weights import Gatherer
from rlx.policy.weights.hf_folder import INDEX, read_dtypes, torch_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from rlx.policy.model.built import Built

SHARD_BYTES = 5 * 1024**3
_COPIED = {".json", ".txt", ".model", ".jinja", ".py"}


def export(built: Built, path: Path, *, leads: bool, tokenizer: Path | None, chat_template: str | None) -> None:
    """Write the policy to `path`, over what is there. All ranks call it; the one that `leads` writes.

    tokenizer: the folder of the tokenizer, where it is not the model's own. chat_template: one that replaces the
    tokenizer's.
    """
    tensors = _tensors(built)
    if not leads:
        for _ in tensors:
            pass
        return
    unfinished = path.with_name(f"{path.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    write_shards(tensors, unfinished)
    _copy_files(built.folder, unfinished)
    _forget_quantisation(unfinished / "config.json")
    if tokenizer is not None:
        _copy_files(tokenizer, unfinished, leave={"config.json", "generation_config.json"})
    if chat_template is not None:
        (unfinished / "chat_template.jinja").write_text(chat_template)
    if path.exists():
        shutil.rmtree(path)
    unfinished.rename(path)


def write_shards(tensors: Iterable[tuple[str, Tensor]], folder: Path, limit: int = SHARD_BYTES) -> None:
    """Safetensors files of at most `limit` bytes (a single larger tensor excepted), and an index where there are
    several.
    """
    from safetensors.torch import save_file

    written: list[list[str]] = []
    total = 0
    for shard in _shards(tensors, limit):
        save_file(shard, folder / f"part-{len(written)}", metadata={"format": "pt"})
        written.append(list(shard))
        total += sum(tensor.nbytes for tensor in shard.values())
    names = [_file_name(index, len(written)) for index in range(len(written))]
    for index, name in enumerate(names):
        (folder / f"part-{index}").rename(folder / name)
    if len(names) > 1:
        places = {key: name for name, keys in zip(names, written, strict=True) for key in keys}
        (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}, indent=2))


def _file_name(index: int, count: int) -> str:
    return "model.safetensors" if count == 1 else f"model-{index + 1:05d}-of-{count:05d}.safetensors"


def _shards(tensors: Iterable[tuple[str, Tensor]], limit: int) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors:
        if shard and size + tensor.nbytes > limit:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor
        size += tensor.nbytes
    if shard:
        yield shard


def _tensors(built: Built) -> Iterator[tuple[str, Tensor]]:
    dtypes = read_dtypes(built.folder)
    for bucket in Gatherer(built, None).tensors():
        for name, tensor in bucket:
            yield name, tensor.to(device="cpu", dtype=_written(dtypes.get(name), tensor)).contiguous()


def _written(source: str | None, tensor: Tensor) -> torch.dtype:
    """The dtype of a tensor that the source has in that dtype. None: a tied tensor under its other name."""
    if source is None:
        return tensor.dtype
    return torch.bfloat16 if source.startswith("F8_") else torch_dtype(source)


def _forget_quantisation(config: Path) -> None:
    said = json.loads(config.read_text())
    if said.pop("quantization_config", None) is not None:
        config.write_text(json.dumps(said, indent=2))


def _copy_files(source: Path, target: Path, leave: Iterable[str] = ()) -> None:
    for file in sorted(source.iterdir()):
        if file.is_file() and file.suffix in _COPIED and file.name not in {INDEX, *leave}:
            shutil.copyfile(file, target / file.name)
