"""The changes that a resume makes to the config of its run: checked against the checkpoint, and kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from rlx.config.changes import changes, dump, effect, refusals
from rlx.config.schema import Config
from rlx.errors import UsageError
from rlx.files import write_atomic
from rlx.launch.run_dir import RunDir
from rlx.names import CHANGES_FILE, CHECKPOINTS, CONFIG_FILE


def check_steps(config: Config, checkpoint: Path) -> None:
    """Raise UsageError if the run is to end before the checkpoint that it continues from."""
    from rlx.controller.records.checkpoint import load

    version = load(checkpoint).version
    if config.run.steps < version:
        raise UsageError(
            f"[run] steps = {config.run.steps}: the run has made {version} steps already, by its newest checkpoint, "
            f"and can't go back. `rlx export --step {config.run.steps}` writes an earlier version, if it was kept."
        )


def check_unchanged(config: Config, checkpoint: Path) -> None:
    """Raise UsageError if a key that a resume can't change differs from the config of the checkpoint.

    `--set` is refused before; this is for a config.json that was edited.
    """
    from rlx.controller.records.checkpoint import load

    saved = load(checkpoint)
    if not saved.config:  # an earlier version of rlx wrote it
        return
    try:
        earlier = Config.model_validate(saved.config)
    except ValidationError as error:
        raise UsageError(f"The config in {checkpoint} can't be read: {error}") from error
    if refused := refusals(earlier, config):
        differ = changes(saved.config, dump(config))
        lines = [f"  {line} (it was {json.dumps(differ[line.split(':')[0]][0])})" for line in refused]
        place = f"{CHECKPOINTS}/{checkpoint.name}"
        what = f"{CONFIG_FILE} differs from the config of {place} in what a resumed run can't change:"
        advice = "Write the earlier values there again, or start a new run."
        raise UsageError("\n".join([what, *lines, advice]))


def record_changes(run_dir: RunDir, config: Config, checkpoint: Path | None, say: Callable[[str], None]) -> None:
    """Add a line to changes.jsonl if `config` differs from the run's earlier one, which is still in config.json.

    Each change is also reported by `say`.
    """
    from rlx.controller.records.checkpoint import load

    if checkpoint is None:
        return
    found = changes(json.loads((run_dir.path / CONFIG_FILE).read_text()), dump(config))
    if not found:
        return
    line = {"time": time.time(), "step": load(checkpoint).version, "changes": found}
    file = run_dir.path / CHANGES_FILE
    earlier = file.read_text() if file.exists() else ""
    for key, (before, after) in found.items():
        say(f"changed: {key} from {json.dumps(before)} to {json.dumps(after)}: {effect(key)}")
    write_atomic(file, f"{earlier}{json.dumps(line)}\n")
