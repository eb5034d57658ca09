"""Compare a weight sync with a copy of the same bytes in memory: SmolLM2-135M, one policy rank, one engine.

Prints seconds and bytes per second of a whole sync, how long generation was paused (seconds, share of the step), and
the ratio to a memcpy of the same bytes by one thread, measured in the same minute. The goal is 3.

Then it measures two parts alone, with one thread per process: the transfer (packing into buffers, and sending to a
process that discards them), and oneDNN's packing of the same matrices, which vLLM's CPU engine does with every matrix
that it loads.

    python benchmarks/weight_sync.py [--dtype float32] [--runs 3] [--steps 5]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from rlx.sync import transfer_group
from rlx.sync.buckets import Manifest, receive_buckets, send_buckets, total_bytes
from rlx.transport.messages import TensorMeta
from runs import median, rlx_run, smollm2_model, threads

TIMES = 10
SECONDS = 60.0


def median_seconds(work: Callable[[int], object]) -> float:
    seconds = []
    for turn in range(TIMES):
        began = time.perf_counter()
        work(turn)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def memcpy_seconds(count: int) -> float:
    """Return the median seconds of a copy of `count` bytes between two existing buffers."""
    source, target = (torch.zeros(count, dtype=torch.uint8) for _ in range(2))
    return median_seconds(lambda _: target.copy_(source))


def manifest_of(model: str, dtype: str) -> Manifest:
    """Return the buckets that the policy sends: the tensors outside the layers first, then layer by layer."""
    header = read_header(Path(model) / "model.safetensors")
    buckets: dict[int, list[TensorMeta]] = {-1: []}
    for name, entry in header.items():
        layer = int(name.split(".")[2]) if name.startswith("model.layers.") else -1
        buckets.setdefault(layer, []).append(TensorMeta(name, dtype, entry["shape"]))
    return [buckets[layer] for layer in sorted(buckets)]


def read_header(path: Path) -> dict[str, dict[str, list[int]]]:
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def transfer_seconds(manifest: Manifest) -> float:
    _store, port = transfer_group.open_store("127.0.0.1", 2, SECONDS)
    receiver = multiprocessing.get_context("spawn").Process(target=discard, args=(port, manifest))
    receiver.start()
    group = transfer_group.join("127.0.0.1", port, 0, 2, "gloo", SECONDS)
    tensors = [[torch.ones(meta.shape, dtype=getattr(torch, meta.dtype)) for meta in bucket] for bucket in manifest]
    seconds = median_seconds(lambda version: send_buckets(group, version, manifest, tensors))
    receiver.join()
    return seconds


def discard(port: int, manifest: Manifest) -> None:
    torch.set_num_threads(1)
    group = transfer_group.join("127.0.0.1", port, 1, 2, "gloo", SECONDS)
    for version in range(TIMES):
        for _ in receive_buckets(group, version, manifest):
            pass


def packing_seconds(manifest: Manifest) -> float:
    from vllm import _custom_ops

    shapes = [meta for bucket in manifest for meta in bucket if len(meta.shape) == 2]
    matrices = [torch.ones(meta.shape, dtype=getattr(torch, meta.dtype)) for meta in shapes]

    def pack(_: int) -> None:
        for matrix in matrices:
            _custom_ops.create_onednn_mm(matrix.t(), 32)

    return median_seconds(pack)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ratios = [measure(options.dtype, options.steps) for _ in range(options.runs)]
    print(f"median ratio {statistics.median(ratios):.1f}", flush=True)
    manifest = manifest_of(smollm2_model(), options.dtype)
    sending, packing = transfer_seconds(manifest), packing_seconds(manifest)
    copy = memcpy_seconds(total_bytes(manifest))
    print(
        f"alone: the transfer {sending:.3f} s, {sending / copy:.1f} times a memcpy of {copy:.3f} s; "
        f"oneDNN's packing {packing:.3f} s, {packing / copy:.1f} times"
    )


def measure(dtype: str, steps: int) -> float:
    """Run once, print the measurements, and return the ratio to a memcpy."""
    rows = rlx_run(
        {
            "run.steps": steps,
            "model.path": smollm2_model(),
            "dataset.name": "./peer_task.py:messages",
            "rollout.max_tokens": 16,
            "policy.groups_per_step": 2,
            "policy.dtype": dtype,
            **threads(1),
        }
    )
    size, whole, paused = (median(rows, f"sync/{key}") for key in ("bytes", "seconds", "paused_seconds"))
    copy = memcpy_seconds(int(size))
    share = paused / median(rows, "time/step")
    print(
        f"{size / 1e6:.0f} MB in {whole:.3f} s ({size / whole / 1e9:.2f} GB/s); "
        f"generation was paused for {paused:.3f} s "
        f"({share:.1%} of the step); memcpy {copy:.3f} s; ratio {whole / copy:.1f}",
        flush=True,
    )
    return whole / copy


if __name__ == "__main__":
    main()
