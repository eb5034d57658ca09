"""Writes the policy as a Hugging Face folder.

Rules:

* The export is the source folder with other weights: same files, same tensor names, same dtypes.
* Tensors that were quantised in the source are written in bfloat16, and config.json's quantisation entry is removed.
* One decoder layer is gathered, written and freed at a time. The folder is written under another name and renamed when
  it is complete.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from rlx.policy.weights.full_weights import FullWeights
from rlx.policy.weights.hf_folder import INDEX, checkpoint_dtype, read_headers

if TYPE_CHECKING:
    from torch import Tensor

    from rlx.policy.model.built import Built

SHARD_BYTES = 5 * 1024**3
_COPIED = {".json", ".txt", ".model", ".jinja", ".py"}


def export(built: Built, path: Path, *, writes: bool, tokenizer: Path | None, chat_template: str | None) -> None:
    """Write the policy to `path`, replacing what is there. All ranks call it.

    writes: whether this rank writes the files; the others only take part in gathering. tokenizer: the tokenizer's
    folder, if it isn't the model's own. chat_template: replaces the tokenizer's.
    """
    tensors = _export_tensors(built)
    if not writes:
        # Gathering is a collective: take part in it, and drop the tensors.
        for _ in tensors:
            pass
        return
    unfinished = path.with_name(f"{path.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    write_shards(tensors, unfinished)
    _copy_files(built.folder, unfinished)
    config = json.loads((unfinished / "config.json").read_text())
    if config.pop("quantization_config", None) is not None:
        (unfinished / "config.json").write_text(json.dumps(config, indent=2))
    if tokenizer is not None:
        _copy_files(tokenizer, unfinished, skip={"config.json", "generation_config.json"})
    if chat_template is not None:
        (unfinished / "chat_template.jinja").write_text(chat_template)
    if path.exists():
        shutil.rmtree(path)
    unfinished.rename(path)


def write_shards(tensors: Iterable[tuple[str, Tensor]], folder: Path, limit: int = SHARD_BYTES) -> None:
    """Write safetensors files of at most `limit` bytes each, and an index if there are several.

    A tensor that is larger than the limit gets a file of its own.
    """
    from safetensors.torch import save_file

    written: list[list[str]] = []
    total = 0
    for shard in _split(tensors, limit):
        save_file(shard, folder / f"part-{len(written)}", metadata={"format": "pt"})
        written.append(list(shard))
        total += sum(tensor.nbytes for tensor in shard.values())
    # The names contain the number of files, which is known only now.
    count = len(written)
    names = [f"model-{index + 1:05d}-of-{count:05d}.safetensors" for index in range(count)]
    names = ["model.safetensors"] if count == 1 else names
    for index, name in enumerate(names):
        (folder / f"part-{index}").rename(folder / name)
    if count > 1:
        weight_map = {key: name for name, keys in zip(names, written, strict=True) for key in keys}
        (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2))


def _split(tensors: Iterable[tuple[str, Tensor]], limit: int) -> Iterator[dict[str, Tensor]]:
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


def _export_tensors(built: Built) -> Iterator[tuple[str, Tensor]]:
    """Gather the tensors, each in its dtype in the source folder, or bfloat16 if that is an FP8 type."""
    sources = {name: dtype for name, dtype, _ in read_headers(built.folder)}
    for bucket in FullWeights(built, None).buckets():
        for name, tensor in bucket:
            source = sources.get(name)
            if source is None:  # a tied tensor under its other name
                dtype = tensor.dtype
            else:
                dtype = torch.bfloat16 if source.startswith("F8_") else checkpoint_dtype(source)
            yield name, tensor.to(device="cpu", dtype=dtype).contiguous()


def _copy_files(source: Path, target: Path, skip: Iterable[str] = ()) -> None:
    for file in sorted(source.iterdir()):
        if file.is_file() and file.suffix in _COPIED and file.name not in {INDEX, *skip}:
            shutil.copyfile(file, target / file.name)
