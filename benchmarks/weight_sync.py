"""What a weight sync costs, against a copy of the same bytes in memory: SmolLM2-135M, one policy rank, one engine.

Prints seconds and bytes a second of a whole sync, how long generation stood still (seconds, share of the step), and the
ratio to a memcpy of the same bytes by one thread, measured in the same minute. The goal is 3.

    python benchmarks/weight_sync.py [--dtype float32] [--runs 3] [--steps 5]
"""

from __future__ import annotations

import argparse
import statistics
import time

from runs import median, rlx_run, smollm2_model, threads


def memcpy_seconds(count: int) -> float:
    """Median of ten copies of `count` bytes between two buffers that are already there."""
    import torch

    torch.set_num_threads(1)
    source, target = (torch.zeros(count, dtype=torch.uint8) for _ in range(2))
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        target.copy_(source)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    ratios = []
    for _ in range(options.runs):
        rows = rlx_run(
            {
                "run.steps": options.steps,
                "model.path": smollm2_model(),
                "dataset.name": "./peer_task.py:messages",
                "rollout.max_tokens": 16,
                "policy.groups_per_step": 2,
                "policy.dtype": options.dtype,
                **threads(1),
            }
        )
        size, whole, paused = (median(rows, f"sync/{key}") for key in ("bytes", "seconds", "paused_seconds"))
        copy = memcpy_seconds(int(size))
        ratios.append(whole / copy)
        share = paused / median(rows, "time/step")
        print(
            f"{size / 1e6:.0f} MB in {whole:.3f} s ({size / whole / 1e9:.2f} GB/s); "
            f"generation stood still {paused:.3f} s "
            f"({share:.1%} of the step); memcpy {copy:.3f} s; ratio {ratios[-1]:.1f}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.1f}")


if __name__ == "__main__":
    main()
