"""The changes that a resume makes to the config of its run: checked against the checkpoint, and kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from rlx.config.changes import changes, dump, effect, refusals
from rlx.config.schema import Config
from rlx.controller.records.checkpoint import load, version_of
from rlx.errors import UsageError
from rlx.files import write_atomic
from rlx.launch.run_dir import RunDir, newest_checkpoint, steps_done
from rlx.names import CHANGES_FILE, CHECKPOINTS, CONFIG_FILE


def check_steps(config: Config, checkpoint: Path) -> None:
    """Raise UsageError if the run is to end before the checkpoint that it continues from."""
    version = load(checkpoint).version
    if config.run.steps < version:
        raise UsageError(
            f"[run] steps = {config.run.steps}: the run has made {version} steps already, by its newest checkpoint, "
            f"and can't go back. `rlx export --step {config.run.steps}` writes an earlier version, if it was kept."
        )


def check_unchanged(config: Config, checkpoint: Path, source: str) -> None:
    """Raise UsageError if a key that a resume can't change differs from the config of the checkpoint.

    `--set` with `--resume RUN_DIR` is refused before; this is for a config.json that was edited, and for the config of
    `--resume auto`.

    source: the file that the config comes from.
    """
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
        what = f"{source} differs from the config of {place} in what a resumed run can't change:"
        advice = "Write the earlier values there again, or start a new run, in a directory of its own."
        raise UsageError("\n".join([what, *lines, advice]))


def resume_report(config: Config, run_dir: Path, source: str) -> list[str]:
    """Return lines that say where a resume with this config would go on, and what it would change.

    Raises UsageError if the resume would be refused.
    """
    lines: list[str] = []
    checkpoint = newest_checkpoint(run_dir, lines.append)
    if checkpoint is None:
        if steps_done(run_dir) is not None:
            raise UsageError(f"{run_dir} has no checkpoint to resume from, and its run is done.")
        lines.append("no checkpoint yet: starts over from step 0")
    else:
        check_steps(config, checkpoint)
        check_unchanged(config, checkpoint, source)
        place = f"{CHECKPOINTS}/{checkpoint.name}"
        lines.append(f"continues from {place}: step {version_of(checkpoint)} of {config.run.steps}")
    return [*lines, *_described(_found(run_dir, config))]


def _found(run_dir: Path, config: Config) -> dict[str, tuple[object, object]]:
    return changes(json.loads((run_dir / CONFIG_FILE).read_text()), dump(config))


def _described(found: Mapping[str, tuple[object, object]]) -> Iterator[str]:
    for key, (before, after) in found.items():
        yield f"changed: {key} from {json.dumps(before)} to {json.dumps(after)}: {effect(key)}"


def record_changes(run_dir: RunDir, config: Config, checkpoint: Path | None, say: Callable[[str], None]) -> None:
    """Add a line to changes.jsonl if `config` differs from the run's earlier one, which is still in config.json.

    Each change is also reported by `say`.
    """
    if checkpoint is None:
        return
    found = _found(run_dir.path, config)
    if not found:
        return
    line = {"time": time.time(), "step": load(checkpoint).version, "changes": found}
    file = run_dir.path / CHANGES_FILE
    earlier = file.read_text() if file.exists() else ""
    for text in _described(found):
        say(text)
    write_atomic(file, f"{earlier}{json.dumps(line)}\n")
