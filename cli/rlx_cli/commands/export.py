"""`rlx export`: a checkpoint of a run as a Hugging Face folder."""

from __future__ import annotations

import sys
from pathlib import Path

from rlx.earlier.export import export_run
from rlx_cli.messages import say_note


def export_command(run_dir: Path, *, step: str | None, dtype: str | None, to: Path | None) -> None:
    """Write the folder, and print where it is."""
    done = export_run(run_dir, step=step, dtype=dtype, to=to)
    for sentence in done.skipped:
        say_note(f"{sentence}. The one before is exported.")
    if step is None and done.best not in {None, done.step}:
        say_note(f"The best version of this run is that of step {done.best}: --step best exports it.")
    sys.stdout.write(f"{done.path} has the policy after {done.step} step{'' if done.step == 1 else 's'}\n")
