"""The quickstart: make a small model, warm it up with SFT, then improve it with GRPO. Called by `make quickstart`.

It calls `rlx run` with the two configs in this folder, as you would.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from rlx.testing.models import make_char_model

HERE = Path(__file__).resolve().parent
SHAPE = {"num_hidden_layers": 2, "initializer_range": 0.06}
"""410,000 parameters. The wide initial weights let so small a model learn addition faster."""


def rlx_run(config: str, run_dir: Path, *sets: str) -> dict[str, Any]:
    """Run one config into `run_dir` and return its summary; exits if the run failed."""
    shutil.rmtree(run_dir, ignore_errors=True)
    command = [sys.executable, "-m", "rlx_cli.main", "run", "--config", str(HERE / config), "--run-dir", str(run_dir)]
    for value in sets:
        command += ["--set", value]
    print(f"\n$ rlx {' '.join(command[3:])}", flush=True)
    code = subprocess.run(command, check=False).returncode
    if code != 0:
        sys.exit(code)
    summary: dict[str, Any] = json.loads((run_dir / "summary.json").read_text())
    return summary


def report(summary: dict[str, Any], run_dir: Path, sft_seconds: float) -> str:
    return f"""
Learned           held-out accuracy {summary["eval/accuracy_first"]:.3f} -> {summary["eval/accuracy_last"]:.3f} \
in {summary["steps"]} GRPO steps (sums that neither stage has seen, sampled at temperature 1)
Speed             {summary["seconds"]:.0f} s after {sft_seconds:.0f} s of SFT; \
{summary["time/step_median"]:.2f} s a step, {summary["tokens/generated_per_s"]:.0f} tokens/s sampled, \
{summary["tokens/trained_per_s"]:.0f} tokens/s trained
Weights verified  {summary["sync/logprob_diff_max"]:.1e} largest mean |trainer - engine| log-probability after a sync
Run directory     {run_dir}
Exported model    {run_dir / "export"}    (a Hugging Face folder: transformers and vLLM load it)
TensorBoard       {run_dir / "tensorboard"}
Trajectories      {run_dir / "trajectories"}    (Parquet, one file a step)

Next
  tensorboard --logdir {run_dir / "tensorboard"}
  rlx plugins      # what can be named in a config (rlx is in .venv/bin)
  rlx run --config {(HERE / "grpo.toml").relative_to(Path.cwd())} --set run.seed=1 --set async.max_staleness=1
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="for the model, SFT and RL")
    parser.add_argument("--dir", type=Path, default=Path("runs"), help="folder of the run directories")
    options = parser.parse_args()
    sft_dir, run_dir = options.dir / "quickstart-sft", options.dir / "quickstart"
    fresh = make_char_model(options.dir / "quickstart-model", seed=options.seed, **SHAPE)
    sft = rlx_run("sft.toml", sft_dir, f"model.path={fresh}", f"run.seed={options.seed}")
    summary = rlx_run("grpo.toml", run_dir, f"model.path={sft_dir / 'export'}", f"run.seed={options.seed}")
    print(report(summary, run_dir, sft["seconds"]))


if __name__ == "__main__":
    main()
