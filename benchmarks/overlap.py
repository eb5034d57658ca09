"""Measure overlap: the step time with k = 1 against the longer of generation and training, each measured alone.

Alone means in a synchronous run (k = 0), in which only one side computes at a time. There are one engine and one policy
rank with one thread each, on two cores. Prints the seconds of each run and the ratio
step(k = 1) / max(generation, training); the goal is 1.15.

    python benchmarks/overlap.py [--runs 3] [--steps 12]
"""

from __future__ import annotations

import argparse
import statistics

from runs import char_model, median, rlx_run, threads

SHAPE = {"hidden_size": 384, "intermediate_size": 1152, "num_hidden_layers": 6, "num_attention_heads": 6}


def run(staleness: int, steps: int) -> dict[str, float]:
    """Return the median seconds of a step, of generation and of training."""
    rows = rlx_run(
        {
            "run.steps": steps,
            "model.path": char_model("char-10m", **SHAPE),
            "dataset.name": "./peer_task.py:sums",
            "rollout.max_tokens": 48,
            "policy.groups_per_step": 16,
            "policy.dtype": "float32",
            "async.max_staleness": staleness,
            **threads(1),
        }
    )
    return {name: median(rows, f"time/{name}") for name in ("step", "generate", "train")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    ratios = []
    for _ in range(options.runs):
        alone, overlapped = run(0, options.steps), run(1, options.steps)
        ratios.append(overlapped["step"] / max(alone["generate"], alone["train"]))
        print(
            f"alone: generation {alone['generate']:.2f} s, training {alone['train']:.2f} s, "
            f"step {alone['step']:.2f} s; k = 1: step {overlapped['step']:.2f} s; ratio {ratios[-1]:.2f}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
