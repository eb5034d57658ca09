"""The picture of a run at the top of the README: `python docs/picture.py runs/quickstart` writes docs/images/run.svg.

It replays the files of a finished run into the console's display, up to its last step, and saves the display as SVG.
"""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pyarrow.parquet as pq
from checks import ROOT
from rich.console import Console, Group

from rlx.loggers.base import RunStatus, Sample
from rlx.loggers.frame import View, frame

PICTURE = ROOT / "docs" / "images" / "run.svg"
WIDTH, HEIGHT = 132, 26
CURVES = ("reward/mean", "eval/accuracy")


def main(run_dir: Path) -> None:
    """Write the picture of the run in `run_dir`."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    config = json.loads((run_dir / "config.json").read_text())
    steps = config["run"]["steps"]
    train = [line for line in lines if line["kind"] == "train"]
    status = RunStatus("running", steps, steps, 0.0, "", {}, elapsed=lines[-1]["time"] - _started(run_dir))
    view = View(f"{config['run']['name']} in {run_dir}", status)
    for line in lines:
        view.metrics |= {name: value for name, value in line.items() if isinstance(value, float)}
        for name in CURVES:
            if name in line:
                view.history.setdefault(name, []).append(line[name])
    view.samples, view.sampled_at = [_sample(run_dir, train[-1]["step"])], f"step {steps}"
    console = Console(record=True, width=WIDTH, height=HEIGHT, file=io.StringIO(), force_terminal=True)
    console.print(Group(*frame(view, WIDTH, HEIGHT)))
    PICTURE.parent.mkdir(exist_ok=True)
    svg = console.export_svg(title="rlx run --config quickstart.toml")
    # The reader's own monospace font, in place of one that is fetched.
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    PICTURE.write_text(svg.replace("Fira Code", "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono'"))


def _started(run_dir: Path) -> float:
    """Return the time at which the run directory was made, in seconds since the epoch."""
    return (run_dir / "config.json").stat().st_mtime


def _sample(run_dir: Path, step: int) -> Sample:
    """Return a completion of that step with the highest reward."""
    rows = pq.read_table(run_dir / "trajectories" / f"step_{step:05}.parquet").to_pylist()
    best = max((row for row in rows if row["reward"] is not None), key=lambda row: row["reward"])
    return Sample(best["prompt"], best["completion"], best["reward"], reference=best.get("reference"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
