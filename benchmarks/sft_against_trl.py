"""Supervised fine-tuning against TRL's SFTTrainer on a CPU: trained tokens per second, padding not counted.

Same model (SmolLM2-135M), rows in the same order, rows a step, optimizer, master and compute dtype, both cores. rlx is
the whole `rlx run`, timed by its own steps. The first step of each (warm-up) is not counted. TRL is asked to pad a
step's rows into one batch, or otherwise with --trl:

    padded        the step's rows in one batch (TRL's default, gradient checkpointing off as in rlx)
    single        one row at a time, gradients accumulated: nothing to pad
    padding_free  padding_free=True: the step's rows behind one another, under a block-diagonal mask
    packing       packing=True ("bfd"): rows packed into as many tokens as a step has on average

    python benchmarks/sft_against_trl.py [--trl padded] [--dtype float32] [--rows 8] [--steps 4] [--runs 3]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ragged import rows
from runs import rlx_run, smollm2_model, threads

CONFIG = Path(__file__).resolve().parent / "sft.toml"


def trl_options(options: argparse.Namespace) -> dict[str, Any]:
    packed = sum(len(row["input_ids"]) for row in rows()) * options.rows // len(rows())
    return {
        "padded": {"per_device_train_batch_size": options.rows},
        "single": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": options.rows},
        "padding_free": {"per_device_train_batch_size": options.rows, "padding_free": True, "max_length": None},
        "packing": {"per_device_train_batch_size": 1, "packing": True, "max_length": packed},
    }[options.trl]


def run_trl(options: argparse.Namespace) -> float:
    """Trained tokens per second of an SFTTrainer, the first step left out."""
    import torch
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(2)
    seconds: list[float] = []
    tokens: list[int] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: object, **__: object) -> None:
            tokens.append(0)
            self.begun = time.perf_counter()

        def on_step_end(self, *_: object, **__: object) -> None:
            seconds.append(time.perf_counter() - self.begun)

    class Counted(SFTTrainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            tokens[-1] += int((inputs["labels"][:, 1:] != -100).sum())
            return super().compute_loss(model, inputs, *args, **kwargs)

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return SequentialSampler(dataset if dataset is not None else self.train_dataset)

    folder = smollm2_model()
    with tempfile.TemporaryDirectory() as out:
        config = SFTConfig(
            output_dir=out,
            use_cpu=True,
            bf16=options.dtype == "bfloat16",
            gradient_checkpointing=False,
            max_steps=options.steps,
            learning_rate=1e-6,
            lr_scheduler_type="constant",
            logging_strategy="no",
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            **trl_options(options),
        )
        Counted(
            model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
            processing_class=AutoTokenizer.from_pretrained(folder),
            args=config,
            train_dataset=Dataset.from_list(rows()),
            callbacks=[Clock()],
        ).train()
    return sum(tokens[1:]) / sum(seconds[1:])


def run_rlx(options: argparse.Namespace) -> float:
    """The same of `rlx run`."""
    sets = {
        "run.steps": options.steps,
        "model.path": smollm2_model(),
        "policy.groups_per_step": options.rows,
        "policy.dtype": options.dtype,
        "policy.env": threads(2)["policy.env"],
    }
    steps = rlx_run(sets, CONFIG)
    return sum(step["tokens/trained"] for step in steps) / sum(step["time/step"] for step in steps)


def one_side(side: str, options: argparse.Namespace) -> float:
    """A side in a process of its own, so that neither warms the other's caches."""
    command = [sys.executable, __file__, "--side", side, "--trl", options.trl, "--dtype", options.dtype]
    command += ["--rows", str(options.rows), "--steps", str(options.steps)]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl", choices=["padded", "single", "padding_free", "packing"], default="padded")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rows", type=int, default=8, help="in a step")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--side", choices=["trl", "rlx"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side is not None:
        print((run_trl if options.side == "trl" else run_rlx)(options))
        return
    print(f"SmolLM2-135M, {options.dtype}, {options.rows} rows a step, TRL {options.trl}")
    ratios = []
    for _ in range(options.runs):
        rlx, trl = one_side("rlx", options), one_side("trl", options)
        ratios.append(rlx / trl)
        print(f"rlx {rlx:8.1f}  TRL {trl:8.1f} trained tokens/s   ratio {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
