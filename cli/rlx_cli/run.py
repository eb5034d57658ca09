"""`rlx run`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rlx.config.load import LoadedConfig, load_config, load_resolved
from rlx.errors import UsageError
from rlx.launch.plan import RunPlan
from rlx.launch.preflight import Prepared, prepare
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
) -> int:
    """Returns the exit code; raises UsageError where nothing was started."""
    if resume is None:
        if config is None:
            raise UsageError("Say what to run: rlx run --config X.toml, or rlx run --resume RUN_DIR")
        loaded = load_config(config, sets, policy, rollout)
    else:
        _refuse_changes(config, run_dir, sets, policy, rollout)
        loaded = _earlier(resume)
    prepared = prepare(loaded)
    for note in prepared.notes:
        say_note(note)
    return _dry(prepared) if dry_run else _start(prepared, run_dir, resume)


def _start(prepared: Prepared, run_dir: Path | None, resume: Path | None) -> int:
    from rlx.launch.run import run

    plan = RunPlan(
        config=prepared.config,
        base_dir=prepared.base_dir,
        plugins=prepared.plugins,
        rollouts=prepared.rollouts,
        run_dir=run_dir,
        resume=resume,
        argv=tuple(sys.argv),
    )
    return run(plan)


def _dry(prepared: Prepared) -> int:
    sys.stdout.write(json.dumps(prepared.config.model_dump(by_alias=True, mode="json"), indent=2) + "\n")
    return 0


def _refuse_changes(
    config: Path | None, run_dir: Path | None, sets: Sequence[str], policy: int | None, rollout: int | None
) -> None:
    """A resumed run goes on as it was: a changed one would not be the same run."""
    given = {
        "--config": config,
        "--run-dir": run_dir,
        "--set": sets or None,
        "--policy": policy,
        "--rollout": rollout,
    }
    changed = [option for option, value in given.items() if value is not None]
    if changed:
        raise UsageError(f"--resume goes on with the run's own config and directory; leave out {', '.join(changed)}.")


def _earlier(run_dir: Path) -> LoadedConfig:
    config = run_dir / "config.json"
    if not config.is_file():
        raise UsageError(
            f"{run_dir} is no run directory: it has no config.json. --resume takes the one of an earlier run."
        )
    return load_resolved(config, _base_dir(run_dir))


def _base_dir(run_dir: Path) -> Path:
    """Where the run's `./file.py:name` are: its config's folder."""
    file = run_dir / "environment.json"
    try:
        environment = json.loads(file.read_text())
        return Path(environment["base_dir"])
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{file} does not say where the run was started: {error!r}") from error
