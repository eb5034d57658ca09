"""Run for an hour, and check that nothing grows: memory and file handles of each process, and the time of a step.

A tiny model, k = 2, evaluations and checkpoints. The first fifth of the time is warm-up. After it, each process is flat
if a line through its memory rises by at most 5 % of its memory or 16 MiB, whichever is more, and if it never has more
than 4 file handles above those that it had in the first half. The median step of the last tenth may take 5 % longer
than that of the first tenth. Prints a table, with the slope of each process in MiB an hour; exits with 1 if anything is
not flat.

    python benchmarks/soak.py [--minutes 60]
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from runs import CONFIG, char_model, threads, toml

WARM_UP, MAX_GROWTH, MIN_BYTES, MORE_FILES, SLOWER = 0.2, 0.05, 16 * 2**20, 4, 1.05
SAMPLE_SECONDS = 2.0
EVERY = 50


@dataclass
class Samples:
    """Memory and file handles of one process over time."""

    name: str
    seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    """Bytes."""
    files: list[int] = field(default_factory=list)

    def after(self, begin: float) -> Samples:
        rows = [row for row in zip(self.seconds, self.memory, self.files, strict=True) if row[0] >= begin]
        return Samples(self.name, *([row[column] for row in rows] for column in range(3)))

    @property
    def slope(self) -> float:
        """Bytes a second, by least squares."""
        return statistics.linear_regression(self.seconds, self.memory).slope

    def problems(self) -> list[str]:
        growth = self.slope * (self.seconds[-1] - self.seconds[0])
        middle, found = len(self.files) // 2, []
        if growth > max(MAX_GROWTH * statistics.mean(self.memory), MIN_BYTES):
            found.append(f"{self.name}: its memory rose by {growth / 2**20:.0f} MiB")
        if max(self.files[middle:]) > max(self.files[:middle]) + MORE_FILES:
            found.append(f"{self.name}: its file handles rose to {max(self.files[middle:])}")
        return found


def settings(args: argparse.Namespace) -> Mapping[str, Any]:
    return {
        "run.steps": 1_000_000,
        "model.path": char_model("char-tiny", hidden_size=64, intermediate_size=128, num_hidden_layers=2),
        "dataset.name": "./peer_task.py:sums",
        "eval.dataset.name": "./peer_task.py:sums",
        "eval.every": EVERY,
        "eval.limit": 32,
        "checkpoint.every": EVERY,
        "checkpoint.keep": 2,
        "checkpoint.export": False,
        "policy.groups_per_step": args.groups,
        "policy.dtype": "float32",
        "async.max_staleness": 2,
        **threads(1),
    }


def watch(run: subprocess.Popen[bytes], seconds: float) -> dict[int, Samples]:
    """Sample all processes of the run until `seconds` have passed since its first step, or it has ended."""
    found: dict[int, Samples] = {}
    began, root = time.monotonic(), psutil.Process(run.pid)
    while run.poll() is None and time.monotonic() - began < seconds:
        for process in [root, *root.children(recursive=True)]:
            try:
                name, memory, files = _name(process), process.memory_info().rss, process.num_fds()
            except psutil.Error:  # it has just ended
                continue
            samples = found.setdefault(process.pid, Samples(name))
            samples.seconds.append(time.monotonic() - began)
            samples.memory.append(memory)
            samples.files.append(files)
        time.sleep(SAMPLE_SECONDS)
    return found


def _name(process: psutil.Process) -> str:
    words = process.cmdline() or [process.name()]
    known = next((words[index + 1] for index, word in enumerate(words[:-1]) if word == "-m"), Path(words[0]).name)
    role = words[words.index(known) + 1 :][:1] if known in words else []
    return " ".join([known, *role]).strip()


def step_problem(rows: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return a line about the time of steps, and what is wrong with it, or ""."""
    seconds = [row["time/step"] for row in rows if row["kind"] == "train"]
    seconds = seconds[int(len(seconds) * WARM_UP) :]
    tenth = max(1, len(seconds) // 10)
    first, last = statistics.median(seconds[:tenth]), statistics.median(seconds[-tenth:])
    line = f"{len(seconds)} steps: {first:.3f} s in the first tenth, {last:.3f} s in the last ({last / first - 1:+.1%})"
    return line, f"steps became slower: {last / first - 1:+.1%}" if last > SLOWER * first else ""


def soak(run_dir: Path, args: argparse.Namespace) -> list[str]:
    command = [sys.executable, "-m", "rlx_cli.main", "run", "--config", str(CONFIG), "--run-dir", str(run_dir)]
    for key, value in settings(args).items():
        command += ["--set", f"{key}={toml(value)}"]
    with subprocess.Popen(command, stdout=sys.stderr) as run:
        metrics = run_dir / "metrics.jsonl"
        while run.poll() is None and not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.5)
        found = watch(run, args.minutes * 60)
        if run.poll() is None:
            run.send_signal(signal.SIGINT)  # once: it finishes the step and saves
        code = run.wait(300)
    if code:
        return [f"the run ended with exit code {code}"]
    problems = []
    print(f"{'process':<40} {'MiB':>7} {'MiB/hour':>9} {'files':>6}")
    begin = WARM_UP * args.minutes * 60
    for whole in found.values():
        samples = whole.after(begin)
        if len(samples.seconds) < 10 or samples.seconds[-1] < 0.9 * args.minutes * 60:
            continue  # it did not live through the run
        mean, slope = statistics.mean(samples.memory) / 2**20, samples.slope * 3600 / 2**20
        print(f"{samples.name[:40]:<40} {mean:>7.0f} {slope:>+9.1f} {max(samples.files):>6}")
        problems += samples.problems()
    line, slower = step_problem([json.loads(text) for text in metrics.read_text().splitlines()])
    print(line)
    return [*problems, *([slower] if slower else [])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--groups", type=int, default=16, help="groups of a step")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rlx-soak-") as folder:
        problems = soak(Path(folder) / "run", args)
    print("\n".join(problems) or "flat")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
