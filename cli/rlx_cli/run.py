"""`rlx run`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rlx.errors import UsageError
from rlx.preflight.check import Prepared, prepare
from rlx.preflight.load import load_earlier, load_run
from rlx.preflight.plan import RunPlan
from rlx.script.runner import find_script
from rlx_cli.messages import say_note


def run_command(
    config: Path | None,
    sets: Sequence[str],
    policy: int | None,
    rollout: int | None,
    run_dir: Path | None,
    *,
    dry_run: bool,
    resume: Path | None,
    script: str | None = None,
    arguments: Sequence[str] = (),
) -> int:
    """Returns the exit code; raises UsageError where nothing was started."""
    if resume is None:
        if config is None:
            raise UsageError(_nothing_to_run(script))
        found = find_script(script, arguments, Path.cwd()) if script is not None else None
        loaded = load_run(config, sets, policy, rollout, script=found)
    else:
        _refuse_changes(config, run_dir, sets, policy, rollout, script)
        loaded = load_earlier(resume)
    prepared = prepare(loaded)
    for note in prepared.notes:
        say_note(note)
    return _dry(prepared) if dry_run else _start(prepared, run_dir, resume)


def _start(prepared: Prepared, run_dir: Path | None, resume: Path | None) -> int:
    from rlx.launch.run import run

    if prepared.facts.only_config or prepared.data is None:
        raise UsageError(
            f"[model] path {prepared.config.model.path!r} holds config.json alone, which is enough for `rlx check`. "
            "A run needs its weights and its tokenizer there, too."
        )
    plan = RunPlan(
        config=prepared.config,
        base_dir=prepared.base_dir,
        plugins=prepared.plugins,
        rollouts=prepared.rollouts,
        data=prepared.data,
        script=prepared.script,
    )
    return run(plan, run_dir=run_dir, resume=resume, argv=sys.argv)


def _nothing_to_run(script: str | None) -> str:
    hint = f" Did you mean --config {script}?" if script is not None and script.endswith(".toml") else ""
    return f"Say what to run: rlx run --config X.toml [SCRIPT.py], or rlx run --resume RUN_DIR.{hint}"


def _dry(prepared: Prepared) -> int:
    sys.stdout.write(json.dumps(prepared.config.model_dump(by_alias=True, mode="json"), indent=2) + "\n")
    return 0


def _refuse_changes(
    config: Path | None,
    run_dir: Path | None,
    sets: Sequence[str],
    policy: int | None,
    rollout: int | None,
    script: str | None,
) -> None:
    """A resumed run goes on as it was: a changed one would not be the same run."""
    given = {
        "--config": config,
        "--run-dir": run_dir,
        "--set": sets or None,
        "--policy": policy,
        "--rollout": rollout,
        "the launch script": script,
    }
    changed = [option for option, value in given.items() if value is not None]
    if changed:
        raise UsageError(f"--resume goes on with the run's own config and directory; leave out {', '.join(changed)}.")
