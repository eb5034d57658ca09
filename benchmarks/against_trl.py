"""Compare rlx with TRL's GRPOTrainer (transformers generate), the only other framework that trains GRPO on a CPU.

Both use the same model, prompts, completions per step, length limit, dtypes of weights and computation, and both cores.
Prints the completions per second of each and their ratio, for several runs in turn, and the median. The first step of
each run (warm-up) is not counted.

    python benchmarks/against_trl.py smollm2 [--dtype float32] [--runs 3] [--steps 4]
    python benchmarks/against_trl.py quickstart
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from runs import char_model, rlx_run, smollm2_model, threads


@dataclass(frozen=True)
class Case:
    """One comparison."""

    model: str
    prompts: str
    groups: int
    max_tokens: int
    ranks: int
    threads: int
    """Threads of each rlx process. TRL's only process uses both cores."""
    staleness: int
    """Overlap helps if one thread each is enough for engine and policy; otherwise they take turns on both cores."""
    steps: int


CASES = {
    "smollm2": Case("smollm2-135m", "messages", groups=4, max_tokens=64, ranks=1, threads=2, staleness=0, steps=4),
    "quickstart": Case("quickstart-1m", "sums", groups=32, max_tokens=6, ranks=1, threads=1, staleness=1, steps=40),
}
GROUP = 8


def model_folder(case: Case) -> str:
    return smollm2_model() if case.model.startswith("smollm2") else char_model(case.model)


def run_trl(case: Case, dtype: str, steps: int) -> list[float]:
    """Return the seconds of each step of a GRPOTrainer, except for the first."""
    import peer_task
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(2)
    seconds: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: object, **__: object) -> None:
            self.begun = time.perf_counter()

        def on_step_end(self, *_: object, **__: object) -> None:
            seconds.append(time.perf_counter() - self.begun)

    folder = model_folder(case)
    with tempfile.TemporaryDirectory() as out:
        config = GRPOConfig(
            output_dir=out,
            use_cpu=True,
            bf16=dtype == "bfloat16",
            max_steps=steps,
            per_device_train_batch_size=case.groups * GROUP,
            num_generations=GROUP,
            max_completion_length=case.max_tokens,
            learning_rate=1e-6,
            lr_scheduler_type="constant",
            logging_strategy="no",
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
            processing_class=AutoTokenizer.from_pretrained(folder, padding_side="left"),
            reward_funcs=peer_task.vowel_shares,
            args=config,
            train_dataset=Dataset.from_dict({"prompt": getattr(peer_task, case.prompts)()}),
            callbacks=[Clock()],
        ).train()
    return seconds[1:]


def run_rlx(case: Case, dtype: str, steps: int, staleness: int) -> list[float]:
    """Return the seconds of each step of `rlx run`, except for the first."""
    sets = {
        "run.steps": steps,
        "model.path": model_folder(case),
        "dataset.name": f"./peer_task.py:{case.prompts}",
        "rollout.max_tokens": case.max_tokens,
        "policy.groups_per_step": case.groups,
        "policy.dtype": dtype,
        "policy.parallel.dp_shard": case.ranks,
        "async.max_staleness": staleness,
        **threads(case.threads),
    }
    return [row["time/step"] for row in rlx_run(sets)]


def rate(case: Case, seconds: list[float]) -> float:
    """Return completions per second, by the median step."""
    return case.groups * GROUP / statistics.median(seconds)


def run_side(side: str, case_name: str, options: argparse.Namespace) -> float:
    """Run one side in a process of its own, so that neither warms up the other's caches; return its rate."""
    command = [sys.executable, __file__, case_name, "--side", side, "--dtype", options.dtype]
    command += ["--steps", str(options.steps), "--staleness", str(options.staleness)]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES, nargs="?", default="smollm2")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--staleness", type=int, default=None)
    parser.add_argument("--side", choices=["trl", "rlx"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    case = CASES[options.case]
    options.steps = options.steps or case.steps
    options.staleness = case.staleness if options.staleness is None else options.staleness
    if options.side == "trl":
        print(rate(case, run_trl(case, options.dtype, options.steps)))
        return
    if options.side == "rlx":
        print(rate(case, run_rlx(case, options.dtype, options.steps, options.staleness)))
        return
    completions = case.groups * GROUP
    print(f"{options.case}, {options.dtype}, {completions} completions per step of at most {case.max_tokens} tokens")
    ratios = []
    for _ in range(options.runs):
        rlx, trl = run_side("rlx", options.case, options), run_side("trl", options.case, options)
        ratios.append(rlx / trl)
        print(f"rlx {rlx:8.2f}  TRL {trl:8.2f} completions/s   ratio {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
