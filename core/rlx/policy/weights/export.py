"""Writes the policy as a Hugging Face folder.

Rules:

* The export is the source folder with other weights: same files, same tensor names, same dtypes (unless `rlx export`
  is asked for another dtype).
* Tensors that were quantised in the source are written in bfloat16, and config.json's quantisation entry is removed.
* One decoder layer is gathered, written and freed at a time. The folder is written under another name and renamed when
  it is complete.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from rlx.files import share_file
from rlx.policy.weights.full_weights import FullWeights
from rlx.policy.weights.hf_folder import INDEX, checkpoint_dtype, read_headers

if TYPE_CHECKING:
    from torch import Tensor

    from rlx.policy.model.built import Built

SHARD_BYTES = 5 * 1024**3
_COPIED = {".json", ".txt", ".model", ".jinja", ".py"}


@dataclass(frozen=True)
class ExportSource:
    """The folders that an export takes its other files from."""

    folder: Path
    """The model folder that training started from."""
    tokenizer: Path | None = None
    """The tokenizer's folder, if it isn't the model's own."""
    chat_template: str | None = None
    """Replaces the tokenizer's."""


def export(built: Built, path: Path, *, writes: bool, tokenizer: Path | None, chat_template: str | None) -> None:
    """Write the policy to `path`, replacing what is there. All ranks call it.

    writes: whether this rank writes the files; the others only take part in gathering. tokenizer: the tokenizer's
    folder, if it isn't the model's own. chat_template: replaces the tokenizer's.
    """
    tensors = in_source_dtypes(FullWeights(built, None).buckets(), built.folder)
    if writes:
        write_folder(path, tensors, ExportSource(built.folder, tokenizer, chat_template))
        return
    # Gathering is a collective: take part in it, and drop the tensors.
    for _ in tensors:
        pass


def write_folder(
    path: Path, tensors: Iterable[tuple[str, Tensor]], source: ExportSource, dtype: str | None = None
) -> None:
    """Write a Hugging Face folder with these tensors and the other files of `source`, replacing what is at `path`.

    dtype: that of the tensors, for config.json; None if they have those of the source's tensors.
    """
    unfinished = path.with_name(f"{path.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    write_shards(tensors, unfinished)
    _copy_files(source.folder, unfinished)
    _write_config(unfinished / "config.json", dtype)
    if source.tokenizer is not None:
        _copy_files(source.tokenizer, unfinished, skip={"config.json", "generation_config.json"})
    if source.chat_template is not None:
        (unfinished / "chat_template.jinja").write_text(source.chat_template)
    if path.exists():
        shutil.rmtree(path)
    unfinished.rename(path)


def _write_config(path: Path, dtype: str | None) -> None:
    """Remove the quantisation entry of a config.json, and write the dtype of the tensors into it."""
    config = json.loads(path.read_text())
    changed = config.pop("quantization_config", None) is not None
    if dtype is not None:
        # A model of several parts has a config for each.
        for part in [config, *(value for value in config.values() if isinstance(value, dict))]:
            for key in {"dtype", "torch_dtype"} & set(part):
                part[key] = dtype
        config["dtype"] = dtype
        config.pop("torch_dtype", None)  # the older name of the same key
        changed = True
    if changed:
        path.write_text(json.dumps(config, indent=2))


def write_shards(tensors: Iterable[tuple[str, Tensor]], folder: Path, limit: int = SHARD_BYTES) -> None:
    """Write safetensors files of at most `limit` bytes each, and an index if there are several.

    A tensor that is larger than the limit gets a file of its own.
    """
    from safetensors.torch import save_file

    written: list[list[str]] = []
    total = 0
    for shard in _split(tensors, limit):
        file = folder / f"part-{len(written)}"
        save_file(shard, file, metadata={"format": "pt"})
        share_file(file)  # safetensors makes files that only their owner may read
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


def in_source_dtypes(buckets: Iterable[Iterable[tuple[str, Tensor]]], folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors, each in its dtype in the source folder, or in bfloat16 if that is an FP8 type."""
    sources = {name: dtype for name, dtype, _ in read_headers(folder)}
    for bucket in buckets:
        for name, tensor in bucket:
            # A checkpoint of the decoder alone has its names without their first part.
            source = sources.get(name) or sources.get(name.partition(".")[2])
            if source is None:  # a tied tensor under its other name
                dtype = tensor.dtype
            else:
                dtype = torch.bfloat16 if source.startswith("F8_") else checkpoint_dtype(source)
            yield name, tensor.to(device="cpu", dtype=dtype).contiguous()


def _copy_files(source: Path, target: Path, skip: Iterable[str] = ()) -> None:
    for file in sorted(source.iterdir()):
        if file.is_file() and file.suffix in _COPIED and file.name not in {INDEX, *skip}:
            shutil.copyfile(file, target / file.name)
