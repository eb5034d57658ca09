"""Converts an FP8 checkpoint to bfloat16: `python -m rlx_plugin_deepseek.dequantise FP8_FOLDER NEW_FOLDER`.

RL needs it: an engine that was started on FP8 weights can't load the trainer's bfloat16 weights.

Each file is converted into one file; memory holds that file and one tensor. The new folder is written under another
name and renamed when it is complete.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rlx import UsageError
from rlx_plugin_deepseek import fp8

INDEX = "model.safetensors.index.json"


def dequantise(source: Path, target: Path) -> None:
    """Convert the folder. Raises UsageError if the source isn't an FP8 checkpoint, or if the target exists."""
    config = _config(source)
    if target.exists():
        raise UsageError(f"{target} exists already.")
    files = sorted(source.glob("*.safetensors"))
    places = {name: file for file in files for name in _tensor_names(file)}
    if not any(name.endswith(fp8.SUFFIX) for name in places):
        raise UsageError(f"{source} holds no weights in FP8 blocks (X.weight_scale_inv).")
    unfinished = target.with_name(f"{target.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    block = fp8.block_size(SimpleNamespace(**config))
    for file in files:
        _convert(file, unfinished / file.name, places, block)
    _copy(source, unfinished, config)
    _write_index(unfinished)
    unfinished.rename(target)


def _config(source: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((source / "config.json").read_text())
    except OSError as error:
        raise UsageError(f"{source} has no config.json: {error}") from error
    if "quantization_config" not in config:
        raise UsageError(f"{source}/config.json has no quantization_config: it isn't an FP8 checkpoint.")
    return config


def _tensor_names(file: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return list(opened.keys())


def _convert(file: Path, target: Path, places: dict[str, Path], block: tuple[int, int]) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    def pairs() -> Iterator[tuple[str, Any]]:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                if name.endswith(fp8.SUFFIX):
                    continue
                yield name, opened.get_tensor(name)
                if name + fp8.SUFFIX in places:
                    yield name + fp8.SUFFIX, _tensor(places[name + fp8.SUFFIX], name + fp8.SUFFIX)

    save_file(dict(fp8.plain(pairs(), block)), target, metadata={"format": "pt"})


def _tensor(file: Path, name: str) -> Any:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return opened.get_tensor(name)


def _copy(source: Path, target: Path, config: dict[str, Any]) -> None:
    """Copy all files but the weights, and the config without its FP8 entries."""
    for file in source.iterdir():
        if file.is_file() and file.suffix != ".safetensors" and file.name != INDEX:
            shutil.copyfile(file, target / file.name)
    kept = {key: value for key, value in config.items() if key != "quantization_config"}
    (target / "config.json").write_text(json.dumps({**kept, "dtype": "bfloat16"}, indent=2))


def _write_index(folder: Path) -> None:
    files = sorted(folder.glob("*.safetensors"))
    places = {name: file.name for file in files for name in _tensor_names(file)}
    if len(files) > 1:
        size = sum(file.stat().st_size for file in files)
        (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": places}, indent=2))


def main() -> int:
    """Run the command; returns the exit code."""
    if len(sys.argv) != 3:
        sys.stderr.write("usage: python -m rlx_plugin_deepseek.dequantise FP8_FOLDER NEW_FOLDER\n")
        return 2
    try:
        dequantise(Path(sys.argv[1]), Path(sys.argv[2]))
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
